//! Command lines of the built-in provider.

use sessd_proto::LaunchPlan;

use super::Echo;
use crate::providers::{Bound, Home, Launch, Launcher};

impl Launcher for Echo {
    fn resume_anywhere(&self) -> bool {
        true
    }

    fn choose_id(&self) -> bool {
        true
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, &bound.provider_session_id, cwd.unwrap_or(&bound.launch_dir), &[], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, id.unwrap_or_default(), cwd, &[], launch)
    }
}

pub(super) fn plan(home: &Home, id: &str, cwd: &str, more: &[&str], launch: &Launch) -> LaunchPlan {
    // The client executes this plan too, so the program cannot be /proc/self/exe here.
    let program = std::env::current_exe().unwrap_or_else(|_| "sessd".into());
    let path = home.path.to_string_lossy();
    let args = ["echo", "--home", &*path, "--session", id].into_iter().chain(more.iter().copied());
    LaunchPlan {
        program: installed(&program.to_string_lossy()).to_owned(),
        args: args.map(str::to_owned).chain(launch.args.clone()).collect(),
        cwd: cwd.to_owned(),
        env: home.env.clone(),
    }
}

/// Returns the path of the program: the kernel adds a word once another file was installed there.
fn installed(exe: &str) -> &str {
    exe.strip_suffix(" (deleted)").unwrap_or(exe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_is_found_after_sessd_was_replaced() {
        assert_eq!(installed("/usr/bin/sessd (deleted)"), "/usr/bin/sessd");
        assert_eq!(installed("/usr/bin/sessd"), "/usr/bin/sessd");
    }
}
