//! Admission: whether a session may be resumed or sent to, judged from its stored verdict. It must
//! not start or end a process.
//!
//! The order matters: what no check can change is refused first, before another process is asked
//! to end for it.

use std::sync::Arc;

use sessd_proto::launch::ResumeRequest;
use sessd_proto::{Environment, Fault, FaultCode, Reason, Session, Status};

use super::Launches;
use crate::registry::discovery::verdict::is_unstarted;
use crate::registry::homes::KnownHome;
use crate::store::sessions::Stored;

/// The wishes of a caller that affect admission, and the abilities of the provider. By default
/// there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admission {
    /// Resume although the status is unknown.
    pub(crate) force: bool,
    /// The caller names a directory to resume in.
    pub(crate) other_directory: bool,
    /// The provider resumes a session from any directory.
    pub(crate) anywhere: bool,
}

impl Admission {
    /// Returns the admission of a `resume` call.
    pub(crate) fn of_resume(request: &ResumeRequest, anywhere: bool) -> Self {
        Self { force: request.force, other_directory: request.cwd.is_some(), anywhere }
    }

    /// Tests the preconditions that do not depend on a check.
    ///
    /// # Errors
    /// Fails if the session is in the trash, or a directory is named that the provider ignores.
    pub(crate) fn precheck(self, session: &Session) -> Result<(), Fault> {
        let short = session.short_id();
        let lacks_directory = session.reason == Some(Reason::DirectoryUnknown);
        if self.other_directory && !self.anywhere && !lacks_directory {
            let what = format!("{} resumes a session only in its own directory", session.provider);
            return Err(Fault::new(FaultCode::Unsupported, what).hint("leave --cwd out"));
        }
        if session.trashed_at.is_some() {
            let what = format!("the session {short} is in the trash");
            return Err(Fault::new(FaultCode::NotResumable, what)
                .hint(format!("take it out: `sessctl undelete {short}`")));
        }
        Ok(())
    }

    /// Tests a session after its check.
    ///
    /// # Errors
    /// Fails with `not_resumable`, `status_unknown` or `directory_missing` if it cannot be resumed.
    /// The message names the reason, and the hint a way out.
    pub(crate) fn admit(self, session: &Session) -> Result<(), Fault> {
        let short = session.short_id();
        let reason = session.reason.unwrap_or_default();
        let fault = |code, what: &str, hint: String| {
            Err(Fault::new(code, format!("the session {short} {what}: {reason}")).hint(hint))
        };
        self.precheck(session)?;
        match session.status {
            Status::Active => Ok(()),
            Status::Unknown if reason == Reason::DirectoryUnknown => {
                if self.other_directory && self.anywhere {
                    return Ok(());
                }
                let what = if self.other_directory {
                    "was not made in that directory"
                } else {
                    "does not name its directory, and no known one is it"
                };
                let hint = if self.anywhere {
                    format!("resume it elsewhere: `sessctl resume {short} --cwd DIR`")
                } else {
                    format!(
                        "name its directory: `sessctl resume {short} --cwd DIR`; or start {} once \
                         in that directory",
                        session.provider
                    )
                };
                fault(FaultCode::StatusUnknown, what, hint)
            }
            Status::Unknown if self.force || is_unstarted(session) => Ok(()),
            Status::Unknown => fault(
                FaultCode::StatusUnknown,
                "cannot be checked now",
                format!("try all the same: `sessctl resume --force {short}`"),
            ),
            Status::Invalid if reason == Reason::DirectoryMissing && self.anywhere => {
                if self.other_directory {
                    return Ok(());
                }
                let hint = format!("resume it elsewhere: `sessctl resume {short} --cwd DIR`");
                fault(FaultCode::DirectoryMissing, "has lost its directory", hint)
            }
            Status::Invalid if reason == Reason::DirectoryMissing => {
                let hint = format!("make it again: `mkdir -p '{}'`", session.launch_dir);
                fault(FaultCode::DirectoryMissing, "has lost its directory", hint)
            }
            Status::Archived => {
                let hint = format!("bring it back with {} itself", session.provider);
                fault(FaultCode::NotResumable, "was archived by its provider", hint)
            }
            Status::Expired if reason == Reason::Ttl => {
                let hint = format!("lift it: `sessctl undelete {short}`, or `sessctl pin {short}`");
                fault(FaultCode::NotResumable, "is past its time to live", hint)
            }
            Status::Expired => {
                let hint =
                    "sessions that can be resumed: `sessctl list --status active`".to_owned();
                fault(FaultCode::NotResumable, "is gone at its provider", hint)
            }
            Status::Invalid => {
                let hint = format!("more about it: `sessctl show {short}`");
                fault(FaultCode::NotResumable, "would be refused by its provider", hint)
            }
        }
    }
}

/// True if nothing is lost when a session starts over under its id, because its provider certainly
/// cannot continue it. While the home cannot be read that is not certain.
fn may_rebind(session: &Session) -> bool {
    let reason = session.reason.unwrap_or_default();
    match session.status {
        Status::Expired => true,
        Status::Invalid => !matches!(reason, Reason::DirectoryMissing | Reason::Subagent),
        Status::Active | Status::Archived => session.trashed_at.is_some(),
        Status::Unknown => session.trashed_at.is_some() && is_unstarted(session),
    }
}

/// True if a session must start over under its id, which `--fallback new` allows.
///
/// # Errors
/// Fails with the reason why the session cannot be sent to, if it may not start over.
pub(crate) fn needs_rebind(session: &Session, is_allowed: bool) -> Result<bool, Fault> {
    match Admission::default().admit(session) {
        Ok(()) => Ok(false),
        Err(fault) if !may_rebind(session) => Err(fault),
        Err(_) if is_allowed => Ok(true),
        Err(fault) => {
            let (hint, short) = (fault.hint.clone().unwrap_or_default(), session.short_id());
            Err(fault.hint(format!(
                "{hint}; or start over under the same id: \
                 `sessctl send --fallback new {short} PROMPT`"
            )))
        }
    }
}

impl Launches {
    /// Checks a session for the program that a start from this caller would run; one that seems
    /// unstarted is first looked for in its home, since it may have been started a moment ago.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn check_unstarted(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        caller: &Environment,
    ) -> Result<Stored, Fault> {
        let path = self.environment(caller, &self.agent_environment(&row)).0.remove("PATH");
        let row = self.discovery.check_on(row, path.as_deref()).await?;
        if !is_unstarted(&row.session) {
            return Ok(row);
        }
        self.discovery.sweep_home(known).await?;
        self.discovery.load(row.seq).await
    }
}
