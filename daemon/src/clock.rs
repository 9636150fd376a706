//! The wall clock, read in one place, and the time up to which deletions may trust it.
//!
//! Deleting by age is safe only if the clock is right, and a clock that was set ahead by a month
//! looks right when it is read once. So samples of wall clock and uptime are kept (see
//! `store/clock_samples.rs`): where the two advance by different amounts, the clock was set, and
//! nothing is deleted for a day of uptime. And what is deleted must have been due at two samples
//! that are an hour of uptime apart, so that a short mistake deletes nothing. Suspend counts as
//! uptime (`CLOCK_BOOTTIME`). Across boots only the new uptime is known to have passed.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sessd_proto::Timestamp;

use crate::process;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A difference between wall clock and uptime that no drift explains.
const CLOCK_SET_MS: i64 = 5 * MINUTE_MS;

/// Uptime without deletions after the clock was set.
const HOLD_MS: i64 = 24 * HOUR_MS;

/// Uptime between the two samples at which an item must have been due.
const AGREEMENT_MS: i64 = HOUR_MS;

/// Shortest uptime between two samples that are kept.
const SAMPLE_INTERVAL_MS: i64 = 10 * MINUTE_MS;

/// Returns the current time.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The wall clock, and the uptime at the same moment, which cannot be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockSample {
    /// The wall clock.
    pub at: Timestamp,
    /// The id of the boot.
    pub boot_id: String,
    /// Time since that boot, suspend included, in milliseconds.
    pub uptime_ms: i64,
}

impl ClockSample {
    /// Samples both clocks now.
    #[must_use]
    pub fn now() -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        let uptime_ms = uptime.tv_sec * 1_000 + uptime.tv_nsec / 1_000_000;
        Self { at: now(), boot_id: process::boot_id(), uptime_ms }
    }

    /// True if it should be kept although there is an earlier one.
    #[must_use]
    pub fn is_worth_keeping_after(&self, earlier: &Self) -> bool {
        earlier.boot_id != self.boot_id
            || self.uptime_ms - earlier.uptime_ms >= SAMPLE_INTERVAL_MS
            || earlier.was_set_before(self)
    }

    /// True if the wall clock was set between this sample and a later one.
    fn was_set_before(&self, later: &Self) -> bool {
        let wall = later.at.0.saturating_sub(self.at.0);
        if self.boot_id == later.boot_id {
            wall.abs_diff(later.uptime_ms - self.uptime_ms) > CLOCK_SET_MS.unsigned_abs()
        } else {
            // The machine was off for an unknown time, but the clock cannot have gone back.
            wall < later.uptime_ms - CLOCK_SET_MS
        }
    }
}

/// A reason for which nothing may be deleted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The clock was set; nothing is deleted for this many more milliseconds of uptime.
    ClockSet(i64),
    /// There is no earlier sample that is at least an hour of uptime old.
    FirstSample,
}

/// Returns the latest time up to which expired items may be deleted: two samples at least an
/// hour of uptime apart must agree. `samples` are the earlier ones, oldest first.
///
/// # Errors
/// [`Hold::ClockSet`] for a day of uptime after the clock was set, and [`Hold::FirstSample`] while
/// there is no earlier sample to agree with.
pub fn horizon(samples: &[ClockSample], now: &ClockSample) -> Result<Timestamp, Hold> {
    let all: Vec<&ClockSample> = samples.iter().chain([now]).collect();
    let set = all.windows(2).rposition(|pair| pair[0].was_set_before(pair[1]));
    let since_set = set.map_or(0, |at| at + 1);
    let trusted = &all[since_set..];
    if set.is_some() {
        let left_ms = HOLD_MS - uptime_since(trusted);
        if left_ms > 0 {
            return Err(Hold::ClockSet(left_ms));
        }
    }
    let agreed = (0..trusted.len()).rfind(|at| uptime_since(&trusted[*at..]) >= AGREEMENT_MS);
    Ok(agreed.map(|at| trusted[at].at).ok_or(Hold::FirstSample)?.min(now.at))
}

