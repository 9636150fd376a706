//! What the daemon sets for itself, and its children get back as it was: a private umask, more
//! descriptors, no core dump. Only the process as a whole is concerned; knows no sessions.

use std::io;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Descriptors enough for every connection, every child and every file that is read at once.
const DESCRIPTORS: u64 = 8192;

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// The limits that the daemon was started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    umask: Mode,
    descriptors: Rlimit,
    core: Rlimit,
}

/// Sets the daemon's own limits. To be called once, before there is any thread.
pub(crate) fn set() {
    let inherited = Inherited {
        umask: umask(Mode::RWXG | Mode::RWXO),
        descriptors: getrlimit(Resource::Nofile),
        core: getrlimit(Resource::Core),
    };
    let Inherited { descriptors, core, .. } = inherited;
    let most = descriptors.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    let wanted = descriptors.current.map(|current| current.max(most));
    // None of these may be refused, as nothing is raised beyond what we may have; if one is,
    // the daemon is as good as before.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, ..descriptors });
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..core });
    // Transcripts and other people's keys pass through our memory: nobody may read it.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = INHERITED.set(inherited);
}

/// What a child is to get back; `None` if the daemon has set nothing.
pub(crate) fn inherited() -> Option<Inherited> {
    INHERITED.get().copied()
}

impl Inherited {
    /// Applies to this process. Made of system calls only, as a fork of a process with threads
    /// may do nothing else.
    pub(crate) fn restore(self) -> io::Result<()> {
        umask(self.umask);
        setrlimit(Resource::Nofile, self.descriptors)?;
        setrlimit(Resource::Core, self.core)?;
        Ok(())
    }
}
