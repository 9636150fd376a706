//! Sessions in the background: no terminal shows them, but their CLI can open or end them.

use std::sync::Arc;

use sessd_proto::launch::{ResumeRequest, ResumeResponse};
use sessd_proto::{Fault, LaunchPlan, Live, Session};

use super::Launches;
use crate::providers::Background;
use crate::registry::homes::gate::LIVE_TIMEOUT;
use crate::registry::homes::{KnownHome, bound};
use crate::registry::writers::leases;
use crate::store::sessions::Stored;

impl Launches {
    /// Returns the plan that opens a session where it runs in the background; `None` if it does
    /// not. The plan needs no lease: the process in the background goes on writing.
    ///
    /// # Errors
    /// Fails if the registry cannot be read, or the session's launch options are not valid.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        request: &ResumeRequest,
    ) -> Result<Option<ResumeResponse>, Fault> {
        if request.fork_as.is_some() || request.steal || request.wait_ms > 0 {
            return Ok(None);
        }
        let Some(background) = self.background(known, row).await? else { return Ok(None) };
        let launch = self.launch(row, &request.environment).await?;
        // The one that it runs in may be gone; any other does as well.
        let launch_dir = row.session.launch_dir.clone();
        let exists = self.homes.directories.is_dir(&launch_dir).await? == Some(true);
        let home = || known.home.path.to_string_lossy().into_owned();
        let plan = LaunchPlan {
            program: known.provider.program().to_owned(),
            args: background.attach,
            cwd: if exists { launch_dir } else { home() },
            env: known.home.env.clone(),
        };
        let plan = self.complete(known, &launch, plan).await?;
        let session = self.writers.with_live(vec![row.clone()]).await?.pop().unwrap_or_default();
        let unreadable = self.homes.unreadable().await?;
        Ok(Some(ResumeResponse { session, plan, unreadable }))
    }

    /// The fault for a session that another process has open, with the commands that reach it.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn busy(&self, row: &Stored, live: &Live) -> Result<Fault, Fault> {
        let fault = leases::busy(&row.session, live);
        let known = self.homes.of_session(row).await?;
        let background = self.background(&known, row).await?;
        Ok(match background {
            Some(background) => {
                let hint = hint(known.provider.program(), &background, &row.session);
                fault.hint(hint)
            }
            None => fault,
        })
    }

    async fn background(
        &self,
        known: &KnownHome,
        row: &Stored,
    ) -> Result<Option<Background>, Fault> {
        let bound = bound(row);
        let asked = self.homes.ask(known, LIVE_TIMEOUT, move |known| {
            known.provider.discovery().background(&known.home, &bound)
        });
        Ok(asked.await?.flatten())
    }
}

fn hint(program: &str, background: &Background, session: &Session) -> String {
    let [attach, stop] = [&background.attach, &background.stop].map(|args| args.join(" "));
    format!(
        "open it: `{program} {attach}`; end it there: `{program} {stop}`; or continue a copy: \
         `sessctl resume --fork {}`",
        session.short_id()
    )
}