/// Returns the uptime that is known to have passed from the first sample to the last.
fn uptime_since(samples: &[&ClockSample]) -> i64 {
    let step = |pair: &[&ClockSample]| {
        let same_boot = pair[0].boot_id == pair[1].boot_id;
        pair[1].uptime_ms - if same_boot { pair[0].uptime_ms } else { 0 }
    };
    samples.windows(2).map(step).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * HOUR_MS;

    /// Returns a sample of a wall clock and an uptime in hours.
    fn sample(wall: i64, boot: &str, uptime: i64) -> ClockSample {
        ClockSample {
            at: Timestamp(wall * HOUR_MS),
            boot_id: boot.to_owned(),
            uptime_ms: uptime * HOUR_MS,
        }
    }

    fn until(hours: i64) -> Result<Timestamp, Hold> {
        Ok(Timestamp(hours * HOUR_MS))
    }

    #[test]
    fn a_deleted_item_was_due_an_hour_of_uptime_before() {
        assert_eq!(horizon(&[], &sample(100, "a", 5)), Err(Hold::FirstSample));
        let first = sample(100, "a", 5);
        let mut soon = first.clone();
        soon.at.0 += HOUR_MS - 1;
        soon.uptime_ms += HOUR_MS - 1;
        assert_eq!(horizon(std::slice::from_ref(&first), &soon), Err(Hold::FirstSample));
        assert_eq!(horizon(std::slice::from_ref(&first), &sample(101, "a", 6)), until(100));
        assert_eq!(horizon(&[first, sample(101, "a", 6)], &sample(102, "a", 7)), until(101));
    }

    #[test]
    fn a_clock_set_by_thirty_days_holds_for_a_day_of_uptime() {
        for jump in [720, -720] {
            let before = sample(1_000, "a", 5);
            let after = sample(1_001 + jump, "a", 6);
            let held = Err(Hold::ClockSet(DAY_MS));
            assert_eq!(horizon(std::slice::from_ref(&before), &after), held);
            let later = sample(1_024 + jump, "a", 29);
            let held = Err(Hold::ClockSet(HOUR_MS));
            assert_eq!(horizon(&[before.clone(), after.clone()], &later), held);
            let over = sample(1_025 + jump, "a", 30);
            assert_eq!(horizon(&[before, after, later], &over), until(1_024 + jump));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_starts_a_new_hold() {
        let samples = [sample(1_000, "a", 5), sample(1_721, "a", 6)];
        assert_eq!(horizon(&samples, &sample(1_002, "a", 7)), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn suspend_and_small_adjustments_do_not_hold() {
        // Uptime counts suspend, so three days of it are three days on both clocks.
        assert_eq!(horizon(&[sample(100, "a", 5)], &sample(172, "a", 77)), until(100));
        let mut adjusted = sample(101, "a", 6);
        adjusted.at.0 += CLOCK_SET_MS;
        assert_eq!(horizon(&[sample(100, "a", 5)], &adjusted), until(100));
        adjusted.at.0 += 1;
        assert_eq!(horizon(&[sample(100, "a", 5)], &adjusted), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn a_machine_that_was_off_counts_its_uptime_only() {
        let before = sample(100, "a", 5);
        let mut early = sample(2_000, "b", 0);
        early.uptime_ms = MINUTE_MS;
        let before = std::slice::from_ref(&before);
        assert_eq!(horizon(before, &early), Err(Hold::FirstSample));
        assert_eq!(horizon(before, &sample(2_001, "b", 1)), until(100));
        // A clock that stood still, or lost its battery.
        assert_eq!(horizon(before, &sample(100, "b", 1)), Err(Hold::ClockSet(DAY_MS)));
        assert_eq!(horizon(before, &sample(-500_000, "b", 1)), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn a_hold_lasts_over_boots() {
        let samples = [sample(1_000, "a", 5), sample(1_721, "a", 6)];
        assert_eq!(horizon(&samples, &sample(1_800, "b", 10)), Err(Hold::ClockSet(14 * HOUR_MS)));
        assert_eq!(horizon(&samples, &sample(1_800, "b", 24)), until(1_721));
    }

    #[test]
    fn daylight_saving_does_not_matter() {
        // Both clocks count UTC.
        let at = |text| Timestamp::parse(text).unwrap();
        let before =
            ClockSample { at: at("2026-10-25T00:30:00Z"), boot_id: "a".to_owned(), uptime_ms: 0 };
        let after = ClockSample {
            at: at("2026-10-25T02:30:00Z"),
            uptime_ms: 2 * HOUR_MS,
            ..before.clone()
        };
        assert_eq!(horizon(std::slice::from_ref(&before), &after), Ok(before.at));
    }
}
