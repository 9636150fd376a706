//! Pipes of a child process: its lines are handed out, of its standard error the end is kept.
//! Knows neither processes nor sessions.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Cause, PATIENCE};

/// The end of standard error that is kept, in bytes.
const STDERR_BYTES_MAX: usize = 4096;

/// A longer line is cut, in bytes: with everything that is no text in it replaced, it still fits
/// into one answer.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Returns so long after the leader's end.
pub(super) async fn patience(mut end: watch::Receiver<()>, left: Duration) {
    while end.changed().await.is_ok() {}
    sleep(left).await;
}

/// Answers whether the pipe was closed. After the leader's end that is not waited for long, but
/// what the leader has left in it is read however long the listener takes.
pub(super) async fn hand_out(
    mut stdout: impl AsyncRead + Unpin,
    bytes_max: usize,
    lines: mpsc::Sender<Vec<String>>,
    end: watch::Receiver<()>,
) -> Result<bool, Cause> {
    let mut chunk = vec![0; 64 * 1024];
    let mut line = Vec::new();
    let mut total = 0;
    // Since when there can be only what others have written since the leader's end.
    let mut emptied = None;
    let is_closed = loop {
        if lines.is_closed() {
            return Err(Cause::Unheard);
        }
        let has_ended = end.has_changed().is_err();
        let left =
            PATIENCE.saturating_sub(emptied.map_or(Duration::ZERO, |at: Instant| at.elapsed()));
        if left.is_zero() {
            break false;
        }
        let length = tokio::select! {
            biased;
            length = stdout.read(&mut chunk) => length.map_err(|_| Cause::Io)?,
            () = lines.closed() => return Err(Cause::Unheard),
            () = patience(end.clone(), left) => break false,
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
        // That nobody listens any more is seen before the next read.
        let _ = lines.send(whole).await;
    }
}

/// What was said, without the colours that some give it even where nobody sees them, and without
/// the rest of a word whose beginning was not kept.
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

pub(super) async fn keep_end(stderr: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let mut chunk = vec![0; STDERR_BYTES_MAX];
    if let Some(mut stderr) = stderr {
        while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
            kept.extend_from_slice(&chunk[..length]);
            kept.drain(..kept.len().saturating_sub(STDERR_BYTES_MAX));
        }
    }
}
