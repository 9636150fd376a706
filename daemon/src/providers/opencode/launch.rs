//! Launch plans of OpenCode and Kilo for a terminal.

use sessd_proto::LaunchPlan;

use super::{Brand, flags, other_servers, turns};
use crate::providers::{
    Accepts, Bound, Forks, Home, Launch, LaunchFile, Launcher, Provider, TurnSpec,
};

impl Launcher for Brand {
    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn files(&self, _: &Home, launch: &Launch, _: &LaunchPlan) -> Vec<LaunchFile> {
        flags::files(launch)
    }

    fn without_other_servers(&self, _home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
        other_servers::switch_off(self, launch, plan);
    }

    /// In the launch directory only: elsewhere the program never comes to an end.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        _cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(self, home, &bound.launch_dir, vec![session(bound)], launch)
    }

    fn plan_new(&self, home: &Home, _id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(self, home, cwd, Vec::new(), launch)
    }
}

impl Forks for Brand {
    fn plan(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        _cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let args = vec![session(bound), "--fork".to_owned()];
        plan(self, home, &bound.launch_dir, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> LaunchPlan {
        let mut plan = turns::plan(self, home, spec);
        plan.args.push("--fork".to_owned());
        plan
    }
}

pub(super) fn plan(
    brand: &Brand,
    home: &Home,
    cwd: &str,
    mut args: Vec<String>,
    launch: &Launch,
) -> LaunchPlan {
    args.extend(flags::arguments(launch));
    let program = brand.program().to_owned();
    let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
    flags::environment(launch, brand.prefix, &mut plan);
    plan
}

pub(super) fn session(bound: &Bound) -> String {
    format!("--session={}", bound.provider_session_id)
}
