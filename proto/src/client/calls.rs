//! One typed method for each RPC, with its deadline. Knows no socket.

use std::time::Duration;

use super::Client;
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
use crate::service::{DEADLINE_MS, STEAL_MS, SessdRequest, SessdResponse};
use crate::session::{CheckRequest, ListRequest, Session, SessionPage, ShowRequest};
use crate::status::{DaemonStatus, StatusRequest};
use crate::turn::{
    CancelRequest, SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnPage,
    TurnsRequest,
};

/// One typed method for each RPC; the deadline follows from the request.
macro_rules! calls {
    ($($name:ident: $variant:ident($request:ty) -> $answer:ty),+ $(,)?) => {
        impl Client {$(
            #[doc = concat!("The RPC [`", stringify!($name), "`](crate::service::Sessd::",
                stringify!($name), ").")]
            ///
            /// # Errors
            /// The fault that the daemon returned, or why there is no response.
            pub fn $name(&mut self, request: $request) -> Result<$answer, Fault> {
                let deadline = Duration::from_millis(request.deadline_ms());
                match self.call(SessdRequest::$variant { request }, deadline)? {
                    SessdResponse::$variant(answer) => answer,
                    _ => Err(Fault::internal("the response belongs to another call")),
                }
            }
        )+}
    };
}

/// The deadline of a request.
trait Deadline {
    /// Returns the time that the daemon may take, in milliseconds.
    fn deadline_ms(&self) -> u64 {
        DEADLINE_MS
    }
}

impl Deadline for ListRequest {}
impl Deadline for ShowRequest {}
impl Deadline for EnvironmentRequest {}
impl Deadline for ProvidersRequest {}
impl Deadline for JobsRequest {}
impl Deadline for StatusRequest {}
impl Deadline for DoctorRequest {}
impl Deadline for CreateRequest {}
impl Deadline for SelectorsRequest {}
impl Deadline for TagRequest {}
impl Deadline for TitleRequest {}
impl Deadline for TurnsRequest {}
impl Deadline for KeysRequest {}
impl Deadline for KeyRequest {}
impl Deadline for DropKeyRequest {}
impl Deadline for AgentsRequest {}

/// Stealing a lease waits for a process to end.
impl Deadline for ResumeRequest {
    fn deadline_ms(&self) -> u64 {
        let stealing = if self.steal { STEAL_MS } else { 0 };
        DEADLINE_MS + stealing + u64::from(self.wait_ms)
    }
}

impl Deadline for SendRequest {
    fn deadline_ms(&self) -> u64 {
        DEADLINE_MS + if self.steal { STEAL_MS } else { 0 }
    }
}

/// A process may need a few seconds to end.
impl Deadline for CancelRequest {
    fn deadline_ms(&self) -> u64 {
        3 * DEADLINE_MS
    }
}

impl Deadline for TurnOutputRequest {
    fn deadline_ms(&self) -> u64 {
        DEADLINE_MS + u64::from(self.wait_ms)
    }
}

/// A check reads transcripts.
impl Deadline for CheckRequest {
    fn deadline_ms(&self) -> u64 {
        12 * DEADLINE_MS
    }
}

/// Starts a provider and its MCP servers.
impl Deadline for ToolsRequest {
    fn deadline_ms(&self) -> u64 {
        12 * DEADLINE_MS
    }
}

impl Deadline for CleanupRequest {
    fn deadline_ms(&self) -> u64 {
        12 * DEADLINE_MS
    }
}

/// A job may read whole homes.
impl Deadline for RunJobRequest {
    fn deadline_ms(&self) -> u64 {
        120 * DEADLINE_MS
    }
}

calls! {
    list: List(ListRequest) -> SessionPage,
    show: Show(ShowRequest) -> Session,
    check: Check(CheckRequest) -> SessionPage,
    resume: Resume(ResumeRequest) -> ResumeResponse,
    environment: Environment(EnvironmentRequest) -> Vec<Name>,
    send: Send(SendRequest) -> SendResponse,
    turn_output: TurnOutput(TurnOutputRequest) -> TurnOutput,
    providers: Providers(ProvidersRequest) -> ProvidersResponse,
    jobs: Jobs(JobsRequest) -> JobsResponse,
    run_job: RunJob(RunJobRequest) -> Job,
    status: Status(StatusRequest) -> DaemonStatus,
    doctor: Doctor(DoctorRequest) -> DoctorReport,
    create: Create(CreateRequest) -> CreateResponse,
    delete: Delete(SelectorsRequest) -> ChangeResponse,
    undelete: Undelete(SelectorsRequest) -> ChangeResponse,
    pin: Pin(SelectorsRequest) -> ChangeResponse,
    unpin: Unpin(SelectorsRequest) -> ChangeResponse,
    tag: Tag(TagRequest) -> ChangeResponse,
    untag: Untag(TagRequest) -> ChangeResponse,
    title: Title(TitleRequest) -> ChangeResponse,
    cleanup: Cleanup(CleanupRequest) -> CleanupReport,
    keys: Keys(KeysRequest) -> KeysResponse,
    bind_key: BindKey(KeyRequest) -> ChangeResponse,
    move_key: MoveKey(KeyRequest) -> ChangeResponse,
    drop_key: DropKey(DropKeyRequest) -> ChangeResponse,
    agents: Agents(AgentsRequest) -> AgentsResponse,
    tools: Tools(ToolsRequest) -> ToolsResponse,
    turns: Turns(TurnsRequest) -> TurnPage,
    cancel: Cancel(CancelRequest) -> Turn,
}
