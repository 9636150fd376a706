//! The protocol between sessd and its clients: types, the RPC trait, the preface, faults and paths.
//!
//! Reading order: [`service`] (every call), [`session`], [`launch`], [`turn`], [`event`],
//! [`reason`], [`key`], [`change`], [`fault`], then [`preface`] and [`codec`] for the bytes. Does
//! no I/O except for the client's socket (feature `client`), and names no provider.

pub mod agent;
pub mod change;
pub mod cleanup;
pub mod codec;
pub mod doctor;
pub mod environment;
pub mod event;
mod facts;
pub mod fault;
pub mod job;
pub mod json;
pub mod key;
pub mod launch;
pub mod paths;
pub mod peer;
pub mod preface;
mod printable;
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
pub use facts::Facts;
pub use fault::{Fault, FaultCode};
pub use json::Json;
pub use launch::LaunchPlan;
pub use printable::printable;
pub use reason::{Reason, TrashReason};
pub use session::{Kind, LeaseKind, Live, LiveState, Session, Status};
pub use timestamp::Timestamp;

/// Version of everything that crosses the socket in bincode.
///
/// bincode is positional, so any change to a struct, an enum or the order of RPCs must increment
/// it. History:
/// - 1: list, check and resume.
/// - 2: new sessions, forks, the trash, pins, tags, titles and cleanups.
/// - 3: keys; fallbacks; listing and cancelling turns; `wait`, `steal` and `fork` for prompts;
///   `retry_at` in faults.
/// - 4: event types, reasons and states of homes are enums.
/// - 5: parts of homes that cannot be read; last prompts; event `retry`; edits of transcripts.
pub const PROTOCOL_VERSION: u32 = 5;
