//! Headless turns of Codex.

use sessd_proto::{Event, LaunchPlan};

use super::{Codex, flags, launch, stream};
use crate::providers::{Home, TurnSpec, Turns};

impl Turns for Codex {
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        Some(plan(home, spec, "resume"))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }
}

/// Returns the plan of a turn. `verb` says how a session of `spec` is continued: `resume` or
/// `fork`.
pub(super) fn plan(home: &Home, spec: &TurnSpec, verb: &str) -> LaunchPlan {
    let mut args = vec!["exec".to_owned()];
    args.extend(flags::profile(&spec.launch));
    args.extend(spec.resume.as_ref().map(|_| verb.to_owned()));
    args.extend(["--json", "--skip-git-repo-check"].map(str::to_owned));
    args.extend(flags::arguments(&spec.launch));
    args.extend(spec.resume.as_ref().and_then(launch::service));
    args.push("--".to_owned());
    args.extend(spec.resume.as_ref().map(|bound| bound.provider_session_id.clone()));
    // `-` stands for standard input.
    args.push("-".to_owned());
    launch::plan(home, &spec.cwd, args, &spec.launch)
}
