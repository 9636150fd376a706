//! Promise: a call that fails changes neither a session's status nor what it is bound to, ends by
//! our deadline at the latest, and says what happened, what the provider said, and whether trying
//! again helps and when. Every failure is the model server's, every provider the real one.

use std::sync::{Mutex, PoisonError};
use std::{iter, thread};

use sessd_proto::{Fault, FaultCode, Session};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};

use crate::CURSOR;
use crate::scene::{QUICK, Scene, answer, fault, runs, show};

/// A failure, as the model server is told to have it, and what must come of it.
struct Case {
    directive: &'static str,
    /// One of these texts is in the message: the provider's own words.
    said: &'static [&'static str],
    retryable: Option<bool>,
    /// Seconds until the next try, where the provider shows what the service said.
    after_s: Option<i64>,
    /// The advice in the hint.
    todo: &'static str,
}

const fn case(
    directive: &'static str,
    said: &'static [&'static str],
    retryable: Option<bool>,
    todo: &'static str,
) -> Case {
    Case { directive, said, retryable, after_s: None, todo }
}

const LATER: &str = "try again in a moment";

/// Refusals that all of them report alike.
const REFUSED: [Case; 3] = [
    case("[[status 401]]", &["401"], Some(false), "the key or login was refused"),
    case("[[status 403]]", &["403"], Some(false), "the key or login was refused"),
    case(
        "[[status 404]]",
        &["404", "may not exist"],
        Some(false),
        "check the model and the address",
    ),
];

#[test]
fn failed_calls_of_claude_are_told_and_change_nothing() {
    let cases = [
        case("[[status 429]]", &["429"], Some(true), LATER),
        Case {
            after_s: Some(30),
            ..case("[[status 429]] [[retry 30]]", &["429"], Some(true), "try again in ")
        },
        case("[[status 500]]", &["500"], Some(true), LATER),
        case("[[status 529]]", &["529"], Some(true), LATER),
        case("[[broken reset]]", &["ECONNRESET"], Some(true), LATER),
        // Not asked for once more without a stream: the answer would follow its own first half.
        case("[[broken off]]", &["ECONNRESET"], Some(true), LATER),
        case(
            "[[broken garbage]]",
            &["without receiving any events"],
            None,
            "send the prompt again",
        ),
    ];
    fails(&Claude, &cases, &[HANGS]);
}

#[test]
fn failed_calls_of_codex_are_told_and_change_nothing() {
    let cases = [
        case("[[status 429]]", &["429"], Some(true), LATER),
        // It keeps to itself when to try again after 429.
        Case {
            after_s: Some(30),
            ..case("[[status 503]] [[retry 30]]", &["503"], Some(true), "try again in ")
        },
        case("[[status 500]]", &["high demand"], Some(true), LATER),
        case("[[status 529]]", &["529"], Some(true), LATER),
        case("[[broken reset]]", &["disconnected"], Some(true), LATER),
        case("[[broken off]]", &["disconnected"], Some(true), LATER),
        case("[[broken garbage]]", &["disconnected"], Some(true), LATER),
    ];
    fails(&Codex, &cases, &[HANGS]);
}

/// It tries again for minutes by itself, so that our deadline ends it.
#[test]
fn failed_calls_of_gemini_are_told_and_change_nothing() {
    let broken = [
        case("[[broken garbage]]", &["Incomplete JSON"], None, "send the prompt again"),
        case("[[broken off]]", &["without a finish reason"], None, "send the prompt again"),
    ];
    let cases = [
        case("[[status 429]]", &["failed with status 429: the model server"], Some(true), LATER),
        Case {
            after_s: Some(30),
            ..case("[[status 429]] [[retry 30]]", &["answers 429"], Some(true), "try again in ")
        },
        case("[[status 500]]", &["failed with status 500: the model server"], Some(true), LATER),
        case("[[status 529]]", &["failed with status 529: the model server"], Some(true), LATER),
        case("[[broken reset]]", &["fetch failed"], Some(true), LATER),
        HANGS,
    ];
    fails(&Gemini, &broken, &cases);
}

#[test]
fn failed_calls_of_qwen_are_told_and_change_nothing() {
    let cases = [
        case("[[broken off]]", &["terminated"], None, "send the prompt again"),
        case("[[broken garbage]]", &["non-SSE response"], None, "send the prompt again"),
    ];
    // It connects again for minutes after a reset.
    let reset = case("[[broken reset]]", TOO_LONG, Some(true), "longer: --timeout");
    fails_in_one(&Qwen, &cases, &[SILENT, reset]);
}

#[test]
fn failed_calls_of_opencode_are_told_and_change_nothing() {
    let said = &["the model server answers 429"];
    let tried_again = Case {
        after_s: Some(30),
        ..case("[[status 429]] [[retry 30]]", said, Some(true), "again in ")
    };
    fails_in_one(&OPENCODE, &[], &[tried_again]);
}

#[test]
fn failed_calls_of_kilo_are_told_and_change_nothing() {
    let said = &["without an assistant message"];
    let cases = [
        case("[[broken off]]", &["Connection reset"], Some(true), LATER),
        case("[[broken garbage]]", said, None, "send the prompt again"),
    ];
    fails_in_one(&KILO, &cases, &[SILENT]);
}

