//! Command lines of Qwen Code for a terminal.

use sessd_proto::LaunchPlan;

use super::{Qwen, flags};
use crate::providers::{Accepts, Bound, Home, Launch, LaunchFile, Launcher, Provider};

impl Launcher for Qwen {
    fn choose_id(&self) -> bool {
        true
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn files(&self, _home: &Home, launch: &Launch) -> Vec<LaunchFile> {
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
