//! The protocol: every RPC, in wire order.
//!
//! RPCs are append-only, because their order is their number on the wire. Each takes exactly one
//! request struct and returns a value or a [`Fault`]. The tests compare order and types with the
//! files in `schema/`; after a change of a type, raise [`crate::PROTOCOL_VERSION`] and run
//! `UPDATE=1 cargo test -p sessd-proto`.
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

/// Maximum deadline that a caller may set for a request, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 3_600_000;

/// Deadline of every call that is not a long poll, in milliseconds.
pub const DEADLINE_MS: u64 = 5_000;

/// Maximum waiting time of a long poll, in milliseconds.
pub const WAIT_MS_MAX: u32 = 60_000;

/// Time that `resume` with `steal` gives a process to exit, in milliseconds.
pub const STEAL_MS: u64 = 10_000;

/// The RPCs of sessd.
///
/// # Errors
/// Besides the faults listed with each RPC, any of them can return `storage`, `registry_damaged`
/// or `registry_newer` if the registry cannot be read or written, `deadline` if it takes too long,
/// `throttled` if too many requests are in flight, and `internal`. RPCs that take a selector can
/// return `usage` (malformed), `not_found` and `ambiguous`.
#[tarpc::service(derive = [Clone, Serialize, Deserialize, JsonSchema])]
pub trait Sessd {
    /// Returns one page of sessions.
    ///
    /// Faults: `usage` (limit or cursor not valid), `environment` (the disk of `project` does not
    /// respond).
    async fn list(request: ListRequest) -> Result<SessionPage, Fault>;
    /// Returns one session.
    async fn show(request: ShowRequest) -> Result<Session, Fault>;
    /// Checks sessions now, without a model call, and returns them with the result.
    ///
    /// Faults: `usage` (limit or cursor not valid).
    async fn check(request: CheckRequest) -> Result<SessionPage, Fault>;
    /// Checks a session, gives its lease to the calling process, and returns the launch plan.
    ///
    /// Faults: `usage` (neither selector nor project), `busy`, `not_resumable`,
    /// `directory_missing`, `status_unknown`, `unsupported`, `config_invalid`, `environment`.
    async fn resume(request: ResumeRequest) -> Result<ResumeResponse, Fault>;
    /// Returns the names of the environment variables that callers should send with requests.
    async fn environment(request: EnvironmentRequest) -> Result<Vec<Name>, Fault>;
    /// Accepts a prompt and queues it as a turn; `turn_output` reads the output.
    ///
    /// Faults: those of `resume` and `create`, for a session that is resumed or started; `usage`
    /// (empty or oversized prompt, id not valid or in use for another prompt), `unsupported` (the
    /// provider takes no prompts). How the turn ends is in its own fault.
    async fn send(request: SendRequest) -> Result<SendResponse, Fault>;
    /// Waits for output of a turn and returns it.
    ///
    /// Faults: `not_found`, `ambiguous` (turn).
    async fn turn_output(request: TurnOutputRequest) -> Result<TurnOutput, Fault>;
    /// Returns every provider with its homes and capabilities.
    async fn providers(request: ProvidersRequest) -> Result<ProvidersResponse, Fault>;
    /// Returns every job with its last result.
    async fn jobs(request: JobsRequest) -> Result<JobsResponse, Fault>;
    /// Runs a job now, after a run that is in progress, and returns its result.
    ///
    /// Faults: `not_found` (job).
    async fn run_job(request: RunJobRequest) -> Result<Job, Fault>;
    /// Returns the daemon's status: pid, version, counters, problems.
    async fn status(request: StatusRequest) -> Result<DaemonStatus, Fault>;
    /// Returns diagnostics of the environment: PATH, programs, homes, permissions, clock.
    async fn doctor(request: DoctorRequest) -> Result<DoctorReport, Fault>;
    /// Registers a new session, which `resume` will start.
    ///
    /// Faults: `usage` (id is not a UUID), `not_found` (agent), `config_invalid`, `unsupported`
    /// (the provider lacks what the agent asks for), `environment` (no home, or the disk of `cwd`
    /// does not respond).
    async fn create(request: CreateRequest) -> Result<CreateResponse, Fault>;
    /// Moves sessions to the trash; their transcripts are kept.
    ///
    /// Faults: `usage` (pinned), `busy`.
    async fn delete(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Takes sessions out of the trash, and lifts an expired time to live.
    ///
    /// Faults: `busy`.
    async fn undelete(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Pins sessions: no cleanup removes them.
    async fn pin(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Removes the pin from sessions.
    async fn unpin(request: SelectorsRequest) -> Result<ChangeResponse, Fault>;
    /// Adds tags to a session.
    ///
    /// Faults: `usage` (tag not valid).
    async fn tag(request: TagRequest) -> Result<ChangeResponse, Fault>;
    /// Removes tags from a session.
    async fn untag(request: TagRequest) -> Result<ChangeResponse, Fault>;
    /// Sets the title of a session, or restores the provider's.
    ///
    /// Faults: `usage` (title not valid).
    async fn title(request: TitleRequest) -> Result<ChangeResponse, Fault>;
    /// Runs a cleanup now, or returns what it would do.
    async fn cleanup(request: CleanupRequest) -> Result<CleanupReport, Fault>;
    /// Returns one page of keys.
    ///
    /// Faults: `usage` (limit not valid).
    async fn keys(request: KeysRequest) -> Result<KeysResponse, Fault>;
    /// Gives a session a new key.
    ///
    /// Faults: `usage` (key not valid, or already the key of another session).
    async fn bind_key(request: KeyRequest) -> Result<ChangeResponse, Fault>;
    /// Points a key to another session.
    ///
    /// Faults: `usage` (key not valid), `not_found` (key).
    async fn move_key(request: KeyRequest) -> Result<ChangeResponse, Fault>;
    /// Removes a key, and returns the session that it pointed to, if any.
    ///
    /// Faults: `usage` (key not valid).
    async fn drop_key(request: DropKeyRequest) -> Result<ChangeResponse, Fault>;
    /// Returns every agent.
    async fn agents(request: AgentsRequest) -> Result<AgentsResponse, Fault>;
    /// Starts an agent or a session, without a model call, and returns the tools that it has.
    ///
    /// Faults: `provider_failed`, `config_invalid`, `unsupported`, `environment`.
    async fn tools(request: ToolsRequest) -> Result<ToolsResponse, Fault>;
    /// Returns one page of turns.
    ///
    /// Faults: `usage` (limit or cursor not valid), `not_found`, `ambiguous` (turn).
    async fn turns(request: TurnsRequest) -> Result<TurnPage, Fault>;
    /// Stops a queued or running turn, and returns it; a turn that has ended is not changed.
    ///
    /// Faults: `not_found`, `ambiguous` (turn).
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
        assert_eq!(kept, generated, "schema/{name} is out of date: run with UPDATE=1");
    }

    fn schema() -> serde_json::Value {
        let mut requests = schemars::schema_for!(SessdRequest).to_value();
        requests["x-protocol"] = crate::PROTOCOL_VERSION.into();
        requests["x-responses"] = schemars::schema_for!(SessdResponse).to_value();
        requests
    }

    #[test]
    fn schema_file_matches_the_types() {
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
        assert!(order.starts_with(&kept), "an RPC was moved or removed; RPCs are append-only");
        compare("rpc.order", &order);
    }
}
