//! Claude Code's own deletion of old transcripts, from its settings; and the settings of our own
//! runs, which delete nothing.
//!
//! Any run of more than five seconds deletes old transcripts, of all projects. So our runs have a
//! limit of ten years. The CLI takes one `--settings` only, a file or JSON: if the launch has
//! one already, the limit is added to it, unless it has a limit of its own.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;
use sessd_proto::Timestamp;

use crate::providers::{Basis, Home, Launch, LaunchFile, Retention, Stamp, file};

const DAY_MS: i64 = 86_400_000;

/// The limit of our own runs, in days.
const OUR_DAYS: i64 = 3_650;

const OPTION: &str = "--settings";

/// The launch file with the settings of the launch and ours.
const FILE: &str = "settings.json";

/// Returns the arguments of a launch with our settings.
pub(super) fn arguments(launch: &Launch, cwd: &str) -> Vec<String> {
    let mut args = launch.args.clone();
    let Some((at, given)) = given(&args) else {
        let ours = ours(Value::Object(Default::default()));
        return ours.map(|ours| format!("{OPTION}={ours}")).into_iter().chain(args).collect();
    };
    let merged = match (ours_with(&given, cwd), is_file(&given)) {
        (None, _) => return args,
        (Some(_), true) => launch.file(FILE).to_string_lossy().into_owned(),
        (Some(text), false) => text,
    };
    let is_apart = args[at] == OPTION;
    args[at] = format!("{OPTION}={merged}");
    if is_apart {
        args.remove(at + 1);
    }
    args
}

/// Returns the file that [`arguments`] names, if it names one.
pub(super) fn launch_file(launch: &Launch, cwd: &str) -> Option<LaunchFile> {
    let (_, given) = given(&launch.args).filter(|(_, given)| is_file(given))?;
    Some(LaunchFile::Text(FILE.to_owned(), ours_with(&given, cwd)?))
}

/// Returns the position and value of the settings in a launch's own arguments; the last count.
fn given(args: &[String]) -> Option<(usize, String)> {
    let of = |(at, arg): (usize, &String)| match arg.strip_prefix(OPTION)? {
        "" => Some((at, args.get(at + 1)?.clone())),
        rest => Some((at, rest.strip_prefix('=')?.to_owned())),
    };
    args.iter().enumerate().rev().find_map(of)
}

fn is_file(given: &str) -> bool {
    !given.trim_start().starts_with('{')
}

/// Returns the given settings with ours; `None` if they cannot be read, and the CLI refuses them
/// too, or if they have a limit of their own. A path counts from the launch directory.
fn ours_with(given: &str, cwd: &str) -> Option<String> {
    let text = match is_file(given) {
        true => file::settings(&Path::new(cwd).join(given))?,
        false => given.to_owned(),
    };
    ours(serde_json::from_str(&text).ok()?)
}

fn ours(mut settings: Value) -> Option<String> {
    let object = settings.as_object_mut()?;
    if object.contains_key(LIMIT) {
        return None;
    }
    object.insert(LIMIT.to_owned(), OUR_DAYS.into());
    Some(settings.to_string())
}

const LIMIT: &str = "cleanupPeriodDays";

/// Returns the age at which the CLI deletes, and when it last did; `None` if it deletes nothing.
pub(super) fn retention(home: &Home) -> Option<Retention> {
    let days = cleanup_days(&home.path.join("settings.json"))?;
    let swept = fs::metadata(home.path.join(".last-cleanup")).ok();
    let swept_at = swept.map(|metadata| Timestamp::from_ns(Stamp::of(&metadata).mtime_ns));
    Some(Retention { basis: Basis::Modified, age_ms: days.checked_mul(DAY_MS)?, swept_at })
}

/// Returns the number of days after which the CLI deletes. With settings it cannot read it deletes
/// nothing; 0 is refused by some versions and means "keep nothing" to others, so that nothing can
/// be predicted.
fn cleanup_days(settings: &Path) -> Option<i64> {
    const DEFAULT: i64 = 30;
    let bytes = match file::small(settings) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(DEFAULT),
        read => read.ok()?,
    };
    let settings: Value = serde_json::from_slice(&bytes).ok()?;
    match settings.get(LIMIT) {
        None => Some(DEFAULT),
        Some(days) => days.as_i64().filter(|days| *days > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(args: &[&str]) -> Launch {
        Launch { args: args.iter().map(|&it| it.to_owned()).collect(), ..Launch::default() }
    }

    #[test]
    fn our_runs_delete_nothing_unless_their_own_settings_say_so() {
        let ours = r#"--settings={"cleanupPeriodDays":3650}"#;
        assert_eq!(arguments(&launch(&["--verbose"]), "/"), [ours, "--verbose"]);
        let both = r#"--settings={"a":1,"cleanupPeriodDays":3650}"#;
        for given in [&[r#"--settings={"a":1}"#, "-x"][..], &["--settings", r#"{"a":1}"#, "-x"]] {
            assert_eq!(arguments(&launch(given), "/"), [both, "-x"]);
            assert_eq!(launch_file(&launch(given), "/"), None);
        }
        for own in
            [r#"--settings={"cleanupPeriodDays":7}"#, "--settings=missing.json", "--settings={"]
        {
            assert_eq!(arguments(&launch(&[own]), "/"), [own]);
        }
    }

    #[test]
    fn file_of_settings_is_copied_with_ours() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users.json");
        fs::write(&users, r#"{"env":{"KEY":"secret"}}"#).unwrap();
        let cwd = folder.path().to_str().unwrap();
        for given in [users.to_str().unwrap(), "users.json"] {
            let mut launch = launch(&["--settings", given]);
            launch.files = folder.path().join("1");
            let path = folder.path().join("1.settings.json");
            assert_eq!(arguments(&launch, cwd), [format!("--settings={}", path.display())]);
            let text = r#"{"cleanupPeriodDays":3650,"env":{"KEY":"secret"}}"#;
            let written = launch_file(&launch, cwd).unwrap();
            assert_eq!(written, LaunchFile::Text(FILE.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn retention_is_predicted_only_from_settings_the_cli_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("settings.json");
        assert_eq!(cleanup_days(&settings), Some(30));
        for (text, days) in [
            (r#"{"cleanupPeriodDays":5}"#, Some(5)),
            (r#"{"model":"x"}"#, Some(30)),
            (r#"{"cleanupPeriodDays":0}"#, None),
            (r#"{"cleanupPeriodDays":"#, None),
        ] {
            fs::write(&settings, text).unwrap();
            assert_eq!(cleanup_days(&settings), days, "{text}");
        }
    }
}
