//! Keys: stable names that callers choose for sessions. A key follows `/clear`, outlives the
//! provider's session, and keeps its session from being purged. It must not know providers.

use std::sync::Arc;

use rusqlite::Transaction;
use sessd_proto::change::ChangeResponse;
use sessd_proto::key::{DropKeyRequest, KEY_BYTES_MAX, Key, KeyRequest, KeysRequest, KeysResponse};
use sessd_proto::{Fault, FaultCode};

use super::Sessions;
use crate::clock::now;
use crate::store::sessions::Stored;
use crate::store::{keys, page, sessions};

impl Sessions {
    /// Returns a page of keys with their sessions.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid limit, or if the registry cannot be read.
    pub(crate) async fn keys(
        self: &Arc<Self>,
        request: KeysRequest,
    ) -> Result<KeysResponse, Fault> {
        let limit = page::limit(request.limit)?;
        let after = request.after.unwrap_or_default();
        let (mut names, rows) = self
            .store
            .read(move |c| {
                let (names, seqs): (Vec<_>, Vec<_>) =
                    keys::page(c, &after, limit + 1)?.into_iter().unzip();
                let seqs = seqs.into_iter().take(limit as usize);
                Ok((names, sessions::by_seqs(c, seqs)?))
            })
            .await?;
        let is_more = names.len() > rows.len();
        names.truncate(rows.len());
        let next = names.last().filter(|_| is_more).cloned();
        let sessions = self.writers.with_live(rows).await?;
        let keys = names.into_iter().zip(sessions).map(|(key, session)| Key { key, session });
        Ok(KeysResponse { keys: keys.collect(), next })
    }

    /// Binds a key to a session.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid key or one that means another session, or if the selector
    /// cannot be resolved.
    pub(crate) async fn bind_key(
        self: &Arc<Self>,
        request: KeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.give_key(request, |key, before| match before {
            Some(_) => Err(taken(key)),
            None => Ok(()),
        })
        .await
    }

    /// Moves a key to another session.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such key, or if the selector cannot be resolved.
    pub(crate) async fn move_key(
        self: &Arc<Self>,
        request: KeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.give_key(request, |key, before| match before {
            Some(_) => Ok(()),
            None => Err(unknown(key).hint(format!("bind it: `sessctl key bind {key} SELECTOR`"))),
        })
        .await
    }

    /// Removes a key; returns the session it pointed to, or none if it was removed before.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid key, or if the registry cannot be written.
    pub(crate) async fn drop_key(
        self: &Arc<Self>,
        request: DropKeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        must_be_key(&request.key)?;
        let dropped = self
            .store
            .write_durable(move |tx| {
                let before = keys::drop(tx, &request.key, now())?;
                Ok(before.map(|id| sessions::by_id(tx, &id)).transpose()?.flatten())
            })
            .await?;
        Ok(ChangeResponse {
            sessions: self.writers.with_live(dropped.into_iter().collect()).await?,
        })
    }

    async fn give_key(
        self: &Arc<Self>,
        request: KeyRequest,
        may: impl Fn(&str, Option<&str>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<ChangeResponse, Fault> {
        let KeyRequest { key, selector } = request;
        must_be_key(&key)?;
        let row = self.resolve(&selector).await?;
        let give = move |tx: &Transaction<'_>| {
            let before = keys::session_of(tx, &key)?;
            // Binding a key to its own session again succeeds: requests may be repeated.
            if before.as_ref() != Some(&row.session.id) {
                may(&key, before.as_deref())?;
            }
            keys::bind(tx, &key, &row.session.id, now())?;
            sessions::by_seqs(tx, [row.seq])
        };
        let changed = self.store.write_durable(give).await?;
        Ok(ChangeResponse { sessions: self.writers.with_live(changed).await? })
    }

    /// Returns the session that a key means, or `None` if the key is free.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid key or a session of another agent.
    pub(crate) async fn of_key(
        self: &Arc<Self>,
        key: &str,
        agent: &str,
    ) -> Result<Option<Stored>, Fault> {
        if !key.starts_with('@') {
            let what = format!("`{key}` is not a key, so --agent cannot start a session for it");
            return Err(Fault::new(FaultCode::Usage, what)
                .hint(format!("a new session without a key: `sessctl send --new {agent} …`")));
        }
        must_be_key(key)?;
        let row = self.lookup(key).await?.pop();
        match &row {
            Some(row) if row.session.agent != agent => Err(of_another_agent(key, row, agent)),
            _ => Ok(row),
        }
    }
}

/// Accepts any key that a shell, a URL and a line of text leave unchanged.
///
/// # Errors
/// Fails with `usage` for any other key.
fn must_be_key(key: &str) -> Result<(), Fault> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    let is_key = (2..=KEY_BYTES_MAX).contains(&key.len())
        && key.starts_with('@')
        && key.chars().all(is_plain);
    if is_key {
        return Ok(());
    }
    let what = format!(
        "invalid key `{}`: `@` and up to {} bytes, no whitespace or control characters",
        key.escape_debug(),
        KEY_BYTES_MAX - 1,
    );
    Err(Fault::new(FaultCode::Usage, what).hint("for example `@discord:42`"))
}

/// Returns the fault for a key that is not bound.
pub(crate) fn unknown(key: &str) -> Fault {
    Fault::new(FaultCode::NotFound, format!("no session has the key {key}"))
}

fn taken(key: &str) -> Fault {
    Fault::new(FaultCode::Usage, format!("the key {key} means another session"))
        .hint(format!("see it: `sessctl show {key}`; move the key: `sessctl key move {key} …`"))
}

fn of_another_agent(key: &str, row: &Stored, asked: &str) -> Fault {
    let agent = &row.session.agent;
    let what = format!("the session of {key} belongs to agent {agent}, not to {asked}");
    Fault::new(FaultCode::Usage, what).hint(format!(
        "continue it: `sessctl send {key} --agent {agent} …`; or free the key for a new one: \
         `sessctl key drop {key}`"
    ))
}
