//! Binding sessions to provider ids.
//!
//! If the provider picks the id of a new session, we learn it in one of two ways: from the
//! output of a turn, or from the session that the leased process is seen to have open. The second
//! way has a trap: a provider may announce an id, write nothing under it, and then go on under
//! another id. So an id that was announced is given up again as long as a complete listing of the
//! home does not have it. The same step follows a process that has moved to another conversation
//! (`/clear`, a fork): its lease and keys move with it. A process that went back to an older
//! conversation, or to one that its session has left behind, binds nothing.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use sessd_proto::{Fault, FaultCode, Session};

use super::Discovery;
use super::verdict::is_unstarted;
use crate::clock::now;
use crate::process;
use crate::providers::{self, LiveSession, Start};
use crate::registry::homes::gate::LIVE_TIMEOUT;
use crate::registry::homes::{KnownHome, Trouble};
use crate::registry::writers::leases::is_alive;
use crate::store::bindings;
use crate::store::leases::{self, Lease};
use crate::store::sessions::{self, Stored};

impl Discovery {
    /// Drops a provider id that was announced but never written to disk.
    ///
    /// # Errors
    /// Fails with `status_unknown` if the home cannot be listed now: the id may have been written.
    pub(crate) async fn without_unwritten_id(
        &self,
        known: &KnownHome,
        mut row: Stored,
    ) -> Result<Stored, Fault> {
        let session = &mut row.session;
        if session.provider_session_id.is_none() || !waits_for_id(session) {
            return Ok(row);
        }
        let home_id = known.id;
        let had_transcripts = move |c: &Connection| bindings::had_transcripts(c, home_id);
        let doubt = match self.homes.trouble(home_id) {
            // A store that never existed is made with the first transcript.
            Some(Trouble::Missing) if !self.store.read(had_transcripts).await? => None,
            _ => self.homes.doubt(home_id),
        };
        if let Some(doubt) = doubt {
            let what = format!(
                "cannot tell now whether the session {} was started: {doubt}",
                session.short_id(),
            );
            return Err(Fault::new(FaultCode::StatusUnknown, what)
                .hint("what the daemon sees: `sessctl doctor`"));
        }
        session.provider_session_id = None;
        Ok(row)
    }

