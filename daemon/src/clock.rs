//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use sessd_proto::Timestamp;

/// The present moment.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
