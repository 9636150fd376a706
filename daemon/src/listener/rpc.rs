//! The trait over the registry: one short method for each RPC, and the deadline of each call.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sessd_proto::agent::{AgentsRequest, AgentsResponse, ToolsRequest, ToolsResponse};
use sessd_proto::change::{ChangeResponse, SelectorsRequest, TagRequest, TitleRequest};
use sessd_proto::cleanup::{CleanupReport, CleanupRequest};
use sessd_proto::doctor::{DoctorReport, DoctorRequest, Finding, Level};
use sessd_proto::job::{Job, JobsRequest, JobsResponse, RunJobRequest};
use sessd_proto::key::{DropKeyRequest, KeyRequest, KeysRequest, KeysResponse};
use sessd_proto::launch::{
    CreateRequest, CreateResponse, EnvironmentRequest, Name, ResumeRequest, ResumeResponse,
};
use sessd_proto::peer::Peer;
use sessd_proto::provider::{ProvidersRequest, ProvidersResponse};
use sessd_proto::service::Sessd;
use sessd_proto::session::{CheckRequest, ListRequest, Session, SessionPage, ShowRequest};
use sessd_proto::status::{DaemonStatus, StatusRequest};
use sessd_proto::turn::{
    CancelRequest, SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnPage,
    TurnsRequest,
};
use sessd_proto::{Fault, FaultCode};
use tarpc::context::Context;

use super::Service;
use crate::failpoint;
use crate::jobs::Jobs;
use crate::registry::{Registry, status};

/// tarpc drops a handler at its deadline without a word; we answer this much before.
const MARGIN: Duration = Duration::from_millis(100);

/// What one connection may call, and who is at its other end.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) service: Arc<Service>,
    pub(super) peer: Peer,
}

impl Handler {
    /// Runs a call on the registry, unless the daemon is degraded.
    async fn call<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        context: Context,
        work: impl FnOnce(Arc<Registry>, Arc<Jobs>) -> F,
    ) -> Result<T, Fault> {
        failpoint::hang();
        let (registry, jobs) = self.service.ready()?;
        // Boxed: the future of any call would else be as large as that of the largest one, and
        // tarpc moves it a few times.
        let work = Box::pin(work(Arc::clone(&registry), jobs));
        let result = in_time(context, work).await;
        if result.as_ref().is_err_and(|fault| fault.code == FaultCode::RegistryDamaged) {
            registry.suspect();
        }
        result
    }
}

async fn in_time<T>(
    context: Context,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let left = context.deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left.saturating_sub(MARGIN), work).await {
        Ok(result) => result.inspect_err(|fault| {
            if fault.code == FaultCode::Internal {
                tracing::error!("{fault}");
            }
        }),
        Err(_) => Err(Fault::new(FaultCode::Deadline, "the daemon did not finish in time")
            .hint("it may be reading many sessions: `sessctl jobs`")),
    }
}

