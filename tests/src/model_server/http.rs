//! As much of HTTP/1.1 as the CLIs need: one request per connection, JSON or server-sent
//! events back. Knows nothing of models.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// A request with its whole body.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// A response with its whole body.
pub(super) struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
    /// Seconds after which the client may try again.
    retry_after: Option<u32>,
}

impl Request {
    /// Reads the one request of a connection.
    pub(super) fn read(stream: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let start = line(&mut reader)?;
        let mut words = start.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (mut length, mut chunked) = (0, false);
        loop {
            let header = line(&mut reader)?.to_ascii_lowercase();
            match header.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(("expect", _)) => (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                Some(_) => {}
                None => break,
            }
        }
        let body = if chunked { read_chunks(&mut reader)? } else { take(&mut reader, length)? };
        Ok(Self { method, path, body })
    }
}

impl Response {
    /// One JSON document.
    pub(super) fn json(body: &Value) -> Self {
        let body = body.to_string();
        Self { status: 200, content_type: "application/json", body, retry_after: None }
    }

    /// Server-sent events, each named by its `type` where it has one.
    pub(super) fn events(events: &[Value]) -> Self {
        let mut body = String::new();
        for event in events {
            if let Some(name) = event["type"].as_str() {
                body += &format!("event: {name}\n");
            }
            body += &format!("data: {event}\n\n");
        }
        Self { status: 200, content_type: "text/event-stream", body, retry_after: None }
    }

    /// Success that is none, as of a proxy that asks for a login.
    pub(super) fn garbage() -> Self {
        let body = "<html><body>please log in</body></html>".to_owned();
        Self { status: 200, content_type: "text/html", body, retry_after: None }
    }

    /// A failure, in the form that all services have in common, with what each of them says
    /// about when to try again.
    pub(super) fn failure(status: u16, retry_after: Option<u32>) -> Self {
        let mut message = format!("the model server answers {status}");
        let mut details = json!([]);
        if let Some(seconds) = retry_after {
            message += &format!(". Please try again in {seconds}s.");
            let kind = "type.googleapis.com/google.rpc.RetryInfo";
            details = json!([{"@type": kind, "retryDelay": format!("{seconds}s")}]);
        }
        let error = json!({
            "type": "api_error", "code": status, "message": message, "details": details,
        });
        let body = json!({"type": "error", "error": error});
        Self { status, retry_after, ..Self::json(&body) }
    }

    /// Writes it, without the body if only the head was asked for.
    pub(super) fn write(&self, mut stream: &TcpStream, head_only: bool) -> io::Result<()> {
        let Self { status, content_type, body, retry_after } = self;
        let mut message = format!(
            "HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
             connection: close\r\n",
            body.len(),
        );
        if let Some(seconds) = retry_after {
            message += &format!("retry-after: {seconds}\r\n");
        }
        message += "\r\n";
        if !head_only {
            message += body;
        }
        stream.write_all(message.as_bytes())
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn take(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        body.extend(take(reader, size)?);
        line(reader)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
