//! The daemon's process limits: a private umask, more file descriptors, no core dump. Children
//! get back what the daemon was started with. Knows no sessions.

use std::io;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// File descriptors for every connection, every child and every file that is open at once.
const DESCRIPTORS_WANTED: u64 = 8192;

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// The limits that the daemon was started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    umask: Mode,
    descriptors: Rlimit,
    core: Rlimit,
}

/// Sets the daemon's own limits. To be called once, before there are threads.
pub(crate) fn set() {
    let inherited = Inherited {
        umask: umask(Mode::RWXG | Mode::RWXO),
        descriptors: getrlimit(Resource::Nofile),
        core: getrlimit(Resource::Core),
    };
    let Inherited { descriptors, core, .. } = inherited;
    let most = descriptors.maximum.map_or(DESCRIPTORS_WANTED, |most| most.min(DESCRIPTORS_WANTED));
    let wanted = descriptors.current.map(|current| current.max(most));
    // Nothing is raised beyond the hard limit, so none of these should fail; if one does, the
    // daemon works with the old limit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, ..descriptors });
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..core });
    // Transcripts and API keys pass through our memory, so no other process may read it.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = INHERITED.set(inherited);
}

/// Returns the limits a child gets back; `None` if [`set`] was not called.
pub(crate) fn inherited() -> Option<Inherited> {
    INHERITED.get().copied()
}

impl Inherited {
    /// Applies them to this process. Makes system calls only: nothing else is allowed after the
    /// fork of a process with threads.
    pub(crate) fn restore(self) -> io::Result<()> {
        umask(self.umask);
        setrlimit(Resource::Nofile, self.descriptors)?;
        setrlimit(Resource::Core, self.core)?;
        Ok(())
    }
}
