//! The ids that providers give: where we choose none, an id is what the provider's stream says or
//! what the leased process is seen to have; the same look follows a process that has moved on.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use sessd_proto::{Fault, FaultCode, Session};

use super::Registry;
use super::homes::{KnownHome, Trouble};
use super::live::is_alive;
use super::patience::LOOK;
use super::starting::is_starting;
use crate::clock::now;
use crate::process;
use crate::providers::{self, LiveSession, Start};
use crate::store::bindings;
use crate::store::leases::{self, Lease};
use crate::store::sessions::{self, Stored};

impl Registry {
    /// A session as its provider knows it: without an id that was announced and then never
    /// written. That is seen only in a home that could be looked through.
    pub(super) async fn unwritten(
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
        let doubt = match self.home_trouble(home_id) {
            // One that never was there is made with the first transcript.
            Some(Trouble::Missing) if !self.store.read(had_transcripts).await? => None,
            doubt => doubt,
        };
        if let Some(trouble) = doubt {
            let what = format!(
                "whether the session {} has begun cannot be seen now: {}",
                session.short_id(),
                trouble.describe()
            );
            return Err(Fault::new(FaultCode::StatusUnknown, what)
                .hint("what the daemon sees: `sessctl doctor`"));
        }
        session.provider_session_id = None;
        Ok(row)
    }

    /// Brings leases of a home to the sessions that their processes have now: binds a session
    /// that waited for its id, and follows a process that has begun another one. Only who has just
    /// looked through the home knows which sessions were never written.
    pub(super) async fn follow_leases(
        self: &Arc<Self>,
        known: &KnownHome,
        was_seen: bool,
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
        let look = move |known: &KnownHome| {
            let boot_id = process::boot_id();
            let alive = leased.into_iter().filter(|(_, lease)| is_alive(lease, &boot_id));
            let (starts, leased): (Vec<_>, Vec<_>) =
                alive.map(|(row, lease)| (row.and_then(|row| start(&row, &lease)), lease)).unzip();
            let starts: Vec<Start> = starts.into_iter().flatten().collect();
            let shown = known.provider.discovery().live().and_then(|read| read(&known.home));
            let shown = shown
                .unwrap_or_else(|| known.provider.discovery().started_by(&known.home, &starts));
            let seen = leased.into_iter();
            seen.filter_map(|lease| Some((shown_for(&shown, lease.pid)?.clone(), lease)))
                .collect::<Vec<_>>()
        };
        let seen = self.ask_home(known, LOOK, look).await?.unwrap_or_default();
        if !seen.is_empty() {
            // Who is bound here forgets what was seen of its transcript, to have it read again.
            self.remember_imported(home_id).await?;
        }
        for (shown, lease) in seen {
            let follow = move |tx: &Transaction<'_>| follow(tx, &lease, &shown, was_seen);
            if let Some(moved) = self.store.promise(follow).await? {
                self.watch_lease(moved);
            }
        }
        Ok(())
    }
}

/// The start of a session that waits for its id.
fn start(row: &Stored, lease: &Lease) -> Option<Start> {
    let launch_dir = row.session.launch_dir.clone();
    waits_for_id(&row.session).then_some(Start { pid: lease.pid, since: lease.since, launch_dir })
}

/// What a process with a lease runs now: itself, or the one process it has started for it.
fn shown_for(shown: &[LiveSession], pid: u32) -> Option<&LiveSession> {
    if let Some(own) = shown.iter().find(|live| live.live.pid == Some(pid)) {
        return Some(own);
    }
    let is_below =
        |live: &&LiveSession| live.live.pid.is_some_and(|below| process::is_below(below, pid));
    let mut below = shown.iter().filter(is_below);
    below.next().filter(|_| below.next().is_none())
}

/// Answers the lease that has moved, if it has.
fn follow(
    tx: &Transaction<'_>,
    lease: &Lease,
    shown: &LiveSession,
    was_seen: bool,
) -> crate::store::Result<Option<Lease>> {
    let LiveSession { provider_session_id: id, scope, .. } = shown;
    let scope = scope.as_deref();
    let Some(row) = sessions::by_id(tx, &lease.session_id)? else { return Ok(None) };
    let waits = waits_for_id(&row.session);
    match &row.session.provider_session_id {
        Some(old) if old == id => Ok(None),
        // What it announced may have been written since the last look.
        Some(_) if waits && !was_seen => Ok(None),
        _ if waits && bind(tx, &row, scope, id)? => Ok(None),
        // Where its transcript is not there yet, the next sweep sees both.
        _ => match bindings::bound_to(tx, row.home_id, scope, id)? {
            None => Ok(None),
            Some((other, _)) => leases::move_on(tx, lease, &other, now()).map(Some),
        },
    }
}

