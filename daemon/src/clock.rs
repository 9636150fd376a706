//! The wall clock, read in one place, and how far it can be trusted with deletions.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sessd_proto::Timestamp;

use crate::process;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A difference between wall clock and uptime that no drift explains.
const SET_MS: i64 = 5 * MINUTE_MS;

/// Nothing is deleted for so much uptime after the clock was set.
const HOLD_MS: i64 = 24 * HOUR_MS;

/// What is deleted was due at two looks with so much uptime between them.
const APART_MS: i64 = HOUR_MS;

/// Looks that are closer tell nothing new.
const NEWS_MS: i64 = 10 * MINUTE_MS;

/// The present moment.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The wall clock beside the one clock that nobody can set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The wall clock.
    pub at: Timestamp,
    /// The boot.
    pub boot_id: String,
    /// Time since that boot, suspend included, in milliseconds.
    pub uptime_ms: i64,
}

impl Look {
    /// Both clocks now.
    #[must_use]
    pub fn now() -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        let uptime_ms = uptime.tv_sec * 1_000 + uptime.tv_nsec / 1_000_000;
        Self { at: now(), boot_id: process::boot_id(), uptime_ms }
    }

    /// True if it is worth remembering after an earlier one.
    #[must_use]
    pub fn tells_more_than(&self, earlier: &Self) -> bool {
        earlier.boot_id != self.boot_id
            || self.uptime_ms - earlier.uptime_ms >= NEWS_MS
            || earlier.was_set_before(self)
    }

    /// True if the wall clock was set between this look and a later one.
    fn was_set_before(&self, later: &Self) -> bool {
        let wall = later.at.0.saturating_sub(self.at.0);
        if self.boot_id == later.boot_id {
            wall.abs_diff(later.uptime_ms - self.uptime_ms) > SET_MS.unsigned_abs()
        } else {
            // How long the machine was off cannot be told, but not less than no time.
            wall < later.uptime_ms - SET_MS
        }
    }
}

/// Why nothing may be deleted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The clock was set; so many milliseconds of uptime are left.
    ClockSet(i64),
    /// Nobody has looked before, at least an hour of uptime ago.
    FirstLook,
}

/// What was due at this moment may be deleted: the wall clock of an earlier look, so that two
/// looks agree. `looks` are the earlier ones, oldest first.
///
/// # Errors
/// When the clock was set a short while ago, or there is no such look.
pub fn horizon(looks: &[Look], now: &Look) -> Result<Timestamp, Hold> {
    let all: Vec<&Look> = looks.iter().chain([now]).collect();
    let set = all.windows(2).rposition(|pair| pair[0].was_set_before(pair[1]));
    let since_set = set.map_or(0, |at| at + 1);
    let trusted = &all[since_set..];
    if set.is_some() {
        let left_ms = HOLD_MS - uptime_since(trusted);
        if left_ms > 0 {
            return Err(Hold::ClockSet(left_ms));
        }
    }
    let agreed = (0..trusted.len()).rfind(|at| uptime_since(&trusted[*at..]) >= APART_MS);
    Ok(agreed.map(|at| trusted[at].at).ok_or(Hold::FirstLook)?.min(now.at))
}

