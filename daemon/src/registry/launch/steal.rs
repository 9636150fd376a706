//! Stealing: asks the process that holds a session's lease to end. It must not kill a process, nor
//! ask one without a lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sessd_proto::service::STEAL_MS;
use sessd_proto::{Fault, FaultCode, LeaseKind, Status};

use super::Launches;
use crate::registry::writers::leases::living;
use crate::store::sessions::Stored;
use crate::{process, system};

/// Interval for checking that a process group has ended, which cannot be watched.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a transcript may be incomplete while its provider rewrites it.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(3);

impl Launches {
    /// Waits while a transcript is being rewritten. Some providers empty it first; ending them in
    /// the middle would lose it.
    async fn wait_until_whole(&self, row: &Stored) -> Result<(), Fault> {
        let known = self.homes.of_session(row).await?;
        let give_up = Instant::now() + REWRITE_TIMEOUT;
        while Instant::now() < give_up
            && self.discovery.verdict_of(&known, row, None).await?.status == Status::Invalid
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Asks the process that has the lease to end, and waits until it and its group have.
    ///
    /// # Errors
    /// Fails with `busy` if it is still running after 10 s.
    pub(crate) async fn steal(self: &Arc<Self>, row: &Stored, caller: u32) -> Result<(), Fault> {
        let id = row.session.id.clone();
        let held = self.store.read(move |c| living(c, &id)).await?;
        // The caller's own lease comes from an earlier try of the same request.
        let held = held.filter(|lease| lease.kind == LeaseKind::Interactive && lease.pid != caller);
        let Some(lease) = held else { return Ok(()) };
        self.wait_until_whole(row).await?;
        process::ask_to_end(lease.pid);
        let limit = Duration::from_millis(STEAL_MS);
        let ended = tokio::time::timeout(limit, ended_with_group(lease.pid)).await;
        let short = row.session.short_id();
        match ended {
            Ok(Ok(())) => Ok(self.writers.end_lease(lease).await?),
            Ok(Err(error)) => Err(Fault::internal(error)),
            Err(_) => {
                let what = format!(
                    "the session {short} is still open in process {}, which was asked to end",
                    lease.pid
                );
                Err(Fault::new(FaultCode::Busy, what).hint("end it yourself, or try again"))
            }
        }
    }
}

/// Waits until a process and its process group have ended: a launcher may be gone while the
/// program it started still writes.
async fn ended_with_group(pid: u32) -> std::io::Result<()> {
    system::process_ended(pid).await?;
    while process::has_group(pid) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
