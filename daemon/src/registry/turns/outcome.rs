//! Decides whether a turn succeeded, from the exit status and the decoded events. The fault of a
//! failed turn quotes the provider, and says whether and when trying again may help.

use sessd_proto::{Event, EventType, Fault, FaultCode, Session, Timestamp};

use crate::clock::now;
use crate::providers::Provider;
use crate::runner::{Cause, Ended};
use crate::store::sessions::Stored;

/// The advice for a failure of which nothing else is known.
const SEND_AGAIN: &str = "send the prompt again";

/// The hint of a turn that another session has answered.
const ELSEWHERE: &str = "what it has now: `sessctl list`";

/// The longest quotation of a provider in a fault, in characters.
const QUOTE_CHARS_MAX: usize = 1_000;

/// The events that decide whether a turn succeeded.
#[derive(Debug, Default)]
pub(crate) struct TurnSignals {
    result: bool,
    pub(crate) provider_session_id: Option<String>,
    failure: Option<Failure>,
    /// The cause of the last retry, as long as no answer followed.
    retried: Option<Failure>,
    /// When the provider's own rate limit ends.
    limited_until: Option<Timestamp>,
}

/// A failed call as its provider reported it.
#[derive(Clone, Debug, Default)]
struct Failure {
    said: Option<String>,
    http_status: Option<u64>,
    retryable: Option<bool>,
    retry_at: Option<Timestamp>,
}

impl TurnSignals {
    /// Notes the events that matter.
    pub(crate) fn note(&mut self, events: &[Event]) {
        for event in events {
            let data = &event.data.0;
            match event.kind {
                // A doubtful result may be an error text; it does not count after an error.
                EventType::Result => {
                    self.result = data["doubtful"] != true || self.failure.is_none()
                }
                EventType::Retry => self.retried = Some(Failure::of(event)),
                EventType::Text => self.retried = None,
                EventType::Error => self.failure = Some(Failure::of(event)),
                EventType::RateLimit => {
                    self.limited_until = data["until"].as_str().and_then(Timestamp::parse);
                }
                EventType::Started => {
                    let id = data["provider_session_id"].as_str();
                    self.provider_session_id = id.map(str::to_owned);
                }
                _ => {}
            }
        }
    }

    /// True once the provider has reported another session than the one asked for: some providers
    /// silently start a new one if they do not know the id.
    pub(crate) fn is_elsewhere(&self, row: &Stored) -> bool {
        let asked = &row.session.provider_session_id;
        self.provider_session_id.is_some() && asked.is_some() && self.provider_session_id != *asked
    }
}

impl Failure {
    fn of(event: &Event) -> Self {
        let data = &event.data.0;
        let after_ms = data["retry_after_ms"].as_i64();
        Self {
            said: event.text.clone(),
            http_status: data["http_status"].as_u64(),
            retryable: data["retryable"].as_bool(),
            retry_at: after_ms.map(|ms| event.at.plus_ms(ms)),
        }
    }

    /// The last reported failure, filled in from stderr where the event stream is silent.
    fn final_of(signals: &TurnSignals, provider: &dyn Provider, stderr: &str) -> Self {
        let explained = provider.turns().and_then(|turns| turns.explain(stderr));
        let explained = explained.map(|event| Self::of(&Event { at: now(), ..event }));
        let aside = explained.unwrap_or_else(|| Self {
            said: Some(stderr.to_owned()).filter(|said| !said.is_empty()),
            ..Self::default()
        });
        let said = signals.failure.clone().or_else(|| signals.retried.clone()).unwrap_or_default();
        Self {
            said: said.said.or(aside.said),
            http_status: said.http_status.or(aside.http_status),
            retryable: said.retryable.or(aside.retryable),
            retry_at: signals.limited_until.or(said.retry_at).or(aside.retry_at),
        }
    }

    fn fault(self, code: FaultCode, what: String, provider: &str) -> Fault {
        let said = self.said.as_deref().map(str::trim).unwrap_or_default();
        let cut: String = said.chars().take(QUOTE_CHARS_MAX).collect();
        let what = if cut.is_empty() { what } else { format!("{what}: {cut}") };
        let advice = self.advice(provider);
        let retryable = self.retryable.or(self.retry_at.map(|_| true));
        Fault { retryable, retry_at: self.retry_at, ..Fault::new(code, what) }.hint(advice)
    }

    /// Returns the end of the hint: the next step for the caller.
    fn advice(&self, provider: &str) -> String {
        match (self.retry_at, self.http_status, self.retryable) {
            (Some(at), ..) => format!("try again {}", when(at, now())),
            (_, Some(401 | 403), _) => format!(
                "the key or login was refused: log in with {provider} itself, or set its \
                 variables where you call sessctl"
            ),
            (_, Some(404), _) => "not found: check the model and the address".into(),
            (_, _, Some(true)) => "try again in a moment".into(),
            (_, _, Some(false)) => "the same prompt would fail again".into(),
            _ => SEND_AGAIN.into(),
        }
    }
}

