//! Command lines of Claude Code for a terminal.

use sessd_proto::{Environment, LaunchPlan};

use super::discovery::transcript_of;
use super::{Claude, flags, turns};
use crate::providers::munged::munged;
use crate::providers::{
    Accepts, Bound, Forks, Home, Launch, LaunchFile, Launcher, Provider, TurnSpec,
};

impl Launcher for Claude {
    fn resume_anywhere(&self) -> bool {
        true
    }

    fn choose_id(&self) -> bool {
        true
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn refuses(&self, launch: &Launch, env: &Environment) -> Option<String> {
        flags::refuses(launch, env, rustix::process::geteuid().is_root())
    }

    fn files(&self, _: &Home, launch: &Launch, plan: &LaunchPlan) -> Vec<LaunchFile> {
        flags::files(launch, &plan.cwd)
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        let cwd = cwd.unwrap_or(&bound.launch_dir);
        plan(home, cwd, vec![resume(home, bound, cwd)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }

    /// Runs a command that the CLI carries out by itself, after its servers have been started.
    fn plan_tools(
        &self,
        home: &Home,
        cwd: &str,
        launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        let args = vec!["--no-session-persistence".to_owned()];
        Some((turns::headless(home, cwd, args, launch), "/cost"))
    }
}

impl Forks for Claude {
    fn plan(
        &self,
        home: &Home,
        bound: &Bound,
        id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = vec![resume(home, bound, cwd), "--fork-session".to_owned()];
        args.extend(id.map(session_id));
        plan(home, cwd, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> LaunchPlan {
        let mut plan = turns::plan(home, spec);
        let id = spec.new_id.as_deref().map(session_id);
        plan.args.extend([Some("--fork-session".to_owned()), id].into_iter().flatten());
        plan
    }
}

pub(super) fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::arguments(launch, cwd));
    let program = Claude.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

/// The CLI looks an id up only in the folder that is named after the real path of the directory,
/// where another transcript may have the same id. It takes a path anywhere.
pub(super) fn resume(home: &Home, bound: &Bound, cwd: &str) -> String {
    let in_its_folder = bound.real_dir.as_deref().is_some_and(|dir| munged(dir) == bound.scope);
    if bound.location.is_empty() || cwd == bound.launch_dir && in_its_folder {
        return format!("--resume={}", bound.provider_session_id);
    }
    format!("--resume={}", transcript_of(home, bound).display())
}

pub(super) fn session_id(id: &str) -> String {
    format!("--session-id={id}")
}
