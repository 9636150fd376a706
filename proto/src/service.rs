//! The protocol: every RPC, in wire order.
//!
//! RPCs are append-only: their order is their number on the wire. Every RPC takes exactly one
//! request struct and answers a value or a [`Fault`]. The tests compare order and shapes with
//! `schema/`; `UPDATE=1 cargo test` rewrites those files after [`crate::PROTOCOL_VERSION`] was
//! raised.
#![allow(missing_docs, reason = "tarpc generates the request and response enums undocumented")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::agent::{AgentsRequest, AgentsResponse, ToolsRequest, ToolsResponse};
use crate::change::{ChangeResponse, SelectorsRequest, TagRequest, TitleRequest};
use crate::cleanup::{CleanupReport, CleanupRequest};
use crate::doctor::{DoctorReport, DoctorRequest};
use crate::job::{Job, JobsRequest, JobsResponse, RunJobRequest};
use crate::key::{DropKeyRequest, KeyRequest, KeysRequest, KeysResponse};
use crate::launch::{
    CreateRequest, CreateResponse, EnvironmentRequest, Name, ResumeRequest, ResumeResponse,
};
use crate::provider::{ProvidersRequest, ProvidersResponse};
use crate::session::{CheckRequest, ListRequest, Session, SessionPage, ShowRequest};
use crate::status::{DaemonStatus, StatusRequest};
use crate::turn::{
    CancelRequest, SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnPage,
    TurnsRequest,
};

/// The longest a caller may ask the daemon to work on one request, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 3_600_000;

/// The deadline of everything but long polls, in milliseconds.
pub const DEADLINE_MS: u64 = 5_000;

/// The longest a long poll may wait, in milliseconds.
pub const WAIT_MS_MAX: u32 = 60_000;

/// How long a process that is asked to end by `resume` with `steal` may take, in milliseconds.
pub const STEAL_MS: u64 = 10_000;

/// What sessd can do.
#[tarpc::service(derive = [Clone, Serialize, Deserialize, JsonSchema])]
pub trait Sessd {
    /// A page of sessions.
    async fn list(request: ListRequest) -> Result<SessionPage, Fault>;
    /// One session.
    async fn show(request: ShowRequest) -> Result<Session, Fault>;
    /// Checks sessions now, for free, and answers them.
    async fn check(request: CheckRequest) -> Result<SessionPage, Fault>;
    /// Checks a session, gives the calling process its lease, and answers how to start it.
    async fn resume(request: ResumeRequest) -> Result<ResumeResponse, Fault>;
    /// Names of the variables that are worth sending with `resume` and `send`.
    async fn environment(request: EnvironmentRequest) -> Result<Vec<Name>, Fault>;
    /// Queues a prompt; its output is read with `turn_output`.
    async fn send(request: SendRequest) -> Result<SendResponse, Fault>;
    /// Long poll for the output of a turn.
    async fn turn_output(request: TurnOutputRequest) -> Result<TurnOutput, Fault>;
    /// The capability table.
    async fn providers(request: ProvidersRequest) -> Result<ProvidersResponse, Fault>;
    /// Recurring work and its last results.
    async fn jobs(request: JobsRequest) -> Result<JobsResponse, Fault>;
    /// Runs a job now and answers its result.
    async fn run_job(request: RunJobRequest) -> Result<Job, Fault>;
    /// How the daemon is.
    async fn status(request: StatusRequest) -> Result<DaemonStatus, Fault>;
    /// What the daemon sees of its surroundings.
    async fn doctor(request: DoctorRequest) -> Result<DoctorReport, Fault>;
    /// Registers a session that `resume` will start.
    async fn create(request: CreateRequest) -> Result<CreateResponse, Fault>;
    /// Puts sessions into the trash; their transcripts stay.
    async fn delete(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Takes sessions out of the trash and lifts a time to live that has passed.
    async fn undelete(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Protects sessions from every cleanup.
    async fn pin(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Ends the protection of a pin.
    async fn unpin(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Labels a session.
    async fn tag(request: TagRequest) -> Result<ChangeResponse, Fault>;
    /// Takes labels from a session.
    async fn untag(request: TagRequest) -> Result<ChangeResponse, Fault>;
    /// Gives a session a title of our own.
    async fn title(request: TitleRequest) -> Result<ChangeResponse, Fault>;
    /// Cleans up now, or answers what that would do.
    async fn cleanup(request: CleanupRequest) -> Result<CleanupReport, Fault>;
    /// A page of keys.
    async fn keys(request: KeysRequest) -> Result<KeysResponse, Fault>;
    /// Gives a session a key.
    async fn bind_key(request: KeyRequest) -> Result<ChangeResponse, Fault>;
    /// Lets a key mean another session.
    async fn move_key(request: KeyRequest) -> Result<ChangeResponse, Fault>;
    /// Lets a key mean nothing any more.
    async fn drop_key(request: DropKeyRequest) -> Result<ChangeResponse, Fault>;
    /// Every agent.
    async fn agents(request: AgentsRequest) -> Result<AgentsResponse, Fault>;
    /// The tools that a start gives an agent or a session; starts it, but no model.
    async fn tools(request: ToolsRequest) -> Result<ToolsResponse, Fault>;
    /// A page of turns.
    async fn turns(request: TurnsRequest) -> Result<TurnPage, Fault>;
    /// Ends a turn that waits or runs, and answers it; one that has ended is answered as it is.
    async fn cancel(request: CancelRequest) -> Result<Turn, Fault>;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Compares a generated text with its file, or rewrites it with `UPDATE=1`.
    fn compare(name: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, generated).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, generated, "schema/{name} differs: raise PROTOCOL_VERSION, UPDATE=1");
    }

    fn schema() -> serde_json::Value {
        let mut requests = schemars::schema_for!(SessdRequest).to_value();
        requests["x-protocol"] = crate::PROTOCOL_VERSION.into();
        requests["x-responses"] = schemars::schema_for!(SessdResponse).to_value();
        requests
    }

    #[test]
    fn shapes_change_only_with_the_protocol_version() {
        let text = serde_json::to_string_pretty(&schema()).unwrap();
        compare("rpc.schema.json", &(text + "\n"));
    }

    #[test]
    fn rpcs_are_append_only() {
        let schema = schema();
        let name = |variant: &serde_json::Value| {
            let properties = variant["properties"].as_object().unwrap();
            properties.keys().next().unwrap().clone() + "\n"
        };
        let order: String = schema["oneOf"].as_array().unwrap().iter().map(name).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/rpc.order");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(order.starts_with(&kept), "an RPC moved or vanished: append, never insert");
        compare("rpc.order", &order);
    }
}