impl Sessd for Handler {
    async fn list(self, context: Context, request: ListRequest) -> Result<SessionPage, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.list(request).await }).await
    }

    async fn show(self, context: Context, request: ShowRequest) -> Result<Session, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.show(request).await }).await
    }

    async fn check(self, context: Context, request: CheckRequest) -> Result<SessionPage, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.check(request).await })
            .await
    }

    async fn resume(
        self,
        context: Context,
        request: ResumeRequest,
    ) -> Result<ResumeResponse, Fault> {
        let caller = self.peer.pid;
        self.call(
            context,
            |registry, _| async move { registry.launches.resume(request, caller).await },
        )
        .await
    }

    async fn environment(
        self,
        context: Context,
        request: EnvironmentRequest,
    ) -> Result<Vec<Name>, Fault> {
        self.call(context, |registry, _| async move {
            Ok(registry.launches.declared_environment(&request))
        })
        .await
    }

    async fn send(self, context: Context, request: SendRequest) -> Result<SendResponse, Fault> {
        let caller = self.peer.pid;
        self.call(context, |registry, _| async move { registry.turns.send(request, caller).await })
            .await
    }

    async fn turn_output(
        self,
        context: Context,
        request: TurnOutputRequest,
    ) -> Result<TurnOutput, Fault> {
        self.call(context, |registry, _| async move { registry.turns.output(request).await }).await
    }

    async fn providers(
        self,
        context: Context,
        _: ProvidersRequest,
    ) -> Result<ProvidersResponse, Fault> {
        self.call(context, |registry, _| async move { registry.providers().await }).await
    }

    async fn jobs(self, context: Context, _: JobsRequest) -> Result<JobsResponse, Fault> {
        self.call(context, |_, jobs| async move { jobs.list().await }).await
    }

    async fn run_job(self, context: Context, request: RunJobRequest) -> Result<Job, Fault> {
        self.call(context, |_, jobs| async move { jobs.run(request).await }).await
    }

    async fn status(self, context: Context, _: StatusRequest) -> Result<DaemonStatus, Fault> {
        match self.service.ready() {
            Ok((registry, _)) => in_time(context, registry.status()).await,
            Err(fault) => {
                let Service { paths, started_at, .. } = &*self.service;
                Ok(status::daemon_status(paths, *started_at, vec![fault.message]))
            }
        }
    }

    async fn doctor(self, context: Context, _: DoctorRequest) -> Result<DoctorReport, Fault> {
        match self.service.ready() {
            Ok((registry, _)) => in_time(context, registry.doctor()).await,
            Err(Fault { message, hint, .. }) => {
                let subject = "daemon".to_owned();
                let findings = vec![Finding { level: Level::Problem, subject, message, hint }];
                Ok(DoctorReport { findings })
            }
        }
    }

    async fn create(
        self,
        context: Context,
        request: CreateRequest,
    ) -> Result<CreateResponse, Fault> {
        self.call(context, |registry, _| async move { registry.launches.create(request).await })
            .await
    }

    async fn delete(
        self,
        context: Context,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.delete(request).await })
            .await
    }

    async fn undelete(
        self,
        context: Context,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.undelete(request).await })
            .await
    }

    async fn pin(
        self,
        context: Context,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.pin(request).await }).await
    }

    async fn unpin(
        self,
        context: Context,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.unpin(request).await })
            .await
    }

    async fn tag(self, context: Context, request: TagRequest) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.tag(request).await }).await
    }

    async fn untag(self, context: Context, request: TagRequest) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.untag(request).await })
            .await
    }

    async fn title(self, context: Context, request: TitleRequest) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.title(request).await })
            .await
    }

    async fn cleanup(
        self,
        context: Context,
        request: CleanupRequest,
    ) -> Result<CleanupReport, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.cleanup(request).await })
            .await
    }

    async fn keys(self, context: Context, request: KeysRequest) -> Result<KeysResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.keys(request).await }).await
    }

    async fn bind_key(
        self,
        context: Context,
        request: KeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.bind_key(request).await })
            .await
    }

    async fn move_key(
        self,
        context: Context,
        request: KeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.move_key(request).await })
            .await
    }

    async fn drop_key(
        self,
        context: Context,
        request: DropKeyRequest,
    ) -> Result<ChangeResponse, Fault> {
        self.call(context, |registry, _| async move { registry.sessions.drop_key(request).await })
            .await
    }

    async fn agents(self, context: Context, _: AgentsRequest) -> Result<AgentsResponse, Fault> {
        self.call(context, |registry, _| async move { Ok(registry.launches.agents()) }).await
    }

    async fn tools(self, context: Context, request: ToolsRequest) -> Result<ToolsResponse, Fault> {
        self.call(context, |registry, _| async move { registry.launches.tools(request).await })
            .await
    }

    async fn turns(self, context: Context, request: TurnsRequest) -> Result<TurnPage, Fault> {
        self.call(context, |registry, _| async move { registry.turns.list(request).await }).await
    }

    async fn cancel(self, context: Context, request: CancelRequest) -> Result<Turn, Fault> {
        self.call(context, |registry, _| async move { registry.turns.cancel(request).await }).await
    }
}
