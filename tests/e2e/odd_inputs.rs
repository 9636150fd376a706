//! Promise: a verdict is what the CLI itself would do, also for the odd files of real disks. One
//! run of a real CLI makes a conversation; each input damages a copy of it, in a home of its own,
//! and the CLI is asked to go on with it. The request to the model tells how much it still knows.
//!
//! Every input is judged three times before the CLI runs: by a check of a session that was known
//! when it was whole, by the sweep of a registry that has never seen it, and by a check after that.
//! A session that the CLI continues with any of its context must be active in all three. One that
//! it refuses, or silently begins again, must not be. All disagreements are reported at once.
//! Knows no format: the inputs of each provider are in a file of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sessd_proto::{Session, Status};
use sessd_tests::tree::tree_hash;
use sessd_tests::{is_long, report};

use crate::scene::{Scene, all_sessions, check, sessions, verdict};

mod case;
mod claude;
mod codex;
mod gemini;
mod lines;
mod opencode;
mod qwen;
mod tree;

use case::{Case, Input};

/// The CLIs that run at the same time.
const WORKERS: usize = 2;

/// The prompts of the conversation; a tool is called in the second.
const PROMPTS: [&str; 3] = ["alpha question", "gamma question", "omega question"];

/// The text of the file that the tool reads.
const NOTES: &str = "remember the milk";

/// The answer of a CLI that was asked to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It sent every prompt and every answer.
    Full,
    /// It sent some of them.
    Part,
    /// It went on without any, under this id or another.
    Nothing,
    /// It ended with a failure.
    Refuses,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Full, Self::Part, Self::Nothing, Self::Refuses];

    /// True if the conversation goes on.
    fn goes_on(self) -> bool {
        matches!(self, Self::Full | Self::Part)
    }
}

/// Status and reason, or that the session is not in the list.
type Judged = Option<(Status, Option<String>)>;

/// Compares `check` and the CLI on these inputs: by default on the first of each kind.
fn compare(scene: Option<Scene>, tool: &str, lists: &[&[Input]]) {
    let Some(mut scene) = scene else { return };
    let mut inputs: Vec<&Input> = lists.iter().copied().flatten().collect();
    if !is_long() {
        inputs = first_of_each_kind(&inputs);
        report::left_to_long(&format!("{}: the other odd inputs", scene.provider()));
    }
    let mut cases = prepare(&mut scene, tool, &inputs);
    let root = scene.sandbox.home().join("cases");
    let known = everything(&scene);
    for (case, input) in cases.iter_mut().zip(&inputs) {
        case.change(input);
    }
    let before = tree_hash(&root);
    let checked: Vec<Judged> = cases.iter().map(|case| checked(&scene, &known, case)).collect();
    forget_everything(&scene);
    let listed = everything(&scene);
    let found: Vec<Judged> = cases.iter().map(|case| judged(row(&listed, case))).collect();
    let again: Vec<Judged> =
        cases.iter().map(|case| self::checked(&scene, &listed, case)).collect();
    tree_hash(&root).assert_same_as(&before);

    let (outcomes, said): (Vec<Outcome>, Vec<String>) = ask_all(&scene, &cases).into_iter().unzip();
    report::figure(&table(&scene, &inputs, &outcomes, &found));
    let mut wrong = String::new();
    for (at, (input, outcome)) in inputs.iter().zip(&outcomes).enumerate() {
        let before = wrong.len();
        let rows = listed.iter().filter(|session| cases[at].is_of(session)).count();
        if rows > 1 {
            wrong += &format!("{}: {}: listed {rows} times\n", input.kind, input.name);
        }
        for (how, judged) in [("listed", &found[at]), ("checked", &again[at])] {
            if !agree(input, *outcome, judged) {
                wrong += &disagreement(input, *outcome, how, judged);
            }
        }
        // A session whose id is in no row that was known then was not checked.
        let known = &checked[at];
        if known.is_some() && !agree(input, *outcome, known) {
            wrong += &disagreement(input, *outcome, "checked when it was known", known);
        }
        if wrong.len() > before && !said[at].is_empty() {
            wrong += &format!("    it said: {}\n", said[at]);
        }
    }
    assert!(wrong.is_empty(), "{} and its verdicts disagree:\n{wrong}", scene.provider());
}

/// True if a verdict is what the CLI did.
fn agree(input: &Input, outcome: Outcome, judged: &Judged) -> bool {
    if let Some(reason) = input.although {
        return *judged == Some((reason.status(), Some(reason.as_str().to_owned())));
    }
    let is_active = judged.as_ref().is_some_and(|(status, _)| *status == Status::Active);
    outcome.goes_on() == is_active
}

fn disagreement(input: &Input, outcome: Outcome, how: &str, judged: &Judged) -> String {
    format!("{}: {}: {outcome:?}, {how} {}\n", input.kind, input.name, spelled(judged))
}

fn spelled(judged: &Judged) -> String {
    match judged {
        Some((status, Some(reason))) => format!("{status} {reason}"),
        Some((status, None)) => status.to_string(),
        None => "(not listed)".to_owned(),
    }
}

fn first_of_each_kind<'a>(inputs: &[&'a Input]) -> Vec<&'a Input> {
    let mut first: Vec<&Input> = Vec::new();
    for input in inputs {
        if first.iter().all(|it| it.kind != input.kind) {
            first.push(input);
        }
    }
    first
}

