//! The dialect of `sessctl` and of Rust tools: a preface each way, then tarpc in bincode.
//! Reaches the registry only through [`Dispatch`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sessd_proto::preface::{self, Preface};
use sessd_proto::service::{SessdRequest, SessdResponse};
use tarpc::ServerError;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel, Serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::connections::Traffic;
use super::dispatch::Dispatch;

mod transport;

/// Requests of one connection at the same time.
const REQUESTS_MAX: usize = 32;

/// tarpc drops a request at its deadline without an answer, so ours is given this much earlier.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

/// Reads the rest of a preface whose first byte was read, and sends ours. Returns true if the
/// client speaks our protocol; a client of another one learns from our preface what is wrong.
///
/// # Errors
/// Fails if the connection ends early, or if what was sent is not a preface.
pub(super) async fn greet(stream: &mut UnixStream, is_busy: bool) -> io::Result<bool> {
    let mut bytes = [preface::FIRST_BYTE; preface::LENGTH];
    stream.read_exact(&mut bytes[1..]).await?;
    let client = Preface::from_bytes(bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a preface"))?;
    stream.write_all(&Preface::current(is_busy).to_bytes()).await?;
    Ok(client.protocol == sessd_proto::PROTOCOL_VERSION)
}

/// Serves the requests of a client that speaks our protocol until it hangs up.
pub(super) async fn serve(dispatch: Dispatch, stream: UnixStream, traffic: &Arc<Traffic>) {
    let channel = BaseChannel::with_defaults(transport::Transport::new(stream));
    let requests = channel.max_concurrent_requests(REQUESTS_MAX).execute(dispatch);
    tokio::pin!(requests);
    while let Some(request) = requests.next().await {
        tokio::spawn(Arc::clone(traffic).run(request));
    }
}

impl Serve for Dispatch {
    type Req = SessdRequest;
    type Resp = SessdResponse;

    async fn serve(
        self,
        context: Context,
        request: SessdRequest,
    ) -> Result<SessdResponse, ServerError> {
        let deadline = context.deadline;
        let deadline = deadline.checked_sub(DEADLINE_MARGIN).unwrap_or(deadline);
        Ok(self.call(request, deadline).await)
    }
}
