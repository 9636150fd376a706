//! Talks to an MCP server over streamable HTTP: each message is an HTTP request, and its response
//! is a JSON document or arrives in a stream of events. Knows no method of the protocol.

use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use serde_json::Value;
use sessd_proto::Environment;
use tokio::runtime::Handle;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body, Proxy, ProxyProtocol};

use super::{Channel, DEADLINE, RESPONSE_BYTES_MAX, Refusal, is_answer, one_line};

#[cfg(test)]
mod tests;

/// How long a server may take to end its session.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Addresses tried for one message, redirects included.
const ADDRESSES_MAX: usize = 4;

/// Limit for the body of an error response, in bytes.
const REASON_BYTES_MAX: u64 = 64 * 1024;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Lists the tools of a server, through the proxy that the environment names.
///
/// # Errors
/// Fails if the server cannot be reached, refuses or takes too long. The text may repeat what was
/// sent, secrets included.
pub(crate) async fn tools(
    url: &str,
    headers: &Environment,
    env: &Environment,
) -> Result<Vec<String>, Refusal> {
    let channel = Requests::new(url, headers, env, DEADLINE);
    channel.map_err(refusal)?.tools().await.map_err(refusal)
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal::NeedsAuth(error.to_string()),
        io::ErrorKind::TimedOut => Refusal::Failed("the server did not answer in time".to_owned()),
        _ => Refusal::Failed(error.to_string()),
    }
}

/// Requests to one server. They block the thread.
struct Requests {
    agent: Agent,
    address: Uri,
    headers: HeaderMap,
    ends_at: Instant,
    answers_left: u64,
}

impl Requests {
    fn new(
        url: &str,
        headers: &Environment,
        env: &Environment,
        deadline: Duration,
    ) -> io::Result<Self> {
        // The error does not repeat the URL, as there may be a key in it.
        let address = Uri::from_str(url).map_err(|_| io::Error::other("the url is invalid"))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy(&address, env)?)
            .user_agent(concat!("sessd/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        Ok(Self {
            agent: config.build().into(),
            address,
            headers: all_headers(headers)?,
            ends_at: Instant::now() + deadline,
            answers_left: RESPONSE_BYTES_MAX,
        })
    }

    async fn tools(mut self) -> io::Result<Vec<String>> {
        let runtime = Handle::current();
        let dialogue = move || {
            let tools = runtime.block_on(super::tools(&mut self));
            self.leave();
            tools
        };
        tokio::task::spawn_blocking(dialogue).await.map_err(io::Error::other)?
    }

    /// Sends a message, following redirects; fails if the server refuses it.
    fn post(&mut self, message: &Value) -> io::Result<Response<Body>> {
        for _ in 0..ADDRESSES_MAX {
            let time = self.ends_at.saturating_duration_since(Instant::now());
            let response = self.send(Method::POST, message.to_string(), time)?;
            match response.status() {
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    self.address = self.redirect_target(&response)?;
                }
                status if status.is_success() => {
                    if let Some(session) = response.headers().get(SESSION) {
                        self.headers.insert(SESSION, session.clone());
                    }
                    return Ok(response);
                }
                _ => return Err(refused(response)),
            }
        }
        Err(io::Error::other("too many redirects"))
    }

    fn send(
        &self,
        method: Method,
        body: impl AsSendBody,
        time: Duration,
    ) -> io::Result<Response<Body>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.address.clone();
        *request.headers_mut() = self.headers.clone();
        let request = self.agent.configure_request(request).timeout_global(Some(time)).build();
        self.agent.run(request).map_err(failure)
    }

    /// Returns the target of a redirect. Only another path of the same host is followed, as our
    /// headers may hold secrets.
    fn redirect_target(&self, response: &Response<Body>) -> io::Result<Uri> {
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = location.and_then(|to| Uri::from_str(to).ok()).map(Uri::into_parts);
        let mut parts = self.address.clone().into_parts();
        let to = to.filter(|to| {
            let is_same_scheme = to.scheme.is_none() || to.scheme == parts.scheme;
            let is_same_host = to.authority.is_none() || to.authority == parts.authority;
            is_same_scheme && is_same_host
        });
        let to = to.ok_or_else(|| io::Error::other("the server redirects to another host"))?;
        parts.path_and_query = to.path_and_query;
        Uri::from_parts(parts).map_err(io::Error::other)
    }

    /// Ends the session, if the server started one.
    fn leave(&self) {
        if self.headers.contains_key(SESSION) {
            // A server may refuse this and end its sessions by itself.
            let _ = self.send(Method::DELETE, (), LEAVE_TIMEOUT);
        }
    }
}

