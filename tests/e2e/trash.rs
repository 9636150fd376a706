//! Changes by the user to sessions: the trash, pins, tags, titles. Transcripts stay as they
//! are, whatever is done.

use sessd_tests::sandbox::Sandbox;
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::tree::tree_hash;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::bad_input::assert_fault;

/// The ids in a list, or what another verb answers.
fn ids(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let answer = sandbox.json(words);
    let sessions = answer["sessions"].as_array().unwrap();
    sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn delete_and_undelete_are_each_others_opposite() {
    let sandbox = Sandbox::new(BINARIES);
    let [one, two] = ["one", "two"].map(|prompt| sandbox.new_session(prompt));
    let before = sandbox.json(&["show", &one]);
    let home = sandbox.state_dir().join("echo");
    let hash = tree_hash(&home);

    assert_eq!(ids(&sandbox, &["delete", &one[..8]]), [&*one]);
    assert_eq!(ids(&sandbox, &["list"]), [&*two]);
    assert_eq!(ids(&sandbox, &["list", "--trash"]), [&*one]);
    assert_eq!(ids(&sandbox, &["list", "--trash", "--provider", "claude"]), [""; 0]);
    assert!(sandbox.json(&["show", &one])["trashed_at"].is_string());
    for words in [&["resume", &one][..], &["send", &one, "more"]] {
        let refused = sandbox.sessctl(words);
        assert_fault(&refused, 5, "in the trash");
        assert!(refused.stderr.contains(&format!("sessctl undelete {}", &one[..8])));
    }
    // A second time is not a fault, and neither a sweep nor another daemon brings it back.
    assert_eq!(ids(&sandbox, &["delete", &one]), [&*one]);
    sandbox.json(&["jobs", "run", "discovery"]);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_eq!(ids(&sandbox, &["list"]), [&*two]);

    assert_eq!(ids(&sandbox, &["undelete", &one]), [&*one]);
    let mut after = sandbox.json(&["show", &one]);
    for column in ["revision", "checked_at"] {
        after[column] = before[column].clone();
    }
    assert_eq!(after, before);
    assert_eq!(tree_hash(&home), hash);
    let sent = sandbox.sessctl(&["send", &one, "more"]);
    assert!(sent.stdout.starts_with("turn 2"), "{sent:?}");
}

#[test]
fn delete_is_all_or_nothing_and_spares_used_and_pinned() {
    let sandbox = Sandbox::new(BINARIES);
    let [free, open, pinned] = ["one", "two", "three"].map(|it| sandbox.new_session(it));
    let mut command = sandbox.command(BINARIES.sessctl);
    let mut resumed = Terminal::spawn(
        {
            command.args(["resume", &open]);
            command
        },
        24,
        80,
    );
    resumed.wait_for_text("turn 1", DEADLINE);
    sandbox.json(&["pin", &pinned]);
    assert_fault(&sandbox.sessctl(&["delete", &free, &open]), 4, "open");
    assert_fault(&sandbox.sessctl(&["delete", &free, &pinned]), 2, "pinned");
    assert_fault(&sandbox.sessctl(&["delete", &free, "no-such-session"]), 3, "unknown");
    assert_eq!(ids(&sandbox, &["list", "--trash"]), [""; 0]);
    resumed.key(Key::CtrlD);
    resumed.wait_exit(DEADLINE);
    sandbox.json(&["unpin", &pinned]);
    assert_eq!(ids(&sandbox, &["delete", &free, &pinned]), [&*free, &*pinned]);
}

#[test]
fn tags_select_and_titles_stay() {
    let sandbox = Sandbox::new(BINARIES);
    let [one, two] = ["one", "two"].map(|prompt| sandbox.new_session(prompt));
    let tagged = sandbox.json(&["tag", &one, "work", "später", "work"]);
    assert_eq!(tagged["sessions"][0]["tags"], serde_json::json!(["später", "work"]));
    sandbox.json(&["tag", &two, "work"]);
    assert_eq!(ids(&sandbox, &["list", "--tag", "später"]), [&*one]);
    assert_eq!(ids(&sandbox, &["list", "--tag", "work"]), [&*two, &*one]);
    sandbox.json(&["untag", &two, "work", "unknown"]);
    assert_eq!(ids(&sandbox, &["list", "--tag", "work"]), [&*one]);
    for tag in ["", "two words", "tab\there", &"x".repeat(65)] {
        assert_fault(&sandbox.sessctl(&["tag", &one, tag]), 2, tag);
    }

    sandbox.json(&["title", &one, "ours"]);
    sandbox.sessctl(&["send", &one, "more"]);
    sandbox.json(&["jobs", "run", "discovery"]);
    assert_eq!(sandbox.json(&["show", &one])["title"], "ours");
    sandbox.json(&["title", &one, "--clear"]);
    assert_eq!(sandbox.json(&["show", &one])["title"], "one");
    for title in ["", "two\nlines", &"x".repeat(201)] {
        assert_fault(&sandbox.sessctl(&["title", &one, title]), 2, title);
    }
    assert_fault(&sandbox.sessctl(&["title", &one]), 2, "no title");
}
