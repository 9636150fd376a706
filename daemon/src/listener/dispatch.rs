//! From a request to its response, for every dialect: the deadline, the degraded state, the
//! caller and the log in one place, and a table with one line per RPC. Knows no bytes.
//!
//! An adapter decodes a [`SessdRequest`], calls [`Dispatch::call`] and encodes the
//! [`SessdResponse`]. It never sees the registry, so a new dialect cannot forget a rule.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use sessd_proto::doctor::{DoctorReport, Finding, Level};
use sessd_proto::peer::Peer;
use sessd_proto::service::{SessdRequest, SessdResponse};
use sessd_proto::{Fault, FaultCode};

use super::Service;
use crate::failpoint;
use crate::jobs::Jobs;
use crate::registry::{Registry, status};

/// Calls for the client of one connection.
#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) service: Arc<Service>,
    pub(super) caller: Peer,
}

/// The work of a request. Boxed: the future of any call would else be as large as that of the
/// largest one, and tarpc moves it a few times.
type Work = Pin<Box<dyn Future<Output = SessdResponse> + Send>>;

impl Dispatch {
    /// Returns the response to a request: what its RPC returned, or a fault if the daemon is
    /// degraded or the deadline passes first.
    pub(super) async fn call(&self, request: SessdRequest, deadline: Instant) -> SessdResponse {
        failpoint::hang();
        let refuse = refusal(&request);
        let (registry, jobs) = match self.service.ready() {
            Ok(ready) => ready,
            Err(fault) => return self.respond_without_registry(&request, fault),
        };
        let work = work(Arc::clone(&registry), jobs, self.caller.pid, request);
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(response) => {
                note(&registry, fault(&response));
                response
            }
            Err(_) => refuse(
                Fault::new(FaultCode::Deadline, "the daemon did not finish in time")
                    .hint("it may be reading many sessions: `sessctl jobs`"),
            ),
        }
    }

    /// Returns what can be said without a registry: `status` and `doctor` name the fault as a
    /// problem of the daemon, every other RPC fails with it.
    fn respond_without_registry(&self, request: &SessdRequest, fault: Fault) -> SessdResponse {
        match request {
            SessdRequest::Status { .. } => {
                let Service { paths, started_at, .. } = &*self.service;
                let problems = vec![fault.message];
                SessdResponse::Status(Ok(status::daemon_status(paths, *started_at, problems)))
            }
            SessdRequest::Doctor { .. } => {
                let Fault { message, hint, .. } = fault;
                let subject = "daemon".to_owned();
                let findings = vec![Finding { level: Level::Problem, subject, message, hint }];
                SessdResponse::Doctor(Ok(DoctorReport { findings }))
            }
            other => refusal(other)(fault),
        }
    }
}

/// Logs internal errors, and has the registry examine its file after signs of damage.
fn note(registry: &Registry, fault: Option<&Fault>) {
    let Some(fault) = fault else { return };
    match fault.code {
        FaultCode::Internal => tracing::error!("{fault}"),
        FaultCode::RegistryDamaged => registry.suspect(),
        _ => {}
    }
}

/// Generates the functions that treat all RPCs alike from the table of what each one runs.
macro_rules! rpcs {
    (
        ($registry:ident, $jobs:ident, $caller:ident)
        $($rpc:ident($request:pat) => $work:expr,)+
    ) => {
        /// Returns the work of a request, not yet started. `caller` is a process id.
        fn work(
            $registry: Arc<Registry>,
            $jobs: Arc<Jobs>,
            $caller: u32,
            request: SessdRequest,
        ) -> Work {
            match request {$(
                SessdRequest::$rpc { request: $request } => {
                    Box::pin(async move { SessdResponse::$rpc($work) })
                }
            )+}
        }

        /// Returns a function that makes a fault the response to this request.
        fn refusal(request: &SessdRequest) -> fn(Fault) -> SessdResponse {
            match request {$(
                SessdRequest::$rpc { .. } => |fault| SessdResponse::$rpc(Err(fault)),
            )+}
        }

        /// Returns the fault that a response carries, if it does.
        fn fault(response: &SessdResponse) -> Option<&Fault> {
            match response {$(
                SessdResponse::$rpc(result) => result.as_ref().err(),
            )+}
        }
    };
}

rpcs! {
    (registry, jobs, caller)
    List(request) => registry.sessions.list(request).await,
    Show(request) => registry.sessions.show(request).await,
    Check(request) => registry.sessions.check(request).await,
    Resume(request) => registry.launches.resume(request, caller).await,
    Environment(request) => Ok(registry.launches.declared_environment(&request)),
    Send(request) => registry.turns.send(request, caller).await,
    TurnOutput(request) => registry.turns.output(request).await,
    Providers(_) => registry.providers().await,
    Jobs(_) => jobs.list().await,
    RunJob(request) => jobs.run(request).await,
    Status(_) => registry.status().await,
    Doctor(_) => registry.doctor().await,
    Create(request) => registry.launches.create(request).await,
    Delete(request) => registry.sessions.delete(request).await,
    Undelete(request) => registry.sessions.undelete(request).await,
    Pin(request) => registry.sessions.pin(request).await,
    Unpin(request) => registry.sessions.unpin(request).await,
    Tag(request) => registry.sessions.tag(request).await,
    Untag(request) => registry.sessions.untag(request).await,
    Title(request) => registry.sessions.title(request).await,
    Cleanup(request) => registry.sessions.cleanup(request).await,
    Keys(request) => registry.sessions.keys(request).await,
    BindKey(request) => registry.sessions.bind_key(request).await,
    MoveKey(request) => registry.sessions.move_key(request).await,
    DropKey(request) => registry.sessions.drop_key(request).await,
    Agents(_) => Ok(registry.launches.agents()),
    Tools(request) => registry.launches.tools(request).await,
    Turns(request) => registry.turns.list(request).await,
    Cancel(request) => registry.turns.cancel(request).await,
}