/// By the codes that our stand-in says as the real one does.
#[test]
fn failed_calls_of_cursor_are_told_and_change_nothing() {
    let cases = [
        case("[[status 429]]", &["429"], Some(true), LATER),
        case("[[status 500]]", &["500"], Some(true), LATER),
        case("[[status 529]]", &["529"], Some(true), LATER),
        case("[[broken reset]]", &["reset by peer"], Some(true), LATER),
        case("[[broken off]]", &["has broken off"], Some(true), LATER),
        case("[[broken garbage]]", &["[unknown]"], None, "send the prompt again"),
    ];
    fails_in_one(CURSOR, &cases, &[]);
}

/// Nothing was said, so nothing is known but that it took too long.
const HANGS: Case = case("[[sleep 600]]", TOO_LONG, Some(true), "longer: --timeout");

/// Tried again by a CLI that says nothing of that, or not soon.
const SILENT: Case = case("[[status 429]]", TOO_LONG, Some(true), "longer: --timeout");

const TOO_LONG: &[&str] = &["took too long and was ended"];

/// Machines that are busy at once: more starts of real programs take too long together.
const AT_ONCE: usize = 3;

/// Sends a prompt that fails for each of the cases, each on a machine of its own.
fn fails(cli: &'static dyn RealCli, by_itself: &[Case], by_deadline: &[Case]) {
    if !runs(cli, QUICK) {
        return;
    }
    let failed = by_itself.iter().chain(&REFUSED).map(|case| (case, FaultCode::ProviderFailed));
    let ended = by_deadline.iter().map(|case| (case, FaultCode::Deadline));
    // Those that only wait for their deadline begin first.
    let cases = Mutex::new(ended.chain(failed));
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
    // Its threads go by the name of the test, so that its time is known.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let run = || iter::from_fn(next).for_each(|(case, code)| fails_as(cli, case, code));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            thread::Builder::new().name(name.clone()).spawn_scoped(scope, run).unwrap();
        }
    });
}

/// The same on two machines, as these take long to start: what ends by itself on one, what waits
/// for its deadline on the other.
fn fails_in_one(cli: &'static dyn RealCli, by_itself: &[Case], by_deadline: &[Case]) {
    if !runs(cli, QUICK) {
        return;
    }
    let in_turn = |cases: &[&Case], code: FaultCode| {
        if cases.is_empty() {
            return;
        }
        let Some((scene, id)) = with_session(cli) else { return };
        cases.iter().for_each(|case| fails_in(&scene, &id, case, code));
    };
    let ended: Vec<_> = by_deadline.iter().collect();
    let failed: Vec<_> = by_itself.iter().chain(&REFUSED).collect();
    thread::scope(|scope| {
        scope.spawn(|| in_turn(&ended, FaultCode::Deadline));
        in_turn(&failed, FaultCode::ProviderFailed);
    });
}

fn fails_as(cli: &'static dyn RealCli, case: &Case, code: FaultCode) {
    if let Some((scene, id)) = with_session(cli) {
        fails_in(&scene, &id, case, code);
    }
}

/// Makes a machine, and a session on it with one turn.
fn with_session(cli: &'static dyn RealCli) -> Option<(Scene, String)> {
    let scene = Scene::of(cli)?;
    let project = scene.project.to_str().unwrap();
    let begin = ["send", "--new", scene.provider(), "--cwd", project, "alpha question"];
    let id = answer(&scene.sandbox, &begin)["session"]["id"].as_str().unwrap().to_owned();
    Some((scene, id))
}

fn fails_in(scene: &Scene, id: &str, case: &Case, code: FaultCode) {
    let Case { directive, said, retryable, after_s, todo } = case;
    let before = show(&scene.sandbox, id);
    let prompt = format!("beta {directive}");
    let status = i32::from(code.exit_code());
    let mut words = vec!["send", "--fallback", "new", id, &prompt];
    if code == FaultCode::Deadline {
        // Longer than any of them needs to say why, on a busy machine too.
        words.extend(["--timeout", if *said == TOO_LONG { "20s" } else { "40s" }]);
    }
    let told = fault(&scene.sandbox, &words, status);
    let Fault { message, hint, .. } = &told;
    let hint = hint.as_deref().unwrap_or_default();
    assert_eq!((told.code, told.retryable), (code, *retryable), "{directive}: {told:?}");
    assert!(said.iter().any(|said| message.contains(said)), "{directive}: {message}");
    // A CLI that has written the prompt down would have it twice if it were sent again.
    let is_in = hint.contains("the prompt is in the session: `sessctl send ");
    assert!(is_in || hint.contains("the session was not changed"), "{directive}: {hint}");
    let todo = if is_in && *todo == "send the prompt again" { "go on" } else { todo };
    assert!(hint.contains(todo), "{directive}: {hint}");
    let after = show(&scene.sandbox, id);
    match (told.retry_at, after_s) {
        (None, None) => {}
        // After the call, which was after what was said before it.
        (Some(at), Some(after_s)) => {
            assert!(at > before.last_activity.plus_ms(after_s * 1_000), "{directive}: {at}");
        }
        (at, after_s) => panic!("{directive}: {at:?}, not after {after_s:?} s"),
    }
    assert_eq!(kept(&after), kept(&before), "{directive}");
}

/// The fields that no failed call may change.
fn kept(session: &Session) -> impl PartialEq + std::fmt::Debug {
    let Session { id, status, reason, provider_session_id, launch_dir, trashed_at, .. } =
        session.clone();
    (id, status, reason, provider_session_id, launch_dir, trashed_at)
}
