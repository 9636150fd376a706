//! The `status` call: the daemon's pid, version, counters and problems.

use sessd_proto::paths::Paths;
use sessd_proto::provider::HomeState;
use sessd_proto::status::DaemonStatus;
use sessd_proto::{Fault, PROTOCOL_VERSION, Timestamp};

use super::Registry;
use super::doctor::put_aside_findings;
use crate::store::{leases, sessions, turns};

impl Registry {
    /// Returns the daemon's status.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn status(&self) -> Result<DaemonStatus, Fault> {
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

    /// Returns the problems of the daemon, one sentence each: damage, homes in doubt, a full disk.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    async fn problems(&self) -> Result<Vec<String>, Fault> {
        let homes = self.homes.known().await?;
        let in_doubt = homes.iter().filter_map(|known| {
            let info = self.homes.info(known);
            matches!(info.state, HomeState::Held | HomeState::Unreadable | HomeState::Incomplete)
                .then(|| format!("{}: {}", info.path, info.detail.unwrap_or_default()))
        });
        let lost = put_aside_findings(&self.paths.state).into_iter().map(|it| it.message);
        let full = self.store.is_short_of_space().then(|| {
            "the disk with the registry is full or nearly full: free some space, sessd recovers by \
             itself"
                .to_owned()
        });
        Ok(full.into_iter().chain(lost).chain(in_doubt).collect())
    }
}

/// Returns the status of a daemon without a registry.
#[must_use]
pub(crate) fn daemon_status(
    paths: &Paths,
    started_at: Timestamp,
    problems: Vec<String>,
) -> DaemonStatus {
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
