//! Skipping a provider's questions is never a default: the plans of every provider are looked
//! through, with all that they name. Knows the words by which the CLIs can be told to skip.

use sessd_proto::LaunchPlan;

use super::{ALL, Bound, Home, Launch, LaunchFile, Permission, Provider, TurnSpec, Turns};

/// Whatever makes one of the CLIs ask nothing; in any spelling, as a part of a word.
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

/// Every plan that there is for a launch, by what it is for.
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

/// The words of a plan and of the files for it that skip questions.
fn skipping(plan: &LaunchPlan, files: &[LaunchFile]) -> Vec<String> {
    let variables = plan.env.iter().map(|(name, value)| format!("{name}={value:?}"));
    let variables = variables.map(|it| it.replace('\\', ""));
    let files = files.iter().map(|file| format!("{file:?}").replace('\\', ""));
    let words = plan.args.iter().cloned().chain(variables).chain(files);
    let skips = |word: &String| SKIPPING.iter().any(|part| word.contains(part));
    words.filter(skips).collect()
}

#[test]
fn no_provider_skips_questions_unless_it_is_asked_to() {
    for provider in ALL {
        let home = home();
        let modes = [None, Some(Permission::Ask), Some(Permission::Edit)];
        for permission in modes {
            let accepted =
                permission.is_none_or(|it| provider.launcher().accepts().permissions.contains(&it));
            let launch = Launch { permission, ..Launch::default() };
            for (name, plan) in plans(*provider, &launch, &home).iter().filter(|_| accepted) {
                let found = skipping(plan, &provider.launcher().files(&home, &launch));
                let who = format!("{} {name} {permission:?}", provider.id());
                assert!(found.is_empty(), "{who} skips by {found:?}");
            }
        }
    }
}

#[test]
fn every_plan_skips_questions_where_it_is_asked_to() {
    let accepting =
        ALL.iter().filter(|it| it.launcher().accepts().permissions.contains(&Permission::All));
    let mut seen = 0;
    for provider in accepting {
        let home = home();
        let launch = Launch { permission: Some(Permission::All), ..Launch::default() };
        for (name, plan) in plans(*provider, &launch, &home) {
            let found = skipping(&plan, &provider.launcher().files(&home, &launch));
            assert!(!found.is_empty(), "{} {name} does not skip", provider.id());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} plans were looked at");
}
