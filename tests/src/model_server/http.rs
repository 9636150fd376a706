//! The part of HTTP/1.1 that the CLIs need: one request per connection, and JSON or server-sent
//! events as the response. Knows nothing of models.

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
    /// Split into the parts between which the server may pause.
    body: Vec<String>,
    /// The duration of each pause, in seconds.
    pause_s: f64,
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
    /// Returns a response with one JSON document.
    pub(super) fn json(body: &Value) -> Self {
        Self::of("application/json", vec![body.to_string()])
    }

    /// Returns a response with server-sent events in these bursts. An event is named by its `type`,
    /// if it has one.
    pub(super) fn events(bursts: &[Vec<Value>]) -> Self {
        let named = |event: &Value| match event["type"].as_str() {
            Some(name) => format!("event: {name}\ndata: {event}\n\n"),
            None => format!("data: {event}\n\n"),
        };
        let body = bursts.iter().map(|burst| burst.iter().map(named).collect()).collect();
        Self::of("text/event-stream", body)
    }

    /// Returns a response with status 200 that is not from a model, as of a proxy's login page.
    pub(super) fn garbage() -> Self {
        Self::of("text/html", vec!["<html><body>please log in</body></html>".to_owned()])
    }

    fn of(content_type: &'static str, body: Vec<String>) -> Self {
        Self { status: 200, content_type, body, pause_s: 0.0, retry_after: None }
    }

    /// True if the response is sent in one go.
    pub(super) fn is_whole(&self) -> bool {
        self.body.len() == 1
    }

    /// Returns the same response with pauses of this length between its parts.
    pub(super) fn with_pauses(self, pause_s: f64) -> Self {
        Self { pause_s, ..self }
    }

    /// Returns a failure in the form that all services share, with the retry time in the form of
    /// each of them.
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

    /// Writes the response, without the body if only the head was asked for. Calls `pause` between
    /// two parts of the body, and breaks off if it returns false.
    pub(super) fn write(
        &self,
        mut stream: &TcpStream,
        head_only: bool,
        mut pause: impl FnMut(f64) -> bool,
    ) -> io::Result<()> {
        let Self { status, content_type, body, pause_s, retry_after } = self;
        let mut head =
            format!("HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\nconnection: close\r\n",);
        if let Some(seconds) = retry_after {
            head += &format!("retry-after: {seconds}\r\n");
        }
        let in_parts = body.len() > 1;
        head += &match in_parts {
            true => "transfer-encoding: chunked\r\n\r\n".to_owned(),
            false => format!("content-length: {}\r\n\r\n", body.concat().len()),
        };
        if head_only {
            return stream.write_all(head.as_bytes());
        }
        for (index, part) in body.iter().enumerate() {
            if index > 0 && !pause(*pause_s) {
                return Ok(());
            }
            let chunk = match in_parts {
                true => format!("{:x}\r\n{part}\r\n", part.len()),
                false => part.clone(),
            };
            stream.write_all((std::mem::take(&mut head) + &chunk).as_bytes())?;
        }
        if in_parts { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
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