/// Gives a session that waits for it the provider's id, once; `false` if the process has gone back
/// to a conversation of an older session, or to one that its session has left behind.
pub(super) fn bind(
    tx: &Transaction<'_>,
    row: &Stored,
    scope: Option<&str>,
    id: &str,
) -> crate::store::Result<bool> {
    let other = match bindings::bound_to(tx, row.home_id, scope, id)? {
        Some((other, _)) if other == row.session.id => return Ok(true),
        Some((_, since)) if since < row.session.created_at => return Ok(false),
        None if bindings::was_bound(tx, row.home_id, scope, id)? => return Ok(false),
        found => found.map(|(other, _)| other),
    };
    bindings::bind_now(tx, row, other.as_deref(), id, now())?;
    Ok(true)
}

/// True if the provider has still to say which session it is: one that it announced and then
/// never wrote is not there, and the next start gets another.
pub(super) fn waits_for_id(session: &Session) -> bool {
    let chooses = || {
        let provider = providers::by_id(&session.provider);
        provider.is_some_and(|provider| provider.launcher().choose_id())
    };
    session.provider_session_id.is_none() || is_starting(session) && !chooses()
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
    use crate::registry::leases::lease_of;

    /// A home in which this process has begun a session.
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
            let session = registry.create(request).await.unwrap().session;
            let lease = lease_of(&session, std::process::id(), "interactive").unwrap();
            registry.store().promise(move |tx| leases::put(tx, &lease)).await.unwrap();
            let known = registry.known_homes().await.unwrap().remove(0);
            Self { _dir: dir, registry, known, id: session.id }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.known.home.path.join(name)
        }

        /// As the program does for as long as it has a session open.
        fn lock(&self, id: &str) -> File {
            let lock = File::create(self.file(&format!("thread-writer-locks/{id}.lock"))).unwrap();
            lock.lock().unwrap();
            lock
        }

        async fn announce(&self, id: &str) {
            let _lock = self.lock(id);
            self.sweep().await;
        }

        /// The second sweep sees what is open after it has read what is there.
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
            let meta = record("session_meta", json!({ "id": id, "cwd": "/", "source": "cli" }));
            let said = record("event_msg", json!({ "type": "user_message", "message": "Hello" }));
            let text = format!("{meta}\n{said}\n");
            let name = format!("sessions/2026/01/03/rollout-2026-01-03T10-00-00-{id}.jsonl");
            fs::write(self.file(&name), text).unwrap();
        }

        async fn sweep(&self) {
            self.registry.sweep_home(&self.known).await.unwrap();
        }

        /// The provider's id that the next start goes to.
        async fn unwritten(&self) -> Result<Option<String>, Fault> {
            let id = self.id.clone();
            let row = self.registry.store().read(move |c| sessions::by_id(c, &id)).await?;
            let row = self.registry.unwritten(&self.known, row.unwrap()).await?;
            Ok(row.session.provider_session_id)
        }

        async fn sessions(&self) -> Vec<Session> {
            let all = |c: &Connection| sessions::by_seqs(c, 1..9);
            let rows = self.registry.store().read(all).await.unwrap();
            rows.into_iter().map(|row| row.session).collect()
        }

        /// Ends with one session, which has what its process has open.
        async fn must_be_bound_to(&self, theirs: &str) {
            let [one] = &self.sessions().await[..] else { panic!("it is there twice") };
            let bound = (&*one.id, one.provider_session_id.as_deref(), one.status);
            assert_eq!(bound, (&*self.id, Some(theirs), Status::Active));
            let id = self.id.clone();
            let lease = self.registry.store().read(move |c| leases::of_session(c, &id)).await;
            assert!(lease.unwrap().is_some(), "its lease has gone elsewhere");
        }
    }

    const ANNOUNCED: &str = "01900001-0000-7000-8000-000000000000";
    const WRITTEN: &str = "01900002-0000-7000-8000-000000000000";

    /// What the process has written was found by a sweep that did not come to see whose it is.
    #[tokio::test]
    async fn what_was_announced_and_never_written_gives_way_to_what_an_earlier_sweep_found() {
        let scene = Scene::new().await;
        scene.announce(ANNOUNCED).await;
        scene.write(WRITTEN);
        scene.sweep().await;
        assert_eq!(scene.sessions().await.len(), 2);
        scene.go_to(WRITTEN).await;
        scene.must_be_bound_to(WRITTEN).await;
    }

    /// What is seen of transcripts in the first large import is written down after it.
    #[tokio::test]
    async fn what_a_first_import_has_found_is_read_again_as_the_session_that_waited() {
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

    /// It went back to a conversation that its session has left behind.
    #[tokio::test]
    async fn what_meant_another_session_once_is_bound_to_no_other() {
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
    async fn a_store_that_is_missing_raises_doubt_only_where_there_was_one() {
        let scene = Scene::new().await;
        scene.announce(ANNOUNCED).await;
        let [there, away] = ["sessions", "away"].map(|name| scene.file(name));
        fs::rename(&there, &away).unwrap();
        scene.sweep().await;
        assert_eq!(scene.unwritten().await.unwrap(), None);
        fs::rename(&away, &there).unwrap();
        scene.write(WRITTEN);
        scene.sweep().await;
        fs::rename(&there, &away).unwrap();
        scene.sweep().await;
        assert_eq!(scene.unwritten().await.unwrap_err().code, FaultCode::StatusUnknown);
    }
}
