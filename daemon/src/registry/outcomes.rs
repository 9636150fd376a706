//! What a turn came to: judged from how its process ended and from what it said. A failed turn
//! says what happened, in the provider's words, and whether and when trying again may help.

use sessd_proto::{Event, Fault, FaultCode, Timestamp};

use crate::clock::now;
use crate::providers::Provider;
use crate::runner::{Cause, Ended};
use crate::store::sessions::Stored;

/// The longest text of a provider in a fault, in characters.
const SAID_MAX: usize = 1_000;

/// What a turn's events said about its success.
#[derive(Debug, Default)]
pub(super) struct Heard {
    result: bool,
    pub(super) provider_session_id: Option<String>,
    failure: Option<Failure>,
    /// When the provider's own limit ends.
    limited_until: Option<Timestamp>,
}

/// What a provider said about a failed call.
#[derive(Clone, Debug, Default)]
struct Failure {
    said: Option<String>,
    http_status: Option<u64>,
    retryable: Option<bool>,
    retry_at: Option<Timestamp>,
}

impl Heard {
    pub(super) fn listen(&mut self, events: &[Event]) {
        for event in events {
            let data = &event.data.0;
            match &*event.kind {
                // What may be the words of a failed call is no answer where one has failed.
                "result" => self.result = data["doubtful"] != true || self.failure.is_none(),
                "error" => self.failure = Some(Failure::of(event)),
                "rate_limit" => {
                    self.limited_until = data["until"].as_str().and_then(Timestamp::parse);
                }
                "started" => {
                    let id = data["provider_session_id"].as_str();
                    self.provider_session_id = id.map(str::to_owned);
                }
                _ => {}
            }
        }
    }

    /// True once the provider has shown that it is in another session than the one asked for:
    /// some begin a new one in silence when they do not know it.
    pub(super) fn is_elsewhere(&self, row: &Stored) -> bool {
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

    /// What it said last of all, with what only its standard error says.
    fn final_of(heard: &Heard, provider: &dyn Provider, stderr: &str) -> Self {
        let explained = provider.explain(stderr);
        let explained = explained.map(|event| Self::of(&Event { at: now(), ..event }));
        let aside = explained.unwrap_or_else(|| Self {
            said: Some(stderr.to_owned()).filter(|said| !said.is_empty()),
            ..Self::default()
        });
        let said = heard.failure.clone().unwrap_or_default();
        Self {
            said: said.said.or(aside.said),
            http_status: said.http_status.or(aside.http_status),
            retryable: said.retryable.or(aside.retryable),
            retry_at: heard.limited_until.or(said.retry_at).or(aside.retry_at),
        }
    }

    fn fault(self, code: FaultCode, what: String, provider: &str) -> Fault {
        let said = self.said.as_deref().map(str::trim).unwrap_or_default();
        let cut: String = said.chars().take(SAID_MAX).collect();
        let what = if cut.is_empty() { what } else { format!("{what}: {cut}") };
        let todo = self.todo(provider);
        let retryable = self.retryable.or(self.retry_at.map(|_| true));
        Fault { retryable, retry_at: self.retry_at, ..Fault::new(code, what) }
            .hint(format!("the session is as it was; {todo}"))
    }

    fn todo(&self, provider: &str) -> String {
        match (self.retry_at, self.http_status, self.retryable) {
            (Some(at), ..) => format!("try again {}", when(at, now())),
            (_, Some(401 | 403), _) => format!(
                "the key or login was refused: log in with {provider} itself, or set its \
                 variables where you call sessctl"
            ),
            (_, Some(404), _) => "what was asked for is not there: see model and address".into(),
            (_, _, Some(true)) => "it may pass: try again in a moment".into(),
            (_, _, Some(false)) => "the same prompt would fail again".into(),
            _ => "send the prompt again".into(),
        }
    }
}

fn when(at: Timestamp, now: Timestamp) -> String {
    match at.0.saturating_sub(now.0) {
        ..=0 => "now".to_owned(),
        ms @ ..=3_600_000 => format!("in {} s", ms.cast_unsigned().div_ceil(1_000)),
        _ => format!("at {at}"),
    }
}

/// Success is the exit code *and* the final event *and* the same session id.
pub(super) fn judge(
    provider: &dyn Provider,
    row: &Stored,
    ended: &Ended,
    heard: &Heard,
) -> Result<(), Fault> {
    let name = provider.id();
    let failure = || Failure::final_of(heard, provider, &ended.stderr);
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
        (None, Some(_)) if !heard.result => failed(format!("{name} ended without a result")),
        (None, Some(_)) if heard.is_elsewhere(row) || heard.provider_session_id.is_none() => {
            Err(answered_by_another(row))
        }
        (None, Some(_)) => Ok(()),
    }
}

pub(super) fn answered_by_another(row: &Stored) -> Fault {
    let what = format!("{} answered in another session", row.session.provider);
    Fault::new(FaultCode::ProviderFailed, what).hint("what it has now: `sessctl list`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubtful_result_counts_where_no_call_has_failed() {
        let event = |kind: &str, data| Event {
            kind: kind.to_owned(),
            data: sessd_proto::Json(data),
            ..Event::default()
        };
        let heard = |events: &[Event]| {
            let mut heard = Heard::default();
            heard.listen(events);
            heard.result
        };
        let error = event("error", serde_json::json!({}));
        let doubtful = event("result", serde_json::json!({ "doubtful": true }));
        assert!(heard(std::slice::from_ref(&doubtful)));
        assert!(!heard(&[error.clone(), doubtful]));
        assert!(heard(&[error, event("result", serde_json::json!({}))]));
    }

    #[test]
    fn when_to_try_again_reads_well() {
        let at = |ms: i64| when(Timestamp(1_000 + ms), Timestamp(1_000));
        assert_eq!([at(-5), at(1), at(30_000)], ["now", "in 1 s", "in 30 s"]);
        assert_eq!(at(7_200_000), "at 1970-01-01T02:00:01.000Z");
    }
}
