//! Command lines of Cursor for a terminal.

use sessd_proto::LaunchPlan;

use super::Cursor;
use crate::providers::{Accepts, Bound, Home, Launch, Launcher, Permission, Provider};

impl Launcher for Cursor {
    fn resume_anywhere(&self) -> bool {
        true
    }

    fn choose_id(&self) -> bool {
        true
    }

    fn accepts(&self) -> Accepts {
        Accepts {
            model: true,
            permissions: &[Permission::Ask, Permission::All],
            ..Accepts::default()
        }
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, cwd.unwrap_or(&bound.launch_dir), vec![resume(bound)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }
}

pub(super) fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend((launch.permission == Some(Permission::All)).then(|| "--force".to_owned()));
    args.extend(launch.args.clone());
    let program = Cursor.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

pub(super) fn resume(bound: &Bound) -> String {
    format!("--resume={}", bound.provider_session_id)
}

pub(super) fn session_id(id: &str) -> String {
    format!("--new-session-id={id}")
}
