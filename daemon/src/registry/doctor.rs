//! The `doctor` call: findings about the environment of the daemon, with hints.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use sessd_proto::doctor::{DoctorReport, Finding, Level};
use sessd_proto::provider::{HomeInfo, HomeState, ProviderInfo};
use sessd_proto::{Environment, Fault, Reason, Session, Timestamp};

use super::Registry;
use crate::clock::now;
use crate::copies::Copy;
use crate::providers::{self, Version};
use crate::registry::homes::gate::LIVE_TIMEOUT;
use crate::store::sessions;
use crate::store::twins::{self, Pair};

/// The most copies, sessions in danger, and pairs of sessions that are listed, of each.
const FINDINGS_MAX: usize = 20;

/// A clock before this time (2025-01-01) was never set.
const CLOCK_MIN: Timestamp = Timestamp(1_735_689_600_000);

impl Registry {
    /// Returns findings about PATH, permissions, clock, registry, programs and homes.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn doctor(self: &Arc<Self>) -> Result<DoctorReport, Fault> {
        let mut findings = vec![
            path_finding(&self.env.all),
            private_finding("registry", &self.paths.state),
            private_finding("socket", self.paths.socket.parent().unwrap_or(Path::new("/"))),
            clock_finding(now()),
        ];
        findings.extend(put_aside_findings(&self.paths.state));
        findings.extend(self.copy_findings().await?);
        let endangered = self
            .store
            .read_slowly(|c| sessions::with_reason(c, Reason::DeletedAtNextStart, FINDINGS_MAX));
        findings.extend(endangered.await?.iter().map(|row| danger_finding(&row.session)));
        let pairs = self.store.read_slowly(|c| twins::pairs(c, FINDINGS_MAX)).await?;
        findings.extend(pairs.iter().map(twins_finding));
        for info in self.providers().await?.providers {
            findings.push(program_finding(&info));
            findings.extend(records_finding(&info.name));
            findings.extend(info.homes.iter().map(|home| home_finding(&info.name, home)));
        }
        Ok(DoctorReport { findings })
    }

    /// Returns a finding for each of the newest copies of provider files, and how many there are.
    async fn copy_findings(&self) -> Result<Vec<Finding>, Fault> {
        let copies = self.writers.copies.clone();
        let all = tokio::task::spawn_blocking(move || copies.all()).await;
        let all = all.map_err(Fault::internal)?;
        let more = all.len().saturating_sub(FINDINGS_MAX);
        let mut findings = Vec::new();
        for copy in all.into_iter().take(FINDINGS_MAX) {
            let (path, asked) = (copy.original.clone(), copy.clone());
            let look = move || asked.is_newest();
            let is_newest = self.homes.directories.pass(&path, LIVE_TIMEOUT, look).await?;
            findings.push(copy_finding(&copy, is_newest == Ok(true)));
        }
        if more > 0 {
            let message = format!("{more} older copies of provider files are not listed");
            findings.push(finding(Level::Ok, "copies", message, None));
        }
        Ok(findings)
    }
}

fn copy_finding(copy: &Copy, is_newest: bool) -> Finding {
    let [copy, original] = [&copy.path, &copy.original].map(|path| quoted(&path.to_string_lossy()));
    let message = format!("{original} was copied before it was changed");
    let hint = if is_newest {
        format!("put it back as it was: `cp {copy} {original}`")
    } else {
        format!("more was written since, which the copy does not have: `diff {copy} {original}`")
    };
    finding(Level::Ok, "copies", message, Some(&hint))
}

fn danger_finding(session: &Session) -> Finding {
    let Session { provider, launch_dir, title, .. } = session;
    let (short, title) = (session.short_id(), title.as_deref().unwrap_or("no title"));
    let message = format!(
        "the session {short} ({title}) is deleted at the next start of {provider} in {launch_dir}: \
         a damaged or empty file beside it has a name that ends alike"
    );
    let hint =
        format!("a prompt removes that file if it is its own: `sessctl send {short} PROMPT`");
    finding(Level::Warning, provider, message, Some(&hint))
}

fn twins_finding(pair: &Pair) -> Finding {
    let Pair { writer, other, key } = pair;
    let message = format!(
        "the sessions {writer} and {other} are one transcript under two names; both have keys, so \
         both stay, and only one of them can run at a time"
    );
    let key = quoted(key);
    let hint = format!("make one session of them: `sessctl key move {key} {writer}`");
    finding(Level::Warning, "sessions", message, Some(&hint))
}

