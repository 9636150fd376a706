//! What the daemon sees of itself and around it: status, providers, doctor.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sessd_proto::doctor::{DoctorReport, Finding, Level};
use sessd_proto::paths::Paths;
use sessd_proto::provider::{ProviderInfo, ProvidersResponse};
use sessd_proto::status::DaemonStatus;
use sessd_proto::{Environment, Fault, PROTOCOL_VERSION, Timestamp};

use super::Registry;
use super::patience::LOOK;
use crate::clock::now;
use crate::providers::{self, Provider};
use crate::store::{leases, sessions, turns};

/// A clock before this moment (2025-01-01) was never set.
const CLOCK_MIN: Timestamp = Timestamp(1_735_689_600_000);

/// Where the daemon finds a provider's program, and which version it is.
#[derive(Default)]
struct Program {
    path: Option<PathBuf>,
    version: Option<String>,
}

impl Registry {
    /// How the daemon is.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn status(&self) -> Result<DaemonStatus, Fault> {
        let (sessions, leases, (waiting, running)) = self
            .store
            .read_slowly(|c| Ok((sessions::count(c)?, leases::all(c)?.len(), turns::count(c)?)))
            .await?;
        Ok(DaemonStatus {
            sessions,
            leases: i64::try_from(leases).unwrap_or(i64::MAX),
            turns_pending: waiting + running,
            turns_running: running,
            ..daemon_status(&self.paths, self.started_at, self.problems().await?)
        })
    }

    /// What is lost or in doubt.
    async fn problems(&self) -> Result<Vec<String>, Fault> {
        let homes = self.known_homes().await?;
        let in_doubt = homes.iter().filter_map(|known| {
            let info = self.home_info(known);
            matches!(&*info.state, "held" | "unreadable")
                .then(|| format!("{}: {}", info.path, info.detail.unwrap_or_default()))
        });
        let lost = put_aside_findings(&self.paths.state).into_iter().map(|it| it.message);
        let full = self.store.is_short_of_space().then(|| {
            "the disk with the registry is full, or nearly: make room, sessd goes on by itself"
                .to_owned()
        });
        Ok(full.into_iter().chain(lost).chain(in_doubt).collect())
    }

    /// The capability table.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn providers(&self) -> Result<ProvidersResponse, Fault> {
        let (_, programs) = tokio::join!(self.first_sweep(), self.look_for_programs());
        let programs = programs?;
        let counts = self.store.read_slowly(sessions::count_by_provider).await?;
        let homes = self.known_homes().await?;
        let info = |(provider, program): (&&dyn Provider, Program)| {
            let own = homes.iter().filter(|known| known.provider.id() == provider.id());
            let count = counts.iter().find(|(name, _)| name == provider.id());
            ProviderInfo {
                name: provider.id().to_owned(),
                version: program.version,
                program: program.path.map(|path| path.to_string_lossy().into_owned()),
                homes: own.map(|known| self.home_info(known)).collect(),
                sessions: count.map_or(0, |(_, count)| *count),
                capabilities: provider.capabilities(),
            }
        };
        let infos = providers::ALL.iter().zip(programs).map(info);
        Ok(ProvidersResponse { providers: infos.collect() })
    }

    /// The program of each provider; none is known if a disk with programs does not answer.
    async fn look_for_programs(&self) -> Result<Vec<Program>, Fault> {
        let (configured, env) = (self.config.programs.clone(), self.env.all.only(["PATH"]));
        let look = move || {
            let of = |provider: &&dyn Provider| {
                let path = match configured.get(provider.id()) {
                    Some(configured) => configured.is_file().then(|| configured.clone()),
                    None => find_program(provider.program(), &env),
                };
                Program { version: path.as_deref().and_then(package_version), path }
            };
            providers::ALL.iter().map(of).collect::<Vec<_>>()
        };
        let found = self.programs.pass(LOOK, look).await?;
        Ok(found.unwrap_or_else(|_| providers::ALL.iter().map(|_| Program::default()).collect()))
    }

    /// What the daemon sees of its surroundings.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn doctor(self: &Arc<Self>) -> Result<DoctorReport, Fault> {
        let mut findings = vec![
            path_finding(&self.env.all),
            private_finding("registry", &self.paths.state),
            private_finding("socket", self.paths.socket.parent().unwrap_or(Path::new("/"))),
            clock_finding(now()),
        ];
        findings.extend(put_aside_findings(&self.paths.state));
        for info in self.providers().await?.providers {
            findings.push(program_finding(&info));
            findings.extend(info.homes.iter().map(|home| home_finding(&info.name, home)));
        }
        Ok(DoctorReport { findings })
    }
}

/// What can be said of a daemon without its registry.
#[must_use]
pub fn daemon_status(paths: &Paths, started_at: Timestamp, problems: Vec<String>) -> DaemonStatus {
    DaemonStatus {
        started_at,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION,
        socket: paths.socket.to_string_lossy().into_owned(),
        database: paths.database().to_string_lossy().into_owned(),
        config: paths.config.to_string_lossy().into_owned(),
        memory_bytes: resident_bytes(),
        problems,
        ..DaemonStatus::default()
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// The first executable file of this name on PATH.
fn find_program(name: &str, env: &Environment) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).canonicalize().ok();
    }
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    std::env::split_paths(env.get("PATH")?).map(|dir| dir.join(name)).find(is_program)
}

/// The version in the `package.json` above a program, without running the program: a bare
/// `--version` of some of them writes into the home.
fn package_version(program: &Path) -> Option<String> {
    let real = program.canonicalize().ok()?;
    let is_named = |value: &serde_json::Value| value["name"].is_string();
    let package = real.ancestors().skip(1).take(4).find_map(|dir| {
        let text = std::fs::read(dir.join("package.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok().filter(is_named)
    })?;
    Some(package["version"].as_str()?.to_owned())
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

fn put_aside_findings(state: &Path) -> Vec<Finding> {
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
            finding(Level::Ok, &info.name, format!("{program} {version}"), None)
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

fn home_finding(provider: &str, home: &sessd_proto::provider::HomeInfo) -> Finding {
    let message = |detail: &str| format!("home {}: {detail}", home.path);
    match (&*home.state, &home.detail) {
        ("held", Some(detail)) => finding(
            Level::Problem,
            provider,
            message(detail),
            Some("if you deleted them yourself: `sessctl check --accept-losses SELECTOR…`"),
        ),
        ("unreadable", Some(detail)) => finding(Level::Problem, provider, message(detail), None),
        (_, Some(detail)) => finding(Level::Ok, provider, message(detail), None),
        (_, None) => finding(Level::Ok, provider, message("ok"), None),
    }
}
