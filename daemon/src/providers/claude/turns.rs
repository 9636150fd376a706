//! Headless turns of Claude Code.

use sessd_proto::{Event, LaunchPlan};

use super::{Claude, flags, launch, stream};
use crate::providers::{Home, Launch, TurnSpec, Turns};

/// The CLI's own retries would hide a failure for minutes; the deadline is ours. And if an answer
/// breaks off, the CLI would ask for it again without streaming, and print it after its own first
/// half.
const WITHOUT_RETRIES: [(&str, &str); 2] =
    [("CLAUDE_CODE_MAX_RETRIES", "0"), ("CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1")];

impl Turns for Claude {
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        Some(plan(home, spec))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }
}

pub(super) fn plan(home: &Home, spec: &TurnSpec) -> LaunchPlan {
    let session = match (&spec.resume, &spec.new_id) {
        (Some(bound), _) => Some(launch::resume(home, bound, &spec.cwd)),
        (None, id) => id.as_deref().map(launch::session_id),
    };
    headless(home, &spec.cwd, session.into_iter().collect(), &spec.launch)
}

/// Returns the plan of a run without a terminal.
pub(super) fn headless(home: &Home, cwd: &str, more: Vec<String>, launch: &Launch) -> LaunchPlan {
    let mut args: Vec<_> =
        ["-p", "--output-format=stream-json", "--verbose", "--include-partial-messages"]
            .map(str::to_owned)
            .into();
    args.extend(flags::headless(launch));
    args.extend(more);
    let mut plan = launch::plan(home, cwd, args, launch);
    let variables = WITHOUT_RETRIES.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    plan.env.extend(variables);
    plan
}
