//! Headless turns of Qwen Code.

use sessd_proto::{Event, LaunchPlan};

use super::{Qwen, launch, stream};
use crate::providers::{Home, TurnSpec, Turns};

impl Turns for Qwen {
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => launch::resume(bound),
            (None, id) => launch::session_id(id.as_deref()?),
        };
        Some(headless(home, spec, vec![session]))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}

/// Returns the plan of a run without a terminal.
pub(super) fn headless(home: &Home, spec: &TurnSpec, session: Vec<String>) -> LaunchPlan {
    let mut args = vec!["--output-format=stream-json".to_owned()];
    args.extend(session);
    launch::plan(home, &spec.cwd, args, &spec.launch)
}
