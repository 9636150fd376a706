//! Directories of sessions whose transcripts do not name them. Some old stores name a folder by a
//! hash of the directory: every directory that is known, or that a caller names, is tried.

use std::sync::Arc;

use sessd_proto::{Fault, Reason};

use super::Discovery;
use crate::registry::homes::KnownHome;
use crate::store::sessions::{self, Stored};

impl Discovery {
    /// Gives the sessions of a home that lack a directory the one that they were made in, where
    /// any known directory is the one.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn find_directories(self: &Arc<Self>, known: &KnownHome) -> Result<(), Fault> {
        if known.provider.discovery().is_of_directory().is_none() {
            return Ok(());
        }
        let home_id = known.id;
        let rows = self.store.read_slowly(move |c| {
            sessions::by_seqs(c, sessions::held_back(c, home_id, &[Reason::DirectoryUnknown])?)
        });
        let rows = rows.await?;
        if rows.is_empty() {
            return Ok(());
        }
        let directories = self.store.read_slowly(sessions::launch_dirs).await?;
        for row in rows {
            self.try_directories(known, row, &directories).await?;
        }
        Ok(())
    }

    /// Tries directories that a caller has named for a session that lacks one. Returns the session
    /// as it is then.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn try_directories(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        directories: &[String],
    ) -> Result<Stored, Fault> {
        let is_of = known.provider.discovery().is_of_directory();
        let Some(is_of) = is_of.filter(|_| row.session.launch_dir.is_empty()) else {
            return Ok(row);
        };
        let Some(found) = directories.iter().find(|dir| is_of(&row.scope, dir)).cloned() else {
            return Ok(row);
        };
        let project = self.homes.directories.project_of(&found).await?;
        let (seq, revision) = (row.seq, row.session.revision);
        self.store
            .write(move |tx| sessions::set_launch_dir(tx, seq, revision, &found, &project))
            .await?;
        let row = self.load(seq).await?;
        let verdict = self.verdict_of(known, &row, None).await?;
        self.store_verdict(&row, verdict).await?;
        self.load(seq).await
    }
}
