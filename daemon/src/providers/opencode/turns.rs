//! Headless turns of the family.

use sessd_proto::{Event, LaunchPlan};

use super::{Brand, launch, stream};
use crate::providers::{Home, TurnSpec, Turns};

impl Turns for Brand {
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        Some(plan(self, home, spec))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}

pub(super) fn plan(brand: &Brand, home: &Home, spec: &TurnSpec) -> LaunchPlan {
    // Only the log says why the CLI tries again.
    let words = ["run", "--format=json", "--print-logs", "--log-level=ERROR"];
    let mut args = words.map(str::to_owned).to_vec();
    args.push(format!("--dir={}", spec.cwd));
    args.push(match &spec.resume {
        Some(bound) => launch::session(bound),
        // The title is then the beginning of the prompt; without this the model is asked for one.
        None => "--title=".to_owned(),
    });
    launch::plan(brand, home, &spec.cwd, args, &spec.launch)
}
