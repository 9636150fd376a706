//! Command lines of Codex for a terminal.

use std::path::Path;

use sessd_proto::{Environment, LaunchPlan};

use super::{Codex, flags, model_providers, other_servers, rollout, turns};
use crate::providers::{Accepts, Bound, Forks, Home, Launch, Launcher, Provider, TurnSpec};

/// A Codex daemon would keep the session locked after the user has left.
const NO_DAEMON: &str = "--no-daemon";

impl Launcher for Codex {
    fn resume_anywhere(&self) -> bool {
        true
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn refuses(&self, launch: &Launch, env: &Environment) -> Option<String> {
        flags::refuses(launch, self.environment(), env)
    }

    fn without_other_servers(&self, home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
        other_servers::switch_off(home, launch, plan);
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = interactive(&["resume", NO_DAEMON], launch);
        args.extend(service(bound));
        if let Some(cwd) = cwd {
            // Without it the CLI asks which of the two directories is meant.
            args.extend(["-C".to_owned(), cwd.to_owned()]);
        }
        args.push(bound.provider_session_id.clone());
        plan(home, cwd.unwrap_or(&bound.launch_dir), args, launch)
    }

    fn plan_new(&self, home: &Home, _id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, interactive(&[NO_DAEMON], launch), launch)
    }
}

impl Forks for Codex {
    fn plan(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = interactive(&["fork", NO_DAEMON, "-C", cwd], launch);
        args.extend(service(bound));
        args.push(bound.provider_session_id.clone());
        plan(home, cwd, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> LaunchPlan {
        turns::plan(home, spec, "fork")
    }
}

/// Returns the argument that chooses the service that the session began with: the CLI refuses to go
/// on with another one, which the settings may name by now.
pub(super) fn service(bound: &Bound) -> Option<String> {
    let service = rollout::open(Path::new(&bound.location)).ok()?.service?;
    Some(model_providers::choose(&service))
}

/// Returns these words, then what the launch asks for.
fn interactive(words: &[&str], launch: &Launch) -> Vec<String> {
    let words = words.iter().map(|word| (*word).to_owned());
    words.chain(flags::profile(launch)).chain(flags::arguments(launch)).collect()
}

pub(super) fn plan(home: &Home, cwd: &str, args: Vec<String>, launch: &Launch) -> LaunchPlan {
    let program = Codex.program().to_owned();
    let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
    flags::environment(launch, &mut plan);
    plan
}
