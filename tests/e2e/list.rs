//! Promise: a list fits the terminal, and through a pipe it is complete.

use sessd_tests::sandbox::Sandbox;
use sessd_tests::terminal::Terminal;
use sessd_tests::wait::DEADLINE;
use unicode_width::UnicodeWidthStr;

use crate::BINARIES;

const SESSIONS: usize = 120;

/// Many sessions with long titles in a deep directory.
fn crowded() -> Sandbox {
    let sandbox = Sandbox::new(BINARIES);
    let cwd = sandbox.dir("a/directory/that/is/deep/below/the/home/of/its/user");
    for number in 0..SESSIONS {
        let title = format!("{number} 日本語の題名 {}", "a long title ".repeat(20));
        let record = serde_json::json!({
            "at": "2026-01-01T00:00:00Z", "cwd": cwd, "role": "user", "text": title,
        });
        let name = format!(".local/state/sessd/echo/session-{number:03}.jsonl");
        sandbox.write(&name, format!("{record}\n"));
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(sandbox.state_dir(), private).unwrap();
    sandbox
}

#[test]
fn a_list_fits_the_terminal() {
    let sandbox = crowded();
    sandbox.ids();
    let calls: [(&[&str], &str); 4] = [
        (&["list", "--limit", "20"], "more: "),
        (&["list", "--busy"], "no sessions"),
        (&["providers"], "EXPIRY"),
        (&["jobs"], "heartbeat"),
    ];
    for (words, last) in calls {
        let mut command = sandbox.command(BINARIES.sessctl);
        command.args(words);
        let mut shown = Terminal::spawn(command, 60, 80);
        assert!(shown.wait_exit(DEADLINE).success());
        shown.wait_for_all(DEADLINE);
        assert!(shown.screen().contains(last), "{}", shown.screen());
        // A row that is broken at the screen's edge is one line here, and too long.
        for line in shown.screen().lines() {
            assert!(line.width() <= 80, "{words:?}: {line}");
        }
        if words.contains(&"20") {
            let screen = shown.screen();
            let rows = screen.lines().filter(|line| line.contains("active")).count();
            assert_eq!((rows, screen.lines().count()), (20, 22), "{screen}");
            assert!(screen.contains("日本") && screen.contains('…'), "no titles:\n{screen}");
        }
    }
}

#[test]
fn a_pipe_gets_every_column_whole() {
    let sandbox = crowded();
    let listed = sandbox.sessctl(&["list", "--all"]).stdout;
    assert_eq!(listed.lines().count(), SESSIONS);
    let sessions = sandbox.json(&["list", "--all"]);
    for (line, session) in listed.lines().zip(sessions["sessions"].as_array().unwrap()) {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), 7, "{line}");
        let columns = ["id", "provider", "status", "last_activity", "project", "title"];
        let whole = columns.map(|column| session[column].as_str().unwrap().trim_end());
        let [id, provider, status, live, at, project, title] = cells[..] else { unreachable!() };
        assert_eq!([id, provider, status, at, project, title.trim_end()], whole);
        assert_eq!(live, "-");
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended() {
    let sandbox = crowded();
    let all = sandbox.ids();
    let mut walked = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut words = vec!["list", "--limit", "50"];
        words.extend(after.iter().flat_map(|after| ["--after", after]));
        let page = sandbox.json(&words);
        let ids = page["sessions"].as_array().unwrap().iter();
        walked.extend(ids.map(|session| session["id"].as_str().unwrap().to_owned()));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(walked, all);
}

#[test]
fn a_reader_that_closes_the_pipe_early_is_not_a_fault() {
    let sandbox = crowded();
    for arguments in ["list --all --json", "list --all"] {
        let script = format!("set -o pipefail; {} {arguments} | head -c 10", BINARIES.sessctl);
        let output = sandbox.run(sandbox.command("bash").args(["-c", &script]), DEADLINE);
        assert_eq!((output.status, &*output.stderr), (0, ""), "{arguments}");
        assert_eq!(output.stdout.len(), 10);
    }
}

#[test]
fn every_shell_gets_its_completions() {
    let sandbox = Sandbox::new(BINARIES);
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.sessctl(&["completions", shell]);
        assert_eq!(script.status, 0, "{shell}: {}", script.stderr);
        for verb in ["list", "resume", "send", "doctor"] {
            assert!(script.stdout.contains(verb), "{shell} does not complete {verb}");
        }
    }
    assert_eq!(sandbox.daemons(), [0; 0], "help needs no daemon");
}

#[test]
fn every_help_fits_80_columns() {
    let sandbox = Sandbox::new(BINARIES);
    let help = |words: &[&str]| {
        let mut command = sandbox.command(BINARIES.sessctl);
        let output = sandbox.run(command.args(words).env("COLUMNS", "80"), DEADLINE);
        assert_eq!((output.status, &*output.stderr), (0, ""), "{words:?}");
        for line in output.stdout.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
        output.stdout
    };
    let top = help(&["--help"]);
    let listed = top.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|w| !w.is_empty()))
        .collect();
    assert!(verbs.len() > 10 && verbs.contains(&"resume"), "{verbs:?}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        help(&[verb, "--help"]);
        help(&[verb, "-h"]);
    }
    help(&["daemon", "restart", "--help"]);
    help(&["jobs", "run", "--help"]);
}

#[test]
fn a_list_shows_what_its_provider_deletes_soon() {
    let sandbox = Sandbox::new(BINARIES);
    let record = serde_json::json!({
        "type": "user", "message": {"role": "user", "content": "a question"}, "cwd": "/",
        "timestamp": "2026-11-21T08:00:00.000Z", "entrypoint": "cli",
    });
    for (at, days) in [(1, 10), (2, 29), (3, 40)] {
        let name = format!(".claude/projects/-/00000000-0000-4000-8000-00000000000{at}.jsonl");
        let path = sandbox.write(&name, format!("{record}\n"));
        let age = std::time::Duration::from_secs(days * 24 * 60 * 60 - 600);
        crate::scene::set_age(&path, age);
    }
    crate::scene::all_sessions(&sandbox);
    let mut list = sandbox.command(BINARIES.sessctl);
    list.args(["list", "--sort", "expires"]);
    let mut terminal = Terminal::spawn(list, 40, 120);
    assert!(terminal.wait_exit(DEADLINE).success());
    terminal.wait_for_all(DEADLINE);
    let screen = terminal.screen();
    let expiry = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let shown: Vec<_> = screen.lines().filter_map(expiry).take(4).collect();
    assert_eq!(shown, ["EXPIRES", "now", "1d", "-"], "{screen}");
    let output = sandbox.sessctl(&["list"]);
    assert!(output.stdout.lines().all(|line| line.split('\t').count() == 7), "{output:?}");
}

#[test]
fn a_home_without_a_store_is_not_missing() {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.dir(".claude");
    let providers = crate::scene::answer(&sandbox, &["providers"]);
    let state = |name: &str| {
        let infos = providers["providers"].as_array().unwrap();
        let info = infos.iter().find(|info| info["name"] == name).unwrap();
        info["homes"][0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((&*state("claude"), &*state("codex")), ("ok", "missing"));
}
