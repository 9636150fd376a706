//! Headless turns of Gemini CLI.

use sessd_proto::{Event, LaunchPlan};

use super::{Gemini, launch, stream};
use crate::providers::{Home, TurnSpec, Turns};

impl Turns for Gemini {
    /// A process that continues a chat empties its file for a moment, and a process that starts
    /// then deletes every chat that it finds empty.
    fn max_concurrent(&self) -> usize {
        1
    }

    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => launch::resume(bound),
            (None, id) => launch::session_id(id.as_deref()?),
        };
        let args = vec!["--output-format=stream-json".to_owned(), session];
        Some(launch::plan(home, &spec.cwd, args, &spec.launch))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}