/// Completes the hint of a failed turn with what the turn left in its session. Providers keep a
/// prompt that was not answered: sent again it would be there twice.
pub(crate) fn tell_what_is_left(fault: Fault, session: &Session, is_kept: bool) -> Fault {
    let advice = fault.hint.clone().unwrap_or_default();
    if advice == ELSEWHERE {
        return fault;
    }
    let hint = if is_kept {
        let rest = advice.strip_prefix(SEND_AGAIN).unwrap_or(&advice).trim_start_matches("; ");
        let end = if rest.is_empty() { String::new() } else { format!("; {rest}") };
        let short = session.short_id();
        format!("the prompt is in the session: `sessctl send {short} \"go on\"`{end}")
    } else if advice.is_empty() {
        "the session was not changed".to_owned()
    } else {
        format!("the session was not changed; {advice}")
    };
    fault.hint(hint)
}

fn when(at: Timestamp, now: Timestamp) -> String {
    match at.0.saturating_sub(now.0) {
        ..=0 => "now".to_owned(),
        ms @ ..=3_600_000 => format!("in {} s", ms.cast_unsigned().div_ceil(1_000)),
        _ => format!("at {at}"),
    }
}

/// Decides whether a turn succeeded: its exit code *and* its final event *and* its session id must
/// be right.
///
/// # Errors
/// Fails with `provider_failed`, or with `deadline` if the turn took too long.
pub(crate) fn judge(
    provider: &dyn Provider,
    row: &Stored,
    ended: &Ended,
    signals: &TurnSignals,
) -> Result<(), Fault> {
    let name = provider.id();
    let failure = || Failure::final_of(signals, provider, &ended.stderr);
    let failed = |what: String| Err(failure().fault(FaultCode::ProviderFailed, what, name));
    match (ended.cause, ended.status) {
        (Some(Cause::Deadline), _) => {
            let what = format!("{name} took too long and was ended");
            let fault = failure().fault(FaultCode::Deadline, what, name);
            let hint = fault.hint.clone().unwrap_or_default();
            Err(Fault { retryable: fault.retryable.or(Some(true)), ..fault }
                .hint(format!("{hint}; longer: --timeout, turns.deadline_s")))
        }
        (Some(Cause::Flood), _) => failed(format!("{name} printed too much and was ended")),
        (Some(Cause::Io | Cause::ReceiverGone | Cause::Stopped), _) => {
            failed(format!("{name} could not be read"))
        }
        (None, None) => failed(format!("{name} closed its output but did not end")),
        (None, Some(status)) if !status.success() => failed(format!("{name} failed: {status}")),
        (None, Some(_)) if !signals.result => failed(format!("{name} ended without a result")),
        (None, Some(_)) if signals.is_elsewhere(row) || signals.provider_session_id.is_none() => {
            Err(answered_by_another(row))
        }
        (None, Some(_)) => Ok(()),
    }
}

/// The fault of a turn that was answered in another session than the one asked for.
pub(crate) fn answered_by_another(row: &Stored) -> Fault {
    let what = format!("{} answered in another session", row.session.provider);
    Fault::new(FaultCode::ProviderFailed, what).hint(ELSEWHERE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_result_counts_unless_a_call_failed() {
        let event = |kind, data| Event { kind, data: sessd_proto::Json(data), ..Event::default() };
        let heard = |events: &[Event]| {
            let mut signals = TurnSignals::default();
            signals.note(events);
            signals.result
        };
        let error = event(EventType::Error, serde_json::json!({}));
        let doubtful = event(EventType::Result, serde_json::json!({ "doubtful": true }));
        assert!(heard(std::slice::from_ref(&doubtful)));
        assert!(!heard(&[error.clone(), doubtful]));
        assert!(heard(&[error, event(EventType::Result, serde_json::json!({}))]));
    }

    #[test]
    fn hint_says_if_the_prompt_is_in_the_session() {
        let session = Session { id: "0123456789".to_owned(), ..Session::default() };
        let hint = |advice: &str, is_kept: bool| {
            let fault = Fault::new(FaultCode::Deadline, "late").hint(advice);
            tell_what_is_left(fault, &session, is_kept).hint.unwrap()
        };
        assert_eq!(hint(SEND_AGAIN, false), "the session was not changed; send the prompt again");
        let go_on = format!(
            "the prompt is in the session: `sessctl send {} \"go on\"`",
            session.short_id()
        );
        assert_eq!(hint(SEND_AGAIN, true), go_on);
        assert_eq!(hint("try again in 3 s", true), format!("{go_on}; try again in 3 s"));
        let longer = hint("send the prompt again; longer: --timeout", true);
        assert_eq!(longer, format!("{go_on}; longer: --timeout"));
    }

    #[test]
    fn cause_of_a_retry_counts_until_an_answer_comes() {
        let event =
            |kind, text: &str| Event { kind, text: Some(text.to_owned()), ..Event::default() };
        let mut signals = TurnSignals::default();
        signals.note(&[event(EventType::Retry, "overloaded")]);
        assert_eq!(signals.retried.as_ref().unwrap().said.as_deref(), Some("overloaded"));
        signals.note(&[event(EventType::Text, "here I am")]);
        assert!(signals.retried.is_none());
    }

    #[test]
    fn retry_time_reads_well() {
        let at = |ms: i64| when(Timestamp(1_000 + ms), Timestamp(1_000));
        assert_eq!([at(-5), at(1), at(30_000)], ["now", "in 1 s", "in 30 s"]);
        assert_eq!(at(7_200_000), "at 1970-01-01T02:00:01.000Z");
    }
}
