//! Cron expressions: when a job is due. Pure functions of time; knows no job.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use sessd_proto::Timestamp;

/// A parsed cron expression.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

/// Parses a cron expression with seconds, in UTC, by the same rules as the scheduler.
///
/// # Errors
/// Fails with a reason to display if the expression is invalid.
pub fn parse(expression: &str) -> Result<Schedule, String> {
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    parser.parse(expression).map(Schedule).map_err(|error| error.to_string())
}

impl Schedule {
    /// Returns the first due time after `at`.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let found = self.0.find_next_occurrence(&utc(at)?, false).ok()?;
        Some(whole_second(found))
    }

    /// Returns the last due time at or before `at`.
    #[must_use]
    pub fn last_before(&self, at: Timestamp) -> Option<Timestamp> {
        let found = self.0.find_previous_occurrence(&utc(at)?, true).ok()?;
        Some(whole_second(found))
    }

    /// Returns the due time that was missed, if the job last ran for `last` and it is `now`. Of
    /// several runs missed during sleep or downtime only the last one counts.
    #[must_use]
    pub fn missed(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let due = self.last_before(now)?;
        last.is_none_or(|last| last < due).then_some(due)
    }
}

/// Cuts to whole seconds, since croner keeps the fraction of the time it was given.
fn whole_second(due: DateTime<Utc>) -> Timestamp {
    Timestamp(due.timestamp() * 1_000)
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn five_missed_runs_are_made_up_for_once() {
        let hourly = parse("0 0 * * * *").unwrap();
        let last = at("2026-11-21T03:00:00Z");
        let now = at("2026-11-21T08:30:00Z");
        assert_eq!(hourly.missed(Some(last), now), Some(at("2026-11-21T08:00:00Z")));
        assert_eq!(hourly.missed(hourly.missed(Some(last), now), now), None);
        assert_eq!(hourly.next_after(now), Some(at("2026-11-21T09:00:00Z")));
    }

    #[test]
    fn due_time_has_no_fraction() {
        let hourly = parse("0 0 * * * *").unwrap();
        let now = at("2026-11-21T08:30:00.123Z");
        assert_eq!(hourly.last_before(now), Some(at("2026-11-21T08:00:00Z")));
        assert_eq!(hourly.next_after(now), Some(at("2026-11-21T09:00:00Z")));
    }

    #[test]
    fn clock_set_back_misses_nothing() {
        let hourly = parse("0 0 * * * *").unwrap();
        let last = at("2026-12-21T08:00:00Z");
        assert_eq!(hourly.missed(Some(last), at("2026-11-21T08:30:00Z")), None);
    }

    #[test]
    fn words_are_refused() {
        parse("every hour").unwrap_err();
        parse("* * * * *").unwrap_err();
    }
}
