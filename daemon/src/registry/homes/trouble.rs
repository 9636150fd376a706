//! The trouble with homes, and its description for people. Knows neither sweeps nor sessions.

use std::path::Path;

use sessd_proto::Fault;
use sessd_proto::session::UnreadablePart;

use super::{Homes, State};
use crate::providers::Gap;

/// The most unreadable parts of homes that one response names.
const PARTS_MAX: usize = 100;

/// The trouble with a home: while it lasts, a session that is not shown is not gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Missing,
    Unreadable(String),
    Hung,
    Held { lost: usize, of: usize },
}

impl Homes {
    /// Returns why a session that a home does not show may be in it all the same, in words for
    /// people; `None` if the last sweep has seen the whole home.
    pub(crate) fn doubt(&self, home_id: i64) -> Option<String> {
        let State { trouble, gaps, .. } = self.state(home_id);
        trouble.map(|trouble| trouble.describe()).or_else(|| describe(&gaps))
    }

    /// Returns the parts of all homes that cannot be read now, at most 100.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn unreadable(&self) -> Result<Vec<UnreadablePart>, Fault> {
        let mut parts = Vec::new();
        for known in self.known().await? {
            let State { trouble, gaps, .. } = self.state(known.id);
            let part = |path: &Path, error: String| UnreadablePart {
                provider: known.provider.id().to_owned(),
                home: known.home.path.to_string_lossy().into_owned(),
                path: path.to_string_lossy().into_owned(),
                error,
            };
            let of_home = trouble.filter(|it| matches!(it, Trouble::Unreadable(_) | Trouble::Hung));
            parts.extend(of_home.map(|trouble| part(&known.home.path, trouble.describe())));
            let gaps = gaps.iter().take(PARTS_MAX);
            parts.extend(gaps.map(|gap| part(&gap.path, gap.error.clone())));
        }
        parts.truncate(PARTS_MAX);
        Ok(parts)
    }
}

impl Trouble {
    /// Describes the trouble in words for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Missing => "its store does not exist".to_owned(),
            Self::Unreadable(why) => format!("its store cannot be read: {why}"),
            Self::Hung => "it does not answer".to_owned(),
            Self::Held { lost, of } => format!(
                "{lost} of its {of} sessions disappeared at once; treating this as a problem \
                 with the disk, not as deletions"
            ),
        }
    }
}

/// Describes the parts of a home that cannot be read, in words for people; `None` without any.
fn describe(gaps: &[Gap]) -> Option<String> {
    let [first, others @ ..] = gaps else { return None };
    let first = format!("{}: {}", first.path.display(), first.error);
    let more = match others.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Some(format!("a part of its store cannot be read: {first}{more}"))
}
