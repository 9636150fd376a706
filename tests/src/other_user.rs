//! Other users of the machine, which need no account: root runs programs under their numbers and
//! gives them files.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::sandbox::Sandbox;
use crate::{report, tools};

/// The user number of the sandbox's owner, which is not root.
const OWNER: u32 = 4_242;

/// The number of a user that owns no file of the sandbox and is not root.
const STRANGER: u32 = 4_243;

/// Two users beside root: the sandbox's owner and a stranger.
pub struct OtherUsers(());

impl OtherUsers {
    /// Gives the sandbox to its owner. Returns `None`, reported as a skip, if that is not possible.
    pub fn of(sandbox: &Sandbox) -> Option<Self> {
        if !tools::require_root("another user") {
            return None;
        }
        tools::require("setpriv")?;
        let users = Self(());
        let root = sandbox.home().parent().expect("the sandbox's directory").to_owned();
        users.give(&root);
        let mut reach = users.owner(sandbox, "test");
        let reached = reach.arg("-x").arg(sandbox.sessd()).status();
        if !reached.is_ok_and(|status| status.success()) {
            report::skipped("no other user may run what was built here");
            return None;
        }
        Some(users)
    }

    /// Gives a file, or a directory with everything in it, to the owner.
    pub fn give(&self, path: &Path) {
        let owner = format!("{OWNER}:{OWNER}");
        let given = Command::new("chown").args(["-hR", &owner]).arg(path).status();
        assert!(given.is_ok_and(|status| status.success()), "cannot give {}", path.display());
    }

    /// Returns a command that runs as the sandbox's owner.
    pub fn owner(&self, sandbox: &Sandbox, program: impl AsRef<OsStr>) -> Command {
        run_as(OWNER, sandbox, program.as_ref())
    }

    /// Returns a command that runs as the stranger, in the owner's environment.
    pub fn stranger(&self, sandbox: &Sandbox, program: impl AsRef<OsStr>) -> Command {
        run_as(STRANGER, sandbox, program.as_ref())
    }
}

fn run_as(user: u32, sandbox: &Sandbox, program: &OsStr) -> Command {
    let mut command = sandbox.command("setpriv");
    let user = user.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program);
    command
}
