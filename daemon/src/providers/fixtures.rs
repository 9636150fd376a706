//! Every provider against its fixture: reads `fixtures/<id>/home` and compares the results with
//! the approved ones in `fixtures/<id>/expected.json`. A script `<name>.sql` there stands for the
//! database that it creates. `UPDATE=1 cargo test` rewrites the expected results.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sessd_proto::{Environment, Reason};

use super::{ALL, Bound, Home, Launch, Provider, Stamp, Unreadable, Verdict};

/// 2026-01-02T03:04:05Z, the modification time of every file.
const MODIFIED: u64 = 1_767_323_045;

#[test]
fn every_provider_reads_its_fixture_as_approved() {
    for provider in ALL {
        let fixture = fixtures().join(provider.id());
        assert!(fixture.join("home").is_dir(), "{} has no fixture", provider.id());
        let folder = tempfile::tempdir().unwrap();
        copy(&fixture.join("home"), folder.path());
        let before = tree(folder.path());
        let seen = render(*provider, folder.path());
        assert_eq!(tree(folder.path()), before, "{} changed its home", provider.id());
        let expired = Verdict::of(Reason::TranscriptMissing);
        let home = home(*provider, folder.path());
        assert_eq!(provider.discovery().check(&home, &absent()), expired, "{}", provider.id());
        approve(&fixture.join("expected.json"), &seen);
    }
}

#[test]
fn nothing_is_gone_in_a_home_that_does_not_exist() {
    for provider in ALL {
        let folder = tempfile::tempdir().unwrap();
        let home = home(*provider, folder.path());
        assert_eq!(provider.discovery().list(&home), Err(Unreadable::Missing), "{}", provider.id());
        let verdict = Verdict::of(Reason::HomeMissing);
        assert_eq!(provider.discovery().check(&home, &absent()), verdict, "{}", provider.id());
        assert!(!home.path.exists(), "{} created its home", provider.id());
    }
}

#[test]
fn unreadable_part_hides_only_what_lies_below_it() {
    for provider in ALL {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join(provider.id()).join("home"), folder.path());
        let home = home(*provider, folder.path());
        let before = provider.discovery().list(&home).unwrap().transcripts;
        let holds =
            |path: &PathBuf| before.iter().any(|it| Path::new(&it.location).starts_with(path));
        let watched = provider.discovery().watched(&home).into_iter().filter(holds);
        let store = watched.min_by_key(|path| path.as_os_str().len()).unwrap();
        let check = |location: &Path| {
            let location = location.to_str().unwrap().to_owned();
            provider.discovery().check(&home, &Bound { location, ..absent() })
        };
        // The store is a database, or a folder of transcripts.
        if let Some((database, _)) = before[0].location.split_once('#') {
            fs::remove_file(database).unwrap();
            symlink("/not/mounted", database).unwrap();
            let listed = provider.discovery().list(&home);
            assert!(matches!(listed, Err(Unreadable::Denied(_))), "{}", provider.id());
            let unreadable = Verdict::of(Reason::HomeUnreadable);
            assert_eq!(check(Path::new("/gone")), unreadable, "{}", provider.id());
            continue;
        }
        symlink("/not/mounted", store.join("link")).unwrap();
        let listing = provider.discovery().list(&home).unwrap();
        assert_eq!(listing.transcripts.len(), before.len(), "{}", provider.id());
        let gaps: Vec<_> = listing.gaps.iter().map(|gap| &*gap.path).collect();
        assert_eq!(gaps, [store.join("link")], "{}", provider.id());
        let below = store.join("link/x/chats/session-1.jsonl");
        assert_eq!(check(&below), Verdict::HIDDEN, "{}", provider.id());
        assert_eq!(check(&store.join("x.jsonl")), Verdict::EXPIRED, "{}", provider.id());
    }
}

