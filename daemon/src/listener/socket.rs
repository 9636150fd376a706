//! The listening socket and its path. Ours is bound, private and listening before it is renamed
//! to its public path. A socket that the service manager passed keeps the manager's path, which
//! is not touched as long as it leads to us. Knows no connection.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sessd_proto::peer::Peer;
use sessd_proto::{Fault, FaultCode, paths};
use tokio::net::{UnixListener, UnixStream};

use crate::supervisor::Passed;

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// The listening socket. Only made by the process that holds the daemon's lock.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Inode of the path while it leads to us.
    inode: Option<u64>,
    /// False for a socket of the service manager.
    is_ours: bool,
}

impl Socket {
    /// Listens on a path.
    ///
    /// # Errors
    /// Fails if the folder is not private to this user, or the path cannot be taken.
    pub fn bind(path: &Path) -> Result<Self, Fault> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        paths::check_folder(folder)?;
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|error| cannot_bind(path, &error))?;
        paths::check_folder(folder)?;
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                let what = format!("{} exists and is not a socket", path.display());
                return Err(Fault::new(FaultCode::Environment, what)
                    .hint("move it away, or choose another socket with --socket"));
            }
            _ => {}
        }
        let partial = partial_name(path);
        let _ = fs::remove_file(&partial);
        let bound = UnixListener::bind(&partial).and_then(|listener| {
            fs::set_permissions(&partial, fs::Permissions::from_mode(0o600))?;
            fs::rename(&partial, path)?;
            Ok(listener)
        });
        let listener = bound.map_err(|error| cannot_bind(path, &error))?;
        Ok(Self { listener, path: path.to_owned(), inode: inode(path), is_ours: true })
    }

    /// Takes over a socket that the service manager passed; binds one of our own if that socket
    /// has lost its path.
    ///
    /// # Errors
    /// Fails if the folder is not private to this user, or the socket is unusable.
    pub fn passed(Passed { listener, path }: Passed) -> Result<Self, Fault> {
        paths::check_folder(path.parent().unwrap_or(Path::new("/")))?;
        let leads_here = leads_here(&listener, &path);
        listener.set_nonblocking(true).map_err(Fault::internal)?;
        let listener = UnixListener::from_std(listener).map_err(Fault::internal)?;
        if !leads_here {
            tracing::warn!("the service manager's socket has lost its path {}", path.display());
            return Self::bind(&path);
        }
        Ok(Self { listener, inode: inode(&path), path, is_ours: false })
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// Fails if the process is out of file descriptors.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Binds the path again if it no longer leads to us, and returns the connections that were
    /// still waiting on the old socket. No other daemon can have it, as we hold the lock.
    ///
    /// # Errors
    /// Fails if the path cannot be taken.
    pub fn keep_name(&mut self) -> Result<Vec<UnixStream>, Fault> {
        if inode(&self.path) == self.inode {
            return Ok(Vec::new());
        }
        tracing::warn!("{} was removed or replaced; binding it again", self.path.display());
        let former = std::mem::replace(self, Self::bind(&self.path)?);
        let mut waiting = Vec::new();
        while let Some(Ok(stream)) = former.accept().now_or_never() {
            waiting.push(stream);
        }
        Ok(waiting)
    }

    /// Stops listening. Our own path is removed; the service manager's stays, and new clients
    /// wait there for the next daemon.
    pub fn release(self) {
        if self.is_ours && inode(&self.path) == self.inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// True if connecting to `path` reaches this very listener. Calls `listen` again, as the kernel
/// tells clients the process that did so last, which must be us and not the service manager.
#[must_use]
pub fn leads_here(listener: &std::os::unix::net::UnixListener, path: &Path) -> bool {
    let connect = || -> io::Result<Option<Peer>> {
        rustix::net::listen(listener, BACKLOG)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&probe, &SocketAddrUnix::new(path)?)?;
        Ok(Peer::of(&probe).ok())
    };
    match connect() {
        Ok(peer) => peer.is_some_and(|peer| peer.pid == std::process::id()),
        // The backlog is full, so the socket is in use.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Returns a short name in the same folder, as the length of a socket's path is limited.
fn partial_name(socket: &Path) -> PathBuf {
    socket.with_file_name(format!(".{}", std::process::id()))
}

fn cannot_bind(socket: &Path, error: &io::Error) -> Fault {
    Fault::new(FaultCode::Environment, format!("cannot listen on {}: {error}", socket.display()))
        .hint("choose another socket with --socket or SESSD_SOCKET")
}

/// Returns the inode of a path, which tells our socket from another one of the same name.
fn inode(socket: &Path) -> Option<u64> {
    fs::symlink_metadata(socket).ok().map(|meta| meta.ino())
}