/// Has the CLI make the conversation, and copies its home once for each input.
fn prepare(scene: &mut Scene, tool: &str, inputs: &[&Input]) -> Vec<Case> {
    let notes = scene.sandbox.write("project/notes.txt", NOTES);
    let tool = tool.replace("NOTES", notes.to_str().unwrap());
    let id = scene.one_shot(PROMPTS[0]).session_id;
    for prompt in [format!("{} [[call {tool}]]", PROMPTS[1]), PROMPTS[2].to_owned()] {
        scene.cli.one_shot_resume(&scene.sandbox, &scene.project, &id, &prompt);
    }
    let path = scene.cli.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    if !scene.has_database() {
        remove_beside(&path);
    }
    let path = path.strip_prefix(scene.home()).unwrap().to_owned();
    let case = |at: usize| {
        let value = scene.sandbox.home().join(format!("cases/{at}"));
        scene.copy_home(&value);
        let home = scene.selected(&value);
        let path = home.join(&path);
        Case { value, path, home, id: id.clone(), project: scene.project.clone() }
    };
    let cases: Vec<Case> = (0..inputs.len()).map(case).collect();
    let homes: Vec<&Path> = cases.iter().map(|case| &*case.home).collect();
    let config = format!("[homes]\n{} = {homes:?}\n", scene.provider());
    scene.sandbox.write(".config/sessd/config.toml", config);
    cases
}

/// Removes the files that runs leave beside a transcript.
fn remove_beside(path: &Path) {
    for entry in fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap) {
        if entry.path() != path && entry.path().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Replaces the registry by one that has seen nothing.
fn forget_everything(scene: &Scene) {
    let stopped = scene.sandbox.sessctl(&["daemon", "stop"]);
    assert_eq!(stopped.status, 0, "{stopped:?}");
    fs::remove_dir_all(scene.sandbox.state_dir()).unwrap();
}

/// Returns every session, subagents too.
fn everything(scene: &Scene) -> Vec<Session> {
    let all = all_sessions(&scene.sandbox);
    let subagents = sessions(&scene.sandbox, &["list", "--all", "--kind", "subagent"]);
    [all, subagents].concat()
}

fn row<'s>(sessions: &'s [Session], case: &Case) -> Option<&'s Session> {
    sessions.iter().find(|session| case.is_of(session))
}

fn judged(session: Option<&Session>) -> Judged {
    let (status, reason) = verdict(session?);
    Some((status, reason.map(str::to_owned)))
}

fn checked(scene: &Scene, sessions: &[Session], case: &Case) -> Judged {
    judged(Some(&check(&scene.sandbox, &row(sessions, case)?.id)))
}

/// Asks the CLI to go on in each home.
fn ask_all(scene: &Scene, cases: &[Case]) -> Vec<(Outcome, String)> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = ask(scene, case);
                    outcomes.lock().unwrap().insert(case.value.clone(), outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    cases.iter().map(|case| outcomes.remove(&case.value).unwrap()).collect()
}

/// Asks the CLI to go on, and the model server what it was sent.
fn ask(scene: &Scene, case: &Case) -> (Outcome, String) {
    let number = case.value.file_name().unwrap().to_string_lossy();
    let probe = format!("probe number {number} ends");
    let arguments = scene.cli.one_shot_arguments(Some(&case.id), &probe);
    let variable = Some((scene.variable(), case.value.to_str().unwrap()));
    let output = scene.run(&arguments, variable);
    let Some(answer) = scene.cli.parse(&output.stdout).filter(|_| output.status == 0) else {
        let last = output.stderr.trim_end().lines().next_back().unwrap_or_default();
        return (Outcome::Refuses, last.to_owned());
    };
    if answer.session_id != case.id {
        return (Outcome::Nothing, format!("it went on as {}", answer.session_id));
    }
    let requests = scene.server.turn_requests();
    let is_ours = |body: &String| body.contains(&probe);
    let sent = requests.iter().map(|it| it.body.to_string()).rfind(is_ours).unwrap();
    let answers = (1..=PROMPTS.len()).map(|number| format!("FAKE turns={number} "));
    let wanted = PROMPTS.iter().map(|prompt| (*prompt).to_owned()).chain(answers);
    let arrived = wanted.map(|text| sent.contains(&text)).collect::<Vec<_>>();
    let outcome = match () {
        () if arrived.iter().all(|it| *it) => Outcome::Full,
        () if arrived.contains(&true) => Outcome::Part,
        () if sent.contains(NOTES) => Outcome::Part,
        () => Outcome::Nothing,
    };
    (outcome, answer.text)
}

/// Counts the outcomes by kind of input and by verdict.
fn table(scene: &Scene, inputs: &[&Input], outcomes: &[Outcome], found: &[Judged]) -> String {
    let mut text = format!("{} {}: {} inputs\n", scene.provider(), scene.version, inputs.len());
    let kinds: Vec<String> = inputs.iter().map(|input| input.kind.to_owned()).collect();
    let verdicts: Vec<String> = found.iter().map(spelled).collect();
    for (title, keys) in [("kind", kinds), ("verdict", verdicts)] {
        let mut counts: BTreeMap<&str, BTreeMap<Outcome, usize>> = BTreeMap::new();
        for (key, outcome) in keys.iter().zip(outcomes) {
            *counts.entry(key).or_default().entry(*outcome).or_default() += 1;
        }
        text += &format!("{title:40}");
        text += &Outcome::ALL.map(|outcome| format!("{:>8}", format!("{outcome:?}"))).concat();
        text += "\n";
        for (key, counts) in counts {
            let count = |outcome| counts.get(&outcome).copied().unwrap_or_default();
            let cells = Outcome::ALL.map(|outcome| format!("{:>8}", count(outcome))).concat();
            text += &format!("{key:40}{cells}\n");
        }
    }
    text
}
