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
        let args = vec!["--output-format=stream-json".to_owned(), session];
        Some(launch::plan(home, &spec.cwd, args, &spec.launch))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }
}
