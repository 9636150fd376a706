//! Frames of one connection, with timeouts: a frame that has started must be completed, and a
//! client must read what is written. Knows no RPC.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sessd_proto::codec::{self, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use tarpc::ServerError;
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

/// How long a client may take to complete a frame.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

type Frames = Framed<UnixStream, Codec>;

/// Length-prefixed frames with a size limit for each direction.
struct Codec {
    inbound: LengthDelimitedCodec,
    outbound: LengthDelimitedCodec,
}

impl Decoder for Codec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.inbound.decode(bytes)
    }
}

impl Encoder<Bytes> for Codec {
    type Error = io::Error;

    fn encode(&mut self, body: Bytes, bytes: &mut BytesMut) -> io::Result<()> {
        self.outbound.encode(body, bytes)
    }
}

/// Reads frames of `In` and writes frames of `Out`.
pub(super) struct Transport<In, Out> {
    frames: Frames,
    reading: Timeout,
    writing: Timeout,
    types: PhantomData<fn(Out) -> In>,
}

/// A timeout that runs only while something is unfinished.
struct Timeout {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    running: bool,
}

impl Timeout {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: Box::pin(sleep(limit)), running: false }
    }

    fn stop(&mut self) {
        self.running = false;
    }

    /// Starts the timeout if it is not running; fails with `what` once it has passed.
    fn poll(&mut self, cx: &mut Context<'_>, what: &str) -> io::Result<()> {
        if !self.running {
            self.running = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, what)),
        }
    }
}

impl<In, Out> Transport<In, Out> {
    /// Wraps a socket on which prefaces have been exchanged.
    #[must_use]
    pub(super) fn new(stream: UnixStream) -> Self {
        let limit = |bytes| LengthDelimitedCodec::builder().max_frame_length(bytes).new_codec();
        let codec =
            Codec { inbound: limit(REQUEST_BYTES_MAX), outbound: limit(RESPONSE_BYTES_MAX) };
        Self {
            frames: Framed::new(stream, codec),
            reading: Timeout::new(FRAME_TIMEOUT),
            writing: Timeout::new(WRITE_TIMEOUT),
            types: PhantomData,
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        poll: fn(Pin<&mut Frames>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let polled = poll(Pin::new(&mut self.frames), cx);
        if polled.is_ready() {
            self.writing.stop();
        } else {
            self.writing.poll(cx, "the client does not read")?;
        }
        polled
    }
}

impl<In: DeserializeOwned, Out> Stream for Transport<In, Out> {
    type Item = io::Result<In>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.frames).poll_next(cx) {
            Poll::Ready(frame) => {
                self.reading.stop();
                Poll::Ready(frame.map(|frame| codec::decode_request(&frame?)))
            }
            Poll::Pending if self.frames.read_buffer().is_empty() => {
                self.reading.stop();
                Poll::Pending
            }
            Poll::Pending => {
                self.reading.poll(cx, "a frame did not complete")?;
                Poll::Pending
            }
        }
    }
}

impl<In, Out: Serialize> Sink<tarpc::Response<Out>> for Transport<In, Out> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, Sink::<Bytes>::poll_ready)
    }

    fn start_send(mut self: Pin<&mut Self>, response: tarpc::Response<Out>) -> io::Result<()> {
        let mut body = codec::encode(&response)?;
        if body.len() > RESPONSE_BYTES_MAX {
            let what = codec::TOO_LARGE.to_owned();
            body = codec::encode(&tarpc::Response::<Out> {
                request_id: response.request_id,
                message: Err(ServerError::new(io::ErrorKind::InvalidData, what)),
            })?;
        }
        Pin::new(&mut self.frames).start_send(body)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, Sink::<Bytes>::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, Sink::<Bytes>::poll_close)
    }
}
