//! Headless turns of Cursor.

use sessd_proto::{Event, LaunchPlan};

use super::{Cursor, launch, stream};
use crate::providers::{Home, PromptVia, TurnSpec, Turns};

impl Turns for Cursor {
    fn prompt(&self) -> PromptVia {
        PromptVia::Argument
    }

    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => launch::resume(bound),
            (None, id) => launch::session_id(id.as_deref()?),
        };
        let args = vec!["--print".to_owned(), "--output-format=stream-json".to_owned(), session];
        Some(launch::plan(home, &spec.cwd, args, &spec.launch))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}