/// Returns a session that is in no fixture.
fn absent() -> Bound {
    Bound {
        provider_session_id: "00000000-0000-4000-8000-000000000000".to_owned(),
        scope: "scope".to_owned(),
        location: "/gone".to_owned(),
        ..Bound::default()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers/fixtures")
}

fn home(provider: &dyn Provider, root: &Path) -> Home {
    let root = root.to_str().unwrap().to_owned();
    let homes = provider.homes(&Environment([("HOME".to_owned(), root)].into()));
    // The CLI itself would choose the first.
    homes.into_iter().next().unwrap()
}

/// Returns everything the provider says about the home, with its path replaced.
fn render(provider: &dyn Provider, root: &Path) -> String {
    let home = home(provider, root);
    let mut listed = provider.discovery().list(&home).unwrap().transcripts;
    listed.sort_by(|a, b| a.location.cmp(&b.location));
    let mut transcripts = serde_json::Map::new();
    for entry in &listed {
        if let Ok(metadata) = fs::metadata(&entry.location) {
            // Files that are deleted together share the rest.
            assert_eq!(entry.stamp.mtime_ns, Stamp::of(&metadata).mtime_ns);
        }
        let seen = render_one(provider, &home, &entry.location);
        transcripts.insert(entry.location.clone(), seen);
    }
    let mut watched = provider.discovery().watched(&home);
    watched.sort();
    let retention = provider.discovery().retention().and_then(|read| read(&home));
    let seen = json!({
        "home": { "path": home.path, "env": home.env },
        "watched": watched,
        "retention": retention.map(|rule| format!("{rule:?}")),
        "transcripts": transcripts,
    });
    let text = serde_json::to_string_pretty(&seen).unwrap() + "\n";
    let exe = std::env::current_exe().unwrap();
    text.replace(root.to_str().unwrap(), "[HOME]").replace(exe.to_str().unwrap(), "[EXE]")
}

fn render_one(provider: &dyn Provider, home: &Home, location: &str) -> Value {
    let Some(found) = provider.discovery().read(home, location) else { return Value::Null };
    let bound = Bound {
        provider_session_id: found.facts.provider_session_id.clone(),
        scope: found.facts.scope.clone(),
        location: location.to_owned(),
        launch_dir: found.facts.launch_dir.clone(),
        real_dir: Some(found.facts.launch_dir.clone()),
    };
    let lost = Bound { location: format!("{location}.gone"), ..bound.clone() };
    let checked = provider.discovery().check(home, &bound);
    assert_eq!(checked, found.verdict, "read and check disagree on {location}");
    let plan = provider.launcher().plan_resume(home, &bound, None, &Launch::default());
    let elsewhere =
        provider.launcher().plan_resume(home, &bound, Some("/else/where"), &Launch::default());
    let has_home = !provider.launcher().files(home, &Launch::default(), &plan).is_empty();
    assert!(plan.env == home.env || has_home, "{location}");
    json!({
        "id": found.facts.provider_session_id,
        "scope": found.facts.scope,
        "kind": found.facts.kind,
        "launch_dir": found.facts.launch_dir,
        "cwd": found.facts.cwd,
        "title": found.facts.title,
        "last_prompt": found.facts.last_prompt,
        "model": found.facts.model,
        "git_branch": found.facts.git_branch,
        "created_at": found.facts.created_at,
        "last_activity": found.facts.last_activity,
        "parent": found.parent,
        "check": verdict(checked),
        "check_moved": verdict(provider.discovery().check(home, &lost)),
        "resume": format!("{} {} in {}", plan.program, plan.args.join(" "), plan.cwd),
        "resume_elsewhere": format!("{} in {}", elsewhere.args.join(" "), elsewhere.cwd),
    })
}

fn verdict(verdict: Verdict) -> String {
    let reason = verdict.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}{reason}", verdict.status)
}

fn approve(expected: &Path, seen: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(expected, seen).unwrap();
    }
    let approved = fs::read_to_string(expected).unwrap_or_default();
    let differs = approved.lines().zip(seen.lines()).position(|(a, b)| a != b);
    assert!(
        approved == seen,
        "{} differs from line {}; if that is right: UPDATE=1 cargo test\n{seen}",
        expected.display(),
        differs.map_or(approved.lines().count(), |line| line + 1),
    );
}

/// Copies a tree; every file gets the same modification time.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let mut target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            if path.extension().is_some_and(|extension| extension == "sql") {
                target.set_extension("");
                let database = rusqlite::Connection::open(&target).unwrap();
                database.execute_batch(&fs::read_to_string(&path).unwrap()).unwrap();
            } else {
                fs::write(&target, fs::read(&path).unwrap()).unwrap();
            }
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED);
            File::options().write(true).open(&target).unwrap().set_modified(at).unwrap();
        }
    }
}

/// Returns every path in a tree with its fingerprint.
fn tree(root: &Path) -> Vec<(PathBuf, Stamp)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
        found.push((path, Stamp::of(&metadata)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
