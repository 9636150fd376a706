//! A provider's permission questions are never skipped by default: searches all plans of every
//! provider, and the files they name, for the words that make a CLI skip them.

use sessd_proto::LaunchPlan;

use super::{ALL, Bound, Home, Launch, LaunchFile, Permission, Provider, TurnSpec, Turns};

/// The words that make one of the CLIs ask nothing; each may be a part of a longer word.
const SKIPPING: &[&str] = &[
    "skip-permissions",
    "skip-trust",
    "bypass",
    "yolo",
    "dont-ask",
    "--force",
    "--auto",
    "full-auto",
    "full-access",
    "approval_policy=\"never\"",
    "--trust",
    "TRUST_WORKSPACE",
    "IS_SANDBOX",
    "\"*\":\"allow\"",
    "\"bash\":\"allow\"",
    "\"trust\":true",
];

fn home() -> Home {
    Home { path: "/nowhere".into(), env: [].into() }
}

/// Returns every plan for a launch, with its purpose.
fn plans(provider: &dyn Provider, launch: &Launch, home: &Home) -> Vec<(&'static str, LaunchPlan)> {
    let bound = Bound { provider_session_id: "x".to_owned(), ..Bound::default() };
    let id = Some("00000000-0000-4000-8000-000000000000");
    let turn = |resume: Option<&Bound>| TurnSpec {
        resume: resume.cloned(),
        new_id: id.map(str::to_owned),
        cwd: "/w".to_owned(),
        launch: launch.clone(),
    };
    let launcher = provider.launcher();
    let first = |turns: &dyn Turns| turns.plan(home, &turn(None));
    let next = |turns: &dyn Turns| turns.plan(home, &turn(Some(&bound)));
    let mut plans = vec![
        ("new", Some(launcher.plan_new(home, id, "/w", launch))),
        ("resume", Some(launcher.plan_resume(home, &bound, None, launch))),
        ("first turn", provider.turns().and_then(first)),
        ("turn", provider.turns().and_then(next)),
        ("tools", launcher.plan_tools(home, "/w", launch).map(|(plan, _)| plan)),
    ];
    if let Some(forks) = provider.forks() {
        plans.push(("fork", Some(forks.plan(home, &bound, id, "/w", launch))));
        plans.push(("fork turn", Some(forks.plan_turn(home, &turn(Some(&bound))))));
    }
    plans.into_iter().filter_map(|(name, plan)| Some((name, plan?))).collect()
}

/// Returns the words of a plan and of its files that skip questions.
fn skipping(plan: &LaunchPlan, files: &[LaunchFile]) -> Vec<String> {
    let variables = plan.env.iter().map(|(name, value)| format!("{name}={value:?}"));
    let variables = variables.map(|it| it.replace('\\', ""));
    let files = files.iter().map(|file| format!("{file:?}").replace('\\', ""));
    let words = plan.args.iter().cloned().chain(variables).chain(files);
    let skips = |word: &String| SKIPPING.iter().any(|part| word.contains(part));
    words.filter(skips).collect()
}

#[test]
fn questions_are_skipped_only_with_permission_all() {
    for provider in ALL {
        let home = home();
        let modes = [None, Some(Permission::Ask), Some(Permission::Edit)];
        for permission in modes {
            let accepted =
                permission.is_none_or(|it| provider.launcher().accepts().permissions.contains(&it));
            let launch = Launch { permission, ..Launch::default() };
            for (name, plan) in plans(*provider, &launch, &home).iter().filter(|_| accepted) {
                let found = skipping(plan, &provider.launcher().files(&home, &launch, plan));
                let who = format!("{} {name} {permission:?}", provider.id());
                assert!(found.is_empty(), "{who} skips by {found:?}");
            }
        }
    }
}

#[test]
fn every_plan_skips_questions_with_permission_all() {
    let accepting =
        ALL.iter().filter(|it| it.launcher().accepts().permissions.contains(&Permission::All));
    let mut seen = 0;
    for provider in accepting {
        let home = home();
        let launch = Launch { permission: Some(Permission::All), ..Launch::default() };
        for (name, plan) in plans(*provider, &launch, &home) {
            let found = skipping(&plan, &provider.launcher().files(&home, &launch, &plan));
            assert!(!found.is_empty(), "{} {name} does not skip", provider.id());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} plans were looked at");
}