    /// Moves the leases of a home to the sessions that their processes have open now: binds a
    /// session that waited for its id, and follows a process that has started another one. With
    /// `was_listed` the home has just been listed completely: an announced id that is not in it was
    /// never written.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn follow_leases(
        self: &Arc<Self>,
        known: &KnownHome,
        was_listed: bool,
    ) -> Result<(), Fault> {
        let home_id = known.id;
        let leased = self
            .store
            .read(move |c| {
                let row = |lease: Lease| Ok((sessions::by_id(c, &lease.session_id)?, lease));
                leases::of_home(c, home_id)?.into_iter().map(row).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        if leased.is_empty() {
            return Ok(());
        }
        let shown = self.homes.ask_live(known).await?;
        let look = move |known: &KnownHome| {
            let boot_id = process::boot_id();
            let alive = leased.into_iter().filter(|(_, lease)| is_alive(lease, &boot_id));
            let (starts, leased): (Vec<_>, Vec<_>) = alive
                .map(|(row, lease)| (row.and_then(|row| pending_start(&row, &lease)), lease))
                .unzip();
            let starts: Vec<Start> = starts.into_iter().flatten().collect();
            let discovery = known.provider.discovery();
            let mut sessions = shown.sessions;
            if !shown.is_whole {
                sessions.extend(discovery.started_by(&known.home, &starts));
            }
            let seen = leased.into_iter();
            seen.filter_map(|lease| Some((find_shown(&sessions, lease.pid)?.clone(), lease)))
                .collect::<Vec<_>>()
        };
        let seen = self.homes.ask(known, LIVE_TIMEOUT, look).await?.unwrap_or_default();
        if !seen.is_empty() {
            // Binding forgets the transcript's stamp so that it is read again; store them first.
            self.remember_imported(home_id).await?;
        }
        for (shown, lease) in seen {
            let follow = move |tx: &Transaction<'_>| follow(tx, &lease, &shown, was_listed);
            if let Some(moved) = self.store.write_durable(follow).await? {
                self.writers.watch_lease(moved);
            }
        }
        Ok(())
    }
}

/// Returns the start of a session that waits for its id.
fn pending_start(row: &Stored, lease: &Lease) -> Option<Start> {
    let launch_dir = row.session.launch_dir.clone();
    waits_for_id(&row.session).then_some(Start { pid: lease.pid, since: lease.since, launch_dir })
}

/// Returns the session that a leased process has open: itself, or its only child that has one.
fn find_shown(shown: &[LiveSession], pid: u32) -> Option<&LiveSession> {
    if let Some(own) = shown.iter().find(|live| live.live.pid == Some(pid)) {
        return Some(own);
    }
    let is_below =
        |live: &&LiveSession| live.live.pid.is_some_and(|below| process::is_below(below, pid));
    let mut below = shown.iter().filter(is_below);
    below.next().filter(|_| below.next().is_none())
}

/// Follows one leased process; returns the lease if it moved to another session.
fn follow(
    tx: &Transaction<'_>,
    lease: &Lease,
    shown: &LiveSession,
    was_listed: bool,
) -> crate::store::Result<Option<Lease>> {
    let LiveSession { provider_session_id: id, scope, .. } = shown;
    let scope = scope.as_deref();
    let Some(row) = sessions::by_id(tx, &lease.session_id)? else { return Ok(None) };
    let waits = waits_for_id(&row.session);
    match &row.session.provider_session_id {
        Some(old) if old == id => Ok(None),
        // The announced session may have been written since the last listing.
        Some(_) if waits && !was_listed => Ok(None),
        _ if waits && bind(tx, &row, scope, id)? => Ok(None),
        // If its transcript does not exist yet, the next sweep sees both.
        _ => match bindings::bound_to(tx, row.home_id, scope, id)? {
            None => Ok(None),
            Some((other, _)) => leases::move_on(tx, lease, &other, now()).map(Some),
        },
    }
}

/// Binds a session that waits for its id to the provider's id. Returns `false` if the process has
/// gone back to an older session's conversation, or to one that its session has left behind.
///
/// # Errors
/// Fails if the registry cannot be read or written.
pub(crate) fn bind(
    tx: &Transaction<'_>,
    row: &Stored,
    scope: Option<&str>,
    id: &str,
) -> crate::store::Result<bool> {
    let other = match bindings::bound_to(tx, row.home_id, scope, id)? {
        Some((other, _)) if other == row.session.id => return Ok(true),
        Some((other, since)) if since < row.session.created_at && !is_copy(tx, row, &other)? => {
            return Ok(false);
        }
        None if bindings::was_bound(tx, row.home_id, scope, id)? => return Ok(false),
        found => found.map(|(other, _)| other),
    };
    bindings::bind_provider_id(tx, row, other.as_deref(), id, now())?;
    Ok(true)
}

/// True if a session that a sweep has found may be the copy that `row` waits for. It begins with
/// the records of the original, and so before the copy was asked for.
fn is_copy(tx: &Transaction<'_>, row: &Stored, other: &str) -> crate::store::Result<bool> {
    let Some(original) = &row.session.parent_id else { return Ok(false) };
    let found = sessions::by_id(tx, other)?;
    Ok(original != other && found.is_some_and(|found| found.seq > row.seq))
}

/// True if the provider has not yet said which session this is, or has only announced an id that
/// it may never write.
pub(crate) fn waits_for_id(session: &Session) -> bool {
    let chooses = || {
        let provider = providers::by_id(&session.provider);
        provider.is_some_and(|provider| provider.launcher().choose_id())
    };
    session.provider_session_id.is_none() || is_unstarted(session) && !chooses()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use serde_json::json;
    use sessd_proto::Status;
    use sessd_proto::launch::CreateRequest;
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::registry::Registry;
    use crate::registry::writers::leases::lease_of;

    /// A home in which this process has started a session.
    struct Scene {
        _dir: TempDir,
        registry: Arc<Registry>,
        known: KnownHome,
        id: String,
    }

    impl Scene {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["sessions/2026/01/03", "thread-writer-locks"] {
                fs::create_dir_all(dir.path().join(".codex").join(name)).unwrap();
            }
            let cwd = dir.path().to_str().unwrap().to_owned();
            let registry = Registry::of_folder(dir.path()).await;
            let (id, agent) = (Uuid::new_v4().to_string(), "codex".to_owned());
            let request = CreateRequest { id, agent, cwd, ..CreateRequest::default() };
            let session = registry.launches.create(request).await.unwrap().session;
            let lease = lease_of(&session, std::process::id(), sessd_proto::LeaseKind::Interactive)
                .unwrap();
            registry.store().write_durable(move |tx| leases::put(tx, &lease)).await.unwrap();
            let known = registry.homes.known().await.unwrap().remove(0);
            Self { _dir: dir, registry, known, id: session.id }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.known.home.path.join(name)
        }

        /// Locks a session, as the program does while it has the session open.
        fn lock(&self, id: &str) -> File {
            let lock = File::create(self.file(&format!("thread-writer-locks/{id}.lock"))).unwrap();
            lock.lock().unwrap();
            lock
        }

        async fn announce(&self, id: &str) {
            let _lock = self.lock(id);
            self.sweep().await;
        }

        /// Opens a session and sweeps twice: the second sweep follows what the first has read.
        async fn go_to(&self, id: &str) {
            let _lock = self.lock(id);
            for _ in 0..2 {
                self.sweep().await;
            }
        }

        fn write(&self, id: &str) {
            let at = now().plus_ms(1_000);
            let record =
                |of: &str, payload| json!({ "timestamp": at, "type": of, "payload": payload });
            let description = json!({ "id": id, "cwd": "/", "source": "cli", "cli_version": "1",
                "timestamp": "2026-01-01T10:00:00.000Z", "originator": "codex_cli_rs" });
            let meta = record("session_meta", description);
            let said = record("event_msg", json!({ "type": "user_message", "message": "Hello" }));
            let text = format!("{meta}\n{said}\n");
            let name = format!("sessions/2026/01/03/rollout-2026-01-03T10-00-00-{id}.jsonl");
            fs::write(self.file(&name), text).unwrap();
        }

        async fn sweep(&self) {
            self.registry.discovery.sweep_home(&self.known).await.unwrap();
        }

        /// Returns the provider id that the next start would resume.
        async fn without_unwritten_id(&self) -> Result<Option<String>, Fault> {
            let id = self.id.clone();
            let row = self.registry.store().read(move |c| sessions::by_id(c, &id)).await?;
            let row =
                self.registry.discovery.without_unwritten_id(&self.known, row.unwrap()).await?;
            Ok(row.session.provider_session_id)
        }

        async fn sessions(&self) -> Vec<Session> {
            let all = |c: &Connection| sessions::by_seqs(c, 1..9);
            let rows = self.registry.store().read(all).await.unwrap();
            rows.into_iter().map(|row| row.session).collect()
        }

        /// Asserts that there is one session, bound to what its process has open.
        async fn must_be_bound_to(&self, theirs: &str) {
            let [one] = &self.sessions().await[..] else { panic!("it is listed twice") };
            let bound = (&*one.id, one.provider_session_id.as_deref(), one.status);
            assert_eq!(bound, (&*self.id, Some(theirs), Status::Active));
            let id = self.id.clone();
            let lease = self.registry.store().read(move |c| leases::of_session(c, &id)).await;
            assert!(!lease.unwrap().is_empty(), "its lease has gone elsewhere");
        }
    }

    const ANNOUNCED: &str = "01900001-0000-7000-8000-000000000000";
    const WRITTEN: &str = "01900002-0000-7000-8000-000000000000";

    /// A sweep has found the written transcript, but could not tell that it belongs to the session.
    #[tokio::test]
    async fn unwritten_id_is_replaced_by_the_discovered_transcript() {
        let scene = Scene::new().await;
        scene.announce(ANNOUNCED).await;
        scene.write(WRITTEN);
        scene.sweep().await;
        assert_eq!(scene.sessions().await.len(), 2);
        scene.go_to(WRITTEN).await;
        scene.must_be_bound_to(WRITTEN).await;
    }

    /// The first large import stores what it has seen of transcripts only after its end.
    #[tokio::test]
    async fn first_import_is_read_again_for_a_session_that_waited() {
        let scene = Scene::new().await;
        scene.announce(ANNOUNCED).await;
        scene.write(WRITTEN);
        for number in 0..2_000 {
            let name = format!("sessions/2026/01/03/rollout-{number}.jsonl");
            fs::write(scene.file(&name), "").unwrap();
        }
        scene.go_to(WRITTEN).await;
        scene.must_be_bound_to(WRITTEN).await;
    }

    /// The process went back to a conversation that its session has left behind.
    #[tokio::test]
    async fn id_that_was_bound_once_is_not_bound_again() {
        let scene = Scene::new().await;
        scene.write(WRITTEN);
        scene.sweep().await;
        let leave = "UPDATE bindings SET current = 0 WHERE provider_session_id = ?1";
        let leave = |tx: &Transaction<'_>| Ok(tx.execute(leave, [WRITTEN])?);
        assert_eq!(scene.registry.store().write(leave).await.unwrap(), 1);
        scene.go_to(WRITTEN).await;
        let id = scene.id.clone();
        let row = scene.registry.store().read(move |c| sessions::by_id(c, &id)).await.unwrap();
        assert_eq!(row.unwrap().session.provider_session_id, None);
    }

    #[tokio::test]
    async fn missing_store_raises_doubt_only_if_there_was_one() {
        let scene = Scene::new().await;
        scene.announce(ANNOUNCED).await;
        let [there, away] = ["sessions", "away"].map(|name| scene.file(name));
        fs::rename(&there, &away).unwrap();
        scene.sweep().await;
        assert_eq!(scene.without_unwritten_id().await.unwrap(), None);
        fs::rename(&away, &there).unwrap();
        scene.write(WRITTEN);
        scene.sweep().await;
        fs::rename(&there, &away).unwrap();
        scene.sweep().await;
        assert_eq!(scene.without_unwritten_id().await.unwrap_err().code, FaultCode::StatusUnknown);
    }
}
