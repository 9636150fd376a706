//! What sessd and its clients agree on: types, the RPC trait, the preface, faults and paths.
//!
//! Reading order: [`service`] (every call), [`session`], [`launch`], [`turn`], [`key`],
//! [`change`], [`fault`], then [`preface`] and [`codec`] for the bytes. No I/O but the client's
//! socket (feature `client`), and no word about any particular provider.

pub mod agent;
pub mod change;
pub mod cleanup;
pub mod codec;
pub mod doctor;
pub mod environment;
pub mod event;
pub mod fault;
pub mod job;
pub mod json;
pub mod key;
pub mod launch;
pub mod paths;
pub mod peer;
pub mod preface;
pub mod provider;
pub mod reason;
pub mod reference;
pub mod service;
pub mod session;
pub mod status;
pub mod timestamp;
pub mod turn;
mod vocabulary;

#[cfg(feature = "client")]
pub mod client;

pub use environment::Environment;
pub use event::{Event, EventType};
pub use fault::{Fault, FaultCode};
pub use json::Json;
pub use launch::LaunchPlan;
pub use reason::{Reason, TrashReason};
pub use session::{Kind, LeaseKind, Live, LiveState, Session, Status};
pub use timestamp::Timestamp;

/// The version of everything that crosses the socket in bincode.
///
/// bincode is positional, so every change of a struct, an enum or the order of RPCs raises
/// this integer. Its history:
/// - 1: the first listing, checking and resuming daemon.
/// - 2: new sessions, forks, the trash, pins, tags, titles and cleanups.
/// - 3: keys; fallbacks; turns that are listed, cancelled, waited for, stolen, sent to copies;
///   when to try again.
pub const PROTOCOL_VERSION: u32 = 3;