/// Uptime that is known to have passed from the first look to the last.
fn uptime_since(looks: &[&Look]) -> i64 {
    let step = |pair: &[&Look]| {
        let same_boot = pair[0].boot_id == pair[1].boot_id;
        pair[1].uptime_ms - if same_boot { pair[0].uptime_ms } else { 0 }
    };
    looks.windows(2).map(step).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * HOUR_MS;

    /// A look at a wall clock and an uptime in hours.
    fn look(wall: i64, boot: &str, uptime: i64) -> Look {
        Look {
            at: Timestamp(wall * HOUR_MS),
            boot_id: boot.to_owned(),
            uptime_ms: uptime * HOUR_MS,
        }
    }

    fn until(hours: i64) -> Result<Timestamp, Hold> {
        Ok(Timestamp(hours * HOUR_MS))
    }

    #[test]
    fn what_is_deleted_was_due_an_hour_of_uptime_before() {
        assert_eq!(horizon(&[], &look(100, "a", 5)), Err(Hold::FirstLook));
        let first = look(100, "a", 5);
        let mut soon = first.clone();
        soon.at.0 += HOUR_MS - 1;
        soon.uptime_ms += HOUR_MS - 1;
        assert_eq!(horizon(std::slice::from_ref(&first), &soon), Err(Hold::FirstLook));
        assert_eq!(horizon(std::slice::from_ref(&first), &look(101, "a", 6)), until(100));
        assert_eq!(horizon(&[first, look(101, "a", 6)], &look(102, "a", 7)), until(101));
    }

    #[test]
    fn a_clock_set_by_thirty_days_holds_everything_for_a_day_of_uptime() {
        for jump in [720, -720] {
            let before = look(1_000, "a", 5);
            let after = look(1_001 + jump, "a", 6);
            let held = Err(Hold::ClockSet(DAY_MS));
            assert_eq!(horizon(std::slice::from_ref(&before), &after), held);
            let later = look(1_024 + jump, "a", 29);
            let held = Err(Hold::ClockSet(HOUR_MS));
            assert_eq!(horizon(&[before.clone(), after.clone()], &later), held);
            let over = look(1_025 + jump, "a", 30);
            assert_eq!(horizon(&[before, after, later], &over), until(1_024 + jump));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_again_is_held_anew() {
        let looks = [look(1_000, "a", 5), look(1_721, "a", 6)];
        assert_eq!(horizon(&looks, &look(1_002, "a", 7)), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn suspend_and_an_adjusted_clock_are_nothing_special() {
        // Uptime counts suspend, so three days of it are three days on both clocks.
        assert_eq!(horizon(&[look(100, "a", 5)], &look(172, "a", 77)), until(100));
        let mut adjusted = look(101, "a", 6);
        adjusted.at.0 += SET_MS;
        assert_eq!(horizon(&[look(100, "a", 5)], &adjusted), until(100));
        adjusted.at.0 += 1;
        assert_eq!(horizon(&[look(100, "a", 5)], &adjusted), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn a_machine_that_was_off_counts_its_uptime_only() {
        let before = look(100, "a", 5);
        let mut early = look(2_000, "b", 0);
        early.uptime_ms = MINUTE_MS;
        let before = std::slice::from_ref(&before);
        assert_eq!(horizon(before, &early), Err(Hold::FirstLook));
        assert_eq!(horizon(before, &look(2_001, "b", 1)), until(100));
        // A clock that stood still, or lost its battery.
        assert_eq!(horizon(before, &look(100, "b", 1)), Err(Hold::ClockSet(DAY_MS)));
        assert_eq!(horizon(before, &look(-500_000, "b", 1)), Err(Hold::ClockSet(DAY_MS)));
    }

    #[test]
    fn a_hold_lasts_over_boots() {
        let looks = [look(1_000, "a", 5), look(1_721, "a", 6)];
        assert_eq!(horizon(&looks, &look(1_800, "b", 10)), Err(Hold::ClockSet(14 * HOUR_MS)));
        assert_eq!(horizon(&looks, &look(1_800, "b", 24)), until(1_721));
    }

    #[test]
    fn daylight_saving_does_not_exist_here() {
        // Both clocks count UTC.
        let at = |text| Timestamp::parse(text).unwrap();
        let before = Look { at: at("2026-10-25T00:30:00Z"), boot_id: "a".to_owned(), uptime_ms: 0 };
        let after =
            Look { at: at("2026-10-25T02:30:00Z"), uptime_ms: 2 * HOUR_MS, ..before.clone() };
        assert_eq!(horizon(std::slice::from_ref(&before), &after), Ok(before.at));
    }
}
