//! Successions: a person left a session and went on in a copy of it. Key, launch options and pin
//! move to the copy, as after `/clear`; the lease follows its process (see `bind`).
//!
//! The copy is often written long after the original has named it, and a sweep may read either of
//! the two first. So a succession waits, in memory, until both sessions are in the registry.

use std::mem;
use std::sync::{MutexGuard, PoisonError};

use rusqlite::Transaction;
use sessd_proto::Fault;

use super::Discovery;
use crate::clock::now;
use crate::providers::Found;
use crate::registry::homes::KnownHome;
use crate::store::{self, bindings, leases};

/// Successions that may wait at the same time; the oldest is forgotten first.
const WAITING_MAX: usize = 1_024;

/// A conversation that went on in another session of the same home and scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Succession {
    home_id: i64,
    scope: String,
    from: String,
    to: String,
}

impl Discovery {
    /// Notes the succession that a transcript tells of.
    pub(crate) fn note_succession(&self, home_id: i64, found: &Found) {
        let Some((from, to)) = found.moved.clone() else { return };
        let noted = Succession { home_id, scope: found.facts.scope.clone(), from, to };
        let mut waiting = self.successions();
        if waiting.contains(&noted) {
            return;
        }
        if waiting.len() == WAITING_MAX {
            waiting.remove(0);
        }
        waiting.push(noted);
    }

    /// Moves what belongs to a person to the session in which the person went on.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn follow_successions(&self, known: &KnownHome) -> Result<(), Fault> {
        let (own, others) = mem::take(&mut *self.successions())
            .into_iter()
            .partition::<Vec<_>, _>(|waiting| waiting.home_id == known.id);
        self.successions().extend(others);
        for noted in own {
            let moved = noted.clone();
            if !self.store.write_durable(move |tx| follow(tx, &moved)).await? {
                self.successions().push(noted);
            }
        }
        Ok(())
    }

    fn successions(&self) -> MutexGuard<'_, Vec<Succession>> {
        self.successions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one succession; `false` if one of its sessions is not in the registry yet.
fn follow(tx: &Transaction<'_>, noted: &Succession) -> store::Result<bool> {
    let bound = |id: &str| bindings::bound_to(tx, noted.home_id, Some(&noted.scope), id);
    match (bound(&noted.from)?, bound(&noted.to)?) {
        (Some((from, _)), Some((to, _))) => {
            leases::succeed(tx, &from, &to, now())?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