/// Quotes a word for a shell.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

fn finding(level: Level, subject: &str, message: String, hint: Option<&str>) -> Finding {
    Finding { level, subject: subject.to_owned(), message, hint: hint.map(str::to_owned) }
}

fn path_finding(env: &Environment) -> Finding {
    match env.get("PATH") {
        Some(path) => finding(Level::Ok, "PATH", path.to_owned(), None),
        None => finding(
            Level::Problem,
            "PATH",
            "not set, so no provider can be found".to_owned(),
            Some("name the programs in the configuration, section [programs]"),
        ),
    }
}

fn private_finding(subject: &str, dir: &Path) -> Finding {
    let shown = dir.display();
    match dir.metadata() {
        Ok(meta) if meta.permissions().mode() & 0o077 == 0 => {
            finding(Level::Ok, subject, format!("{shown} is private"), None)
        }
        Ok(_) => finding(
            Level::Problem,
            subject,
            format!("{shown} is open to other users"),
            Some("close it with chmod 700"),
        ),
        Err(error) => finding(Level::Problem, subject, format!("{shown}: {error}"), None),
    }
}

fn clock_finding(now: Timestamp) -> Finding {
    if now < CLOCK_MIN {
        let hint = Some("set the clock: expiry is predicted with it");
        finding(Level::Problem, "clock", format!("{now} cannot be right"), hint)
    } else {
        finding(Level::Ok, "clock", now.to_string(), None)
    }
}

/// Returns a finding for each damaged registry that was put aside.
pub(super) fn put_aside_findings(state: &Path) -> Vec<Finding> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let damaged = |name: &String| {
        name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    names
        .filter(damaged)
        .map(|name| {
            let message =
                format!("a damaged registry was put aside: {}", state.join(name).display());
            let hint = Some("its keys and tags are in it; delete it when you do not need them");
            finding(Level::Warning, "registry", message, hint)
        })
        .collect()
}

fn program_finding(info: &ProviderInfo) -> Finding {
    match (&info.program, &info.version) {
        (Some(program), Some(version)) => {
            let message = format!("{program} {version}{}", untested(&info.name, version));
            finding(Level::Ok, &info.name, message, None)
        }
        (Some(program), None) => finding(Level::Ok, &info.name, program.clone(), None),
        (None, _) => finding(
            Level::Warning,
            &info.name,
            "its program is not on the daemon's PATH; `sessctl resume` uses yours".to_owned(),
            Some("name it in the configuration, section [programs]"),
        ),
    }
}

/// Returns a remark on a version that is newer than the newest one that was tested.
fn untested(provider: &str, version: &str) -> String {
    let tested = providers::by_id(provider).and_then(|provider| provider.newest_tested());
    match (Version::parse(version), tested) {
        (Some(version), Some(tested)) if version > tested => {
            format!(" (newer than the tested {tested})")
        }
        _ => String::new(),
    }
}

/// Returns a finding if transcripts have records that this version of sessd does not know.
fn records_finding(provider: &str) -> Option<Finding> {
    let unknown = providers::by_id(provider)?.unknown_records();
    let count = match unknown.len() {
        0 => return None,
        1 => "1 kind of record unknown".to_owned(),
        count => format!("{count} kinds of record unknown"),
    };
    let message = format!("{count}: {}", unknown.join(", "));
    Some(finding(Level::Ok, provider, message, None))
}

fn home_finding(provider: &str, home: &HomeInfo) -> Finding {
    let message = |detail: &str| format!("home {}: {detail}", home.path);
    match (home.state, &home.detail) {
        (HomeState::Held, Some(detail)) => finding(
            Level::Problem,
            provider,
            message(detail),
            Some("if you deleted them yourself: `sessctl check --accept-losses SELECTOR…`"),
        ),
        (HomeState::Incomplete, Some(detail)) => finding(
            Level::Warning,
            provider,
            message(detail),
            Some("mount the disk, remove the link, or make it readable; all else is listed"),
        ),
        (HomeState::Unreadable, Some(detail)) => {
            finding(Level::Problem, provider, message(detail), None)
        }
        (_, Some(detail)) => finding(Level::Ok, provider, message(detail), None),
        (_, None) => finding(Level::Ok, provider, message("ok"), None),
    }
}
