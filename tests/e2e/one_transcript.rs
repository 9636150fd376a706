//! Promise: every transcript is one session, whatever names lead to it, and its plan continues
//! exactly that transcript.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sessd_proto::doctor::Finding;
use sessd_proto::{FaultCode, LiveState, Status};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::odd_disks::{claude, findings, found, id, munged, sandbox, write_claude};
use crate::scene::{all_sessions, answer, copy, fault, run_job, show, wait_for_live};
use crate::turn_verbs::{detach, wait_for_state};

/// The command of a plan as a shell reads it.
fn plan(sandbox: &Sandbox, id: &str) -> String {
    let output = sandbox.sessctl(&["resume", id, "--plan"]);
    assert_eq!(output.status, 0, "{output:#?}");
    output.stdout
}

#[test]
fn a_transcript_with_two_names_is_one_session() {
    let sandbox = sandbox();
    let (project, home) = (sandbox.dir("project"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &project, 1);
    // A folder, a file and a whole home.
    symlink(file.parent().unwrap(), home.join("projects/-linked")).unwrap();
    let other = home.join("projects/-other");
    fs::create_dir(&other).unwrap();
    symlink(&file, other.join(file.file_name().unwrap())).unwrap();
    symlink(&home, sandbox.home().join("linked")).unwrap();
    sandbox.write(
        ".config/sessd/config.toml",
        format!("[homes]\nclaude = [\"{}\"]\n", sandbox.home().join("linked").display()),
    );
    assert_eq!(found(&sandbox), [id(1)]);
    let plan = plan(&sandbox, &id(1));
    assert!(plan.contains(&format!("--resume={}", id(1))), "{plan}");
    assert!(plan.contains(project.to_str().unwrap()), "{plan}");
}

/// A prompt to a copy must not be written into the original. A copy in the folder of another
/// directory is continued there, any other by its path.
#[test]
fn a_copy_is_a_session_with_a_plan_of_its_own() {
    let sandbox = sandbox();
    let home = sandbox.home().join(".claude");
    let original = write_claude(&home, &sandbox.dir("project"), 1);
    let copy_to = |folder: &str| {
        let copy = home.join("projects").join(folder).join(original.file_name().unwrap());
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(&original, &copy).unwrap();
        copy
    };
    copy_to(&munged(&sandbox.dir("elsewhere")));
    let unknown = copy_to("-of-no-directory");
    assert_eq!(found(&sandbox), [id(1), id(1), id(1)]);
    let all = all_sessions(&sandbox);
    let plans: Vec<String> = all.iter().map(|session| plan(&sandbox, &session.id)).collect();
    for (directory, names) in [
        ("project", format!("--resume={} ", id(1))),
        ("elsewhere", format!("--resume={} ", id(1))),
        ("project", format!("--resume={} ", unknown.display())),
    ] {
        let directory = format!("cd {} &&", sandbox.home().join(directory).display());
        let is_it = |plan: &&String| plan.starts_with(&directory) && plan.contains(&names);
        assert_eq!(plans.iter().filter(is_it).count(), 1, "{directory} {names}: {plans:#?}");
    }
}

/// A hard link is the same transcript until either side is rewritten.
#[test]
fn a_hard_link_is_a_session_of_its_own_once_it_differs() {
    let sandbox = sandbox();
    let (project, home) = (sandbox.dir("project"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &project, 1);
    let backup = home.join("projects/-backup").join(file.file_name().unwrap());
    fs::create_dir(backup.parent().unwrap()).unwrap();
    fs::hard_link(&file, &backup).unwrap();
    assert_eq!(found(&sandbox), [id(1)]);
    let new = sandbox.write("new", claude(&project, "rewritten"));
    fs::rename(new, &backup).unwrap();
    assert_eq!(found(&sandbox), [id(1), id(1)]);
}

/// Two rows of a transcript that a link now shows to be one, as an older sessd left them.
struct Twins {
    sandbox: Sandbox,
    /// Ours, the older first.
    ids: [String; 2],
    link: PathBuf,
    folder: PathBuf,
}

impl Twins {
    fn new() -> Self {
        let sandbox = sandbox();
        let home = sandbox.home().join(".claude");
        let file = write_claude(&home, &sandbox.dir("project"), 1);
        let folder = file.parent().unwrap().to_owned();
        let link = home.join("projects/-linked");
        let ours = |sandbox: &Sandbox| {
            let all = all_sessions(sandbox).into_iter();
            all.map(|session| session.id).collect::<Vec<_>>()
        };
        found(&sandbox);
        let [first] = &ours(&sandbox)[..] else { panic!("one session") };
        let first = first.clone();
        fs::create_dir(&link).unwrap();
        fs::copy(&file, link.join(file.file_name().unwrap())).unwrap();
        found(&sandbox);
        let second = ours(&sandbox).into_iter().find(|id| *id != first).expect("a copy");
        Self { sandbox, ids: [first, second], link, folder }
    }

    /// Makes one transcript of the two.
    fn join(&self) {
        fs::remove_dir_all(&self.link).unwrap();
        symlink(&self.folder, &self.link).unwrap();
        run_job(&self.sandbox, "discovery");
    }
}

#[test]
fn rows_of_one_transcript_are_merged_and_nothing_is_lost() {
    let twins = Twins::new();
    let (sandbox, [first, second]) = (&twins.sandbox, &twins.ids);
    answer(sandbox, &["tag", second, "red"]);
    answer(sandbox, &["pin", second]);
    answer(sandbox, &["key", "bind", "@kept", second]);
    answer(sandbox, &["title", first, "mine"]);
    twins.join();
    let [left] = &all_sessions(sandbox)[..] else { panic!("one session") };
    assert_eq!(&left.id, second, "the one with a key stays");
    assert_eq!((&left.tags[..], left.pinned), (&["red".to_owned()][..], true));
    for selector in [&**first, second, "@kept", &id(1)] {
        assert_eq!(&show(sandbox, selector).id, second, "{selector}");
    }
    assert_eq!(found(sandbox), [id(1)], "a second sweep changes nothing");
}

#[test]
fn rows_of_one_transcript_with_keys_stay_and_are_named() {
    let twins = Twins::new();
    let (sandbox, [first, second]) = (&twins.sandbox, &twins.ids);
    answer(sandbox, &["key", "bind", "@one", first]);
    answer(sandbox, &["key", "bind", "@two", second]);
    twins.join();
    assert_eq!(all_sessions(sandbox).len(), 2);
    let named = |finding: &Finding| finding.message.contains(&**first);
    let finding = findings(sandbox).into_iter().find(named).expect("a finding");
    assert!(finding.message.contains(&**second), "{}", finding.message);
    // The hint can be typed as it stands.
    let hint = finding.hint.unwrap();
    let command = hint.split('`').nth(1).unwrap();
    let path = Path::new(BINARIES.sessctl).parent().unwrap();
    let command = command.replace("sessctl", BINARIES.sessctl);
    let typed =
        sandbox.run(sandbox.command("sh").args(["-c", &command]).current_dir(path), DEADLINE);
    assert_eq!(typed.status, 0, "{typed:#?}");
    run_job(sandbox, "discovery");
    let [left] = &all_sessions(sandbox)[..] else { panic!("one session") };
    assert_eq!(left.keys, ["@one", "@two"]);
    assert!(!findings(sandbox).iter().any(|it| it.message.contains(&*left.id)));
}

/// Two sessions with keys that are one transcript never run at the same time.
#[test]
fn rows_of_one_transcript_have_one_lease_and_one_queue() {
    let twins = Twins::new();
    let sandbox = &twins.sandbox;
    for (key, id) in ["@one", "@two"].iter().zip(&twins.ids) {
        answer(sandbox, &["key", "bind", key, id]);
    }
    // What cannot be read tells nothing about what can.
    symlink("/nowhere/at/all", sandbox.home().join(".claude/projects/-dangling")).unwrap();
    twins.join();
    sandbox.link("claude", &sandbox.script("claude", "#!/bin/sh\nexec sleep 1000\n"));
    let turn = |key| detach(sandbox, &[key, "hello"]);
    let [first, second] = ["@one", "@two"].map(turn);
    wait_for_state(sandbox, &first, "running");
    assert_eq!(sandbox.json(&["turns", "show", &second])["state"], "queued");
    for key in ["@one", "@two"] {
        wait_for_live(sandbox, key, "both to be busy", |live| live.state == LiveState::Busy);
        let refused = fault(sandbox, &["resume", key], 4);
        assert_eq!(refused.code, FaultCode::Busy, "{refused:?}");
    }
}

/// A row that goes while its session runs has one queue with the other until it is free.
#[test]
fn rows_of_one_transcript_merge_when_no_turn_runs() {
    let twins = Twins::new();
    let (sandbox, [first, second]) = (&twins.sandbox, &twins.ids);
    answer(sandbox, &["key", "bind", "@kept", first]);
    sandbox.link("claude", &sandbox.script("claude", "#!/bin/sh\nexec sleep 1000\n"));
    let running = detach(sandbox, &[second, "hello"]);
    wait_for_state(sandbox, &running, "running");
    twins.join();
    assert_eq!(all_sessions(sandbox).len(), 2);
    let waiting = detach(sandbox, &["@kept", "hello"]);
    assert_eq!(sandbox.json(&["turns", "show", &waiting])["state"], "queued");
    for turn in [&waiting, &running] {
        answer(sandbox, &["turns", "cancel", turn]);
    }
    wait_until("one session", DEADLINE, || {
        run_job(sandbox, "discovery");
        (all_sessions(sandbox).len() == 1).then_some(())
    });
    assert_eq!(&show(sandbox, second).id, first);
    assert_eq!(sandbox.json(&["turns", "--session", first])["turns"].as_array().unwrap().len(), 2);
}

/// A project that was renamed together with its folder of transcripts.
#[test]
fn a_renamed_project_keeps_its_sessions() {
    let sandbox = sandbox();
    let (old, home) = (sandbox.dir("old"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &old, 1);
    found(&sandbox);
    let before = show(&sandbox, &id(1));
    answer(&sandbox, &["key", "bind", "@mine", &before.id]);
    let new = sandbox.home().join("new");
    fs::rename(&old, &new).unwrap();
    fs::rename(file.parent().unwrap(), home.join("projects").join(munged(&new))).unwrap();
    assert_eq!(found(&sandbox), [id(1)]);
    let after = show(&sandbox, "@mine");
    assert_eq!((&after.id, after.status), (&before.id, Status::Active));
    let plan = plan(&sandbox, &before.id);
    assert!(plan.contains(new.to_str().unwrap()), "{plan}");
}

/// Restored from a backup, or on another disk: every device and inode is another.
#[test]
fn a_home_of_other_inodes_keeps_its_sessions() {
    let sandbox = sandbox();
    let home = sandbox.home().join(".claude");
    (1..5).for_each(|number| _ = write_claude(&home, &sandbox.dir("project"), number));
    let all = found(&sandbox);
    let ids = |sandbox: &Sandbox| {
        let mut ids: Vec<_> = all_sessions(sandbox).into_iter().map(|it| it.id).collect();
        ids.sort_unstable();
        ids
    };
    let before = ids(&sandbox);
    let away = sandbox.home().join("away");
    fs::rename(&home, &away).unwrap();
    copy(&away, &home);
    assert_eq!((found(&sandbox), ids(&sandbox)), (all, before));
}

/// A file system gives the number of a file that was removed to the next one.
#[test]
fn an_inode_that_is_used_again_names_nothing() {
    let sandbox = sandbox();
    let (home, project) = (sandbox.home().join(".claude"), sandbox.dir("project"));
    (1..4).for_each(|number| _ = write_claude(&home, &project, number));
    found(&sandbox);
    let gone = show(&sandbox, &id(1));
    fs::remove_file(write_claude(&home, &project, 1)).unwrap();
    write_claude(&home, &project, 4);
    assert_eq!(found(&sandbox), [id(1), id(2), id(3), id(4)]);
    assert_eq!(show(&sandbox, &gone.id).status, Status::Expired);
    assert_ne!(show(&sandbox, &id(4)).id, gone.id);
}
