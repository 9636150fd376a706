//! Refuses a client in its own dialect and closes the connection so that the answer arrives.
//! Knows no RPC, and reads nothing of what was asked.
//!
//! The kernel resets a connection that is closed with unread input, and a client that sees the
//! reset first may never read the answer. So the sending side is shut down, and what the client
//! still sends is dropped until it hangs up, within limits of time and size.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the client may take to hang up after it was refused.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of its input is dropped before the connection is closed, in bytes.
const DRAIN_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Sends a 501 response whose body `curl` prints.
pub(super) async fn http(mut stream: UnixStream) -> io::Result<()> {
    let body = "sessd does not speak HTTP on this socket yet; use `sessctl`.\n";
    let answer = format!(
        "HTTP/1.1 501 Not Implemented\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    close(stream).await
}

/// Sends one JSON-RPC error.
pub(super) async fn json_rpc(mut stream: UnixStream) -> io::Result<()> {
    let message = "sessd does not speak JSON-RPC on this socket yet; use `sessctl`";
    let error = serde_json::json!({ "code": -32000, "message": message });
    let answer = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error });
    stream.write_all(format!("{answer}\n").as_bytes()).await?;
    close(stream).await
}

/// Closes a connection after what was written to it has been read, or after a while.
pub(super) async fn close(mut stream: UnixStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(DRAIN_BYTES_MAX);
    let _ = timeout(DRAIN_TIMEOUT, copy(&mut rest, &mut sink())).await;
    Ok(())
}
