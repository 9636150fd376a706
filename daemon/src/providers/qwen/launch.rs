//! Command lines of Qwen Code for a terminal.

use sessd_proto::LaunchPlan;

use super::{NEWER, Qwen, flags, turns};
use crate::providers::{
    Accepts, Bound, Forks, Home, Launch, LaunchFile, Launcher, Provider, TurnSpec, Version,
};

/// Continues a copy of the session that is resumed.
const FORK: &str = "--fork-session";

impl Launcher for Qwen {
    fn choose_id(&self) -> bool {
        true
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn files(&self, _: &Home, launch: &Launch, _: &LaunchPlan) -> Vec<LaunchFile> {
        flags::files(launch)
    }

    /// In the launch directory only: elsewhere the CLI does not find the session.
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

    /// Runs a command that the CLI answers by itself, in a session that it does not record.
    fn plan_tools(
        &self,
        home: &Home,
        cwd: &str,
        launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        let args = ["--output-format=stream-json", "--chat-recording=false"].map(str::to_owned);
        Some((plan(home, cwd, args.into(), launch), "/stats"))
    }
}

impl Forks for Qwen {
    fn since(&self) -> Option<Version> {
        Some(NEWER)
    }

    /// The CLI refuses `--session-id` together with `--resume`.
    fn choose_id(&self) -> bool {
        false
    }

    /// In the launch directory of the original only: elsewhere the CLI does not find it.
    fn plan(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        _cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, &bound.launch_dir, vec![resume(bound), FORK.to_owned()], launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> LaunchPlan {
        let session = spec.resume.as_ref().map(resume);
        turns::headless(home, spec, session.into_iter().chain([FORK.to_owned()]).collect())
    }
}

pub(super) fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::arguments(launch));
    let program = Qwen.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

pub(super) fn resume(bound: &Bound) -> String {
    format!("--resume={}", bound.provider_session_id)
}

pub(super) fn session_id(id: &str) -> String {
    format!("--session-id={id}")
}