impl Channel for Requests {
    async fn ask(&mut self, request: &Value) -> io::Result<Value> {
        let body = self.post(request)?.into_body();
        let kind = body.mime_type().unwrap_or_default().to_ascii_lowercase();
        let mut body = body.into_reader().take(self.answers_left);
        let found = match &*kind {
            "application/json" => in_document(&mut body, request),
            "text/event-stream" => in_stream(BufReader::new(&mut body), request),
            "" => Err(io::Error::other("the response is empty")),
            other => Err(io::Error::other(format!("the response is {}", one_line(other)))),
        };
        self.answers_left = body.limit();
        match found.map_err(|error| failure(error.into()))? {
            Some(message) => Ok(message),
            None if self.answers_left == 0 => Err(io::Error::other("the response is too large")),
            None => Err(io::Error::other("the response does not answer the request")),
        }
    }

    async fn say(&mut self, notification: &Value) -> io::Result<()> {
        self.post(notification).map(drop)
    }

    fn agree(&mut self, version: &str) {
        if let Ok(version) = HeaderValue::from_str(version) {
            self.headers.insert(VERSION, version);
        }
    }
}

fn in_document(body: &mut impl Read, request: &Value) -> io::Result<Option<Value>> {
    let mut document = Vec::new();
    body.read_to_end(&mut document)?;
    let message = serde_json::from_slice(&document).ok();
    Ok(message.filter(|message| is_answer(message, request)))
}

/// Reads up to the response to `request`, as the stream may never end.
fn in_stream(mut stream: impl BufRead, request: &Value) -> io::Result<Option<Value>> {
    let (mut line, mut data) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let is_over = stream.read_until(b'\n', &mut line)? == 0;
        match line.trim_ascii_end() {
            [] => {
                match serde_json::from_slice(&data) {
                    Ok(message) if is_answer(&message, request) => return Ok(Some(message)),
                    _ => data.clear(),
                }
                if is_over {
                    return Ok(None);
                }
            }
            field => {
                if let Some(part) = field.strip_prefix(b"data:") {
                    data.extend_from_slice(part);
                    data.push(b'\n');
                }
            }
        }
    }
}

/// Returns the headers of every request: the configured ones, overridden by our own.
fn all_headers(configured: &Environment) -> io::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &configured.0 {
        let parsed = HeaderName::from_str(name).ok().zip(HeaderValue::from_str(value).ok());
        let (name, value) =
            parsed.ok_or_else(|| io::Error::other(format!("invalid header {name}")))?;
        headers.insert(name, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(ACCEPT, accept);
    Ok(headers)
}

/// Returns the proxy that the environment names for an address.
fn proxy(address: &Uri, env: &Environment) -> io::Result<Option<Proxy>> {
    let value = |name: &str| env.get(name).or_else(|| env.get(&name.to_ascii_lowercase()));
    let host = address.host().unwrap_or_default();
    let is_exempt = |pattern: &str| {
        let domain = pattern.trim_start_matches('*').trim_start_matches('.');
        let below = host.strip_suffix(domain);
        pattern == "*" || below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    };
    if value("NO_PROXY").is_some_and(|all| all.split(',').map(str::trim).any(is_exempt)) {
        return Ok(None);
    }
    let of_scheme =
        if address.scheme_str() == Some("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(named) = value(of_scheme).or_else(|| value("ALL_PROXY")) else { return Ok(None) };
    // The error does not repeat the address, as there may be a password in it.
    match Proxy::new(named) {
        Ok(proxy) => match proxy.protocol() {
            ProxyProtocol::Http | ProxyProtocol::Https => Ok(Some(proxy)),
            _ => Err(io::Error::other("SOCKS proxies are not supported")),
        },
        Err(_) => Err(io::Error::other("the address of the proxy is invalid")),
    }
}

/// Returns the error for an HTTP error response, with the reason in its body if there is one.
fn refused(response: Response<Body>) -> io::Error {
    let status = response.status();
    let mut said = Vec::new();
    let _ = response.into_body().into_reader().take(REASON_BYTES_MAX).read_to_end(&mut said);
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    let reason =
        reason(&String::from_utf8_lossy(&said)).map_or(String::new(), |it| format!(": {it}"));
    io::Error::new(kind, format!("the server answered {status}{reason}"))
}

/// Returns the reason in the body of an error response; `None` for an HTML page.
fn reason(said: &str) -> Option<String> {
    let json = serde_json::from_str::<Value>(said).unwrap_or_default();
    let told = ["/error/message", "/error_description", "/message", "/detail", "/error"];
    let told = told.iter().find_map(|place| json.pointer(place)?.as_str());
    let reason = one_line(told.unwrap_or(said));
    (!reason.is_empty() && !reason.starts_with('<')).then_some(reason)
}

/// Converts an error, dropping the URL, as there may be a key in it.
fn failure(error: ureq::Error) -> io::Error {
    match error {
        // Refused by the local machine, not by the server.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            io::Error::other(error)
        }
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(_) => io::ErrorKind::TimedOut.into(),
        ureq::Error::BadUri(_) => io::Error::other("the url is invalid"),
        other => io::Error::other(other.to_string()),
    }
}
