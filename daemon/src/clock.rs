//! The wall clock, read in one place, and how far it can be trusted with deletions.
//!
//! Sessions are removed by age, and a wall clock may be set: by a user, by NTP after a boot with
//! an empty battery, by a restored virtual machine. Each cleanup therefore stores a sample of the
//! wall clock next to the boot time clock, which counts suspend and cannot be set. If the two
//! have advanced by different amounts between two samples, the clock was set, and nothing is
//! removed for a day of uptime. Otherwise an item is removed only if it was already due at a
//! sample taken at least an hour of uptime ago. Pure functions; knows no registry.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sessd_proto::Timestamp;

use crate::process;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A difference between the two clocks that drift does not explain: the wall clock was set.
const CLOCK_SET_MS: i64 = 5 * MINUTE_MS;

/// Uptime after the clock was set in which nothing is deleted.
const HOLD_MS: i64 = 24 * HOUR_MS;

/// Uptime between the two samples at which an item must have been due.
const AGREEMENT_MS: i64 = HOUR_MS;

/// Uptime between samples that are kept.
const SAMPLE_INTERVAL_MS: i64 = 10 * MINUTE_MS;

/// Returns the current time.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The wall clock next to the uptime, which cannot be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockSample {
    /// The wall clock.
    pub at: Timestamp,
    /// The kernel's id of the boot.
    pub boot_id: String,
    /// Time since that boot, suspend included, in milliseconds.
    pub uptime_ms: i64,
}

impl ClockSample {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        let uptime_ms = uptime.tv_sec * 1_000 + uptime.tv_nsec / 1_000_000;
        Self { at: now(), boot_id: process::boot_id(), uptime_ms }
    }

    /// True if this sample is worth keeping after an earlier one.
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
            // The machine was off in between, for an unknown time that is not negative.
            wall < later.uptime_ms - CLOCK_SET_MS
        }
    }
}

/// Why nothing may be deleted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The clock was set; so many milliseconds of uptime are left.
    ClockSet(i64),
    /// There is no sample that is at least an hour of uptime old.
    FirstSample,
}

/// Returns the latest time up to which expired items may be deleted: two samples at least an hour
/// of uptime apart must agree. `samples` are the earlier ones, oldest first.
///
/// # Errors
/// Fails if the clock was set within the last day of uptime, or if there is no sample old enough.
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

/// Returns the uptime in milliseconds that has passed from the first sample to the last; at least
/// that, as there may have been boots in between.
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

    /// A sample with a wall clock and an uptime in hours.
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
    fn deleted_items_were_due_an_hour_of_uptime_before() {
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
    fn clock_set_by_thirty_days_holds_for_a_day_of_uptime() {
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
    fn clock_set_back_again_starts_another_hold() {
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
    fn time_switched_off_does_not_count() {
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
    fn hold_lasts_across_boots() {
        let samples = [sample(1_000, "a", 5), sample(1_721, "a", 6)];
        assert_eq!(horizon(&samples, &sample(1_800, "b", 10)), Err(Hold::ClockSet(14 * HOUR_MS)));
        assert_eq!(horizon(&samples, &sample(1_800, "b", 24)), until(1_721));
    }

    #[test]
    fn daylight_saving_changes_nothing() {
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
