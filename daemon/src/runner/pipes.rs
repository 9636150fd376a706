//! Pipes of a child process: hands out the lines of standard output, and keeps the end of
//! standard error. Knows neither processes nor sessions.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Cause, END_GRACE};

/// Bytes kept of the end of standard error.
const STDERR_BYTES_MAX: usize = 4096;

/// Longer lines are cut, in bytes. Even if every byte is replaced by a three-byte U+FFFD, such a
/// line fits into one response.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Writes the input and closes the pipe. A process that does not read it reports why by its exit
/// status, so errors are ignored.
pub(super) async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input.as_bytes()).await;
    }
}

/// Waits for the leader's end, and then for `grace`.
pub(super) async fn grace_after(mut end: watch::Receiver<()>, grace: Duration) {
    while end.changed().await.is_ok() {}
    sleep(grace).await;
}

/// Hands out lines until the pipe is closed, and returns true; or until [`END_GRACE`] after the
/// leader's end, and returns false. What the leader itself has written is read in any case,
/// however slow the receiver is.
pub(super) async fn hand_out(
    mut stdout: impl AsyncRead + Unpin,
    bytes_max: usize,
    lines: mpsc::Sender<Vec<String>>,
    end: watch::Receiver<()>,
) -> Result<bool, Cause> {
    let mut chunk = vec![0; 64 * 1024];
    let mut line = Vec::new();
    let mut total = 0;
    // Since then the pipe has only held what others wrote after the leader's end.
    let mut emptied = None;
    let is_closed = loop {
        if lines.is_closed() {
            return Err(Cause::ReceiverGone);
        }
        let has_ended = end.has_changed().is_err();
        let left =
            END_GRACE.saturating_sub(emptied.map_or(Duration::ZERO, |at: Instant| at.elapsed()));
        if left.is_zero() {
            break false;
        }
        let length = tokio::select! {
            biased;
            length = stdout.read(&mut chunk) => length.map_err(|_| Cause::Io)?,
            () = lines.closed() => return Err(Cause::ReceiverGone),
            () = grace_after(end.clone(), left) => break false,
        };
        if has_ended && length < chunk.len() {
            emptied.get_or_insert_with(Instant::now);
        }
        total += length;
        if total > bytes_max {
            return Err(Cause::Flood);
        }
        if length == 0 {
            break true;
        }
        let mut whole = Vec::new();
        let mut rest = &chunk[..length];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            push(&mut line, &rest[..end]);
            whole.push(String::from_utf8_lossy(&line).into_owned());
            line.clear();
            rest = &rest[end + 1..];
        }
        push(&mut line, rest);
        hand_over(whole, &lines).await;
    };
    if !line.is_empty() {
        hand_over(vec![String::from_utf8_lossy(&line).into_owned()], &lines).await;
    }
    Ok(is_closed)
}

fn push(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LINE_BYTES_MAX.saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

async fn hand_over(whole: Vec<String>, lines: &mpsc::Sender<Vec<String>>) {
    if !whole.is_empty() {
        // A receiver that is gone is noticed before the next read.
        let _ = lines.send(whole).await;
    }
}

/// Returns the kept bytes as text, without escape sequences, and without a first word whose
/// beginning was cut off.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace();
    let whole = match bytes.len() {
        STDERR_BYTES_MAX => bytes.iter().position(is_blank).unwrap_or_default(),
        _ => 0,
    };
    let text = String::from_utf8_lossy(&bytes[whole..]);
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| c.is_ascii_alphabetic()).map_or(piece.len(), |at| at + 1);
        plain.push_str(&piece[end..]);
    }
    plain.trim().to_owned()
}

/// Reads standard error to its end and keeps the last [`STDERR_BYTES_MAX`] bytes.
pub(super) async fn keep_end(stderr: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let mut chunk = vec![0; STDERR_BYTES_MAX];
    if let Some(mut stderr) = stderr {
        while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
            kept.extend_from_slice(&chunk[..length]);
            kept.drain(..kept.len().saturating_sub(STDERR_BYTES_MAX));
        }
    }
}
