//! Command lines of Gemini CLI for a terminal.

use sessd_proto::LaunchPlan;

use super::{Gemini, flags, groups};
use crate::providers::{Accepts, Bound, Home, Launch, LaunchFile, Launcher, Provider};

impl Launcher for Gemini {
    fn choose_id(&self) -> bool {
        true
    }

    fn new_id(&self, id: &str) -> String {
        groups::immune_id(id)
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn files(&self, home: &Home, launch: &Launch, plan: &LaunchPlan) -> Vec<LaunchFile> {
        flags::files(home, launch, plan)
    }

    /// In the launch directory only: elsewhere the CLI does not find the chat.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        _cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, &bound.launch_dir, vec![resume(bound)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }
}

pub(super) fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::arguments(launch));
    let program = Gemini.program().to_owned();
    let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
    flags::environment(home, launch, &mut plan);
    plan
}

pub(super) fn resume(bound: &Bound) -> String {
    format!("--resume={}", bound.provider_session_id)
}

pub(super) fn session_id(id: &str) -> String {
    format!("--session-id={id}")
}
