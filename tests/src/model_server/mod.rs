//! A model server on the loopback interface: speaks the four wire formats of the real CLIs, repeats
//! the prompts that it was given, and records every request. Knows no CLI.

mod call;
mod dialect;
mod http;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

use dialect::{Dialect, answer, aside, directive, is_aside};
use http::{Request, Response};
use serde_json::{Value, json};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The time at which its last byte was read.
    pub at: SystemTime,
    /// The body, `null` if it is not JSON.
    pub body: Value,
}

impl Recorded {
    /// True if it is a step of a conversation.
    pub fn is_turn(&self) -> bool {
        self.runs_the_model() && !is_aside(&self.body)
    }

    /// True if the CLI asks on its own behalf. A real service runs its model for that too, and
    /// bills it.
    pub fn is_aside(&self) -> bool {
        self.runs_the_model() && is_aside(&self.body)
    }

    fn runs_the_model(&self) -> bool {
        Dialect::of(&self.method, &self.path).is_some()
    }
}

/// A running model server; it stops when dropped.
///
/// Every turn is answered with `FAKE turns=N first='…' last='…'`, where N counts the prompts of
/// the user in the request: this proves which ones a CLI remembers. In the last prompt
/// `[[sleep S]]` delays the answer by S seconds, `[[pause S]]` sends only `FAKE turns=N` and the
/// rest on a line of its own S seconds later, or at [`Self::go_on`], `[[status N]]` makes it an
/// HTTP failure, to which `[[retry S]]` adds the time to try again, `[[broken reset]]` resets the
/// connection, `[[broken garbage]]` sends a response that no CLI understands, and
/// `[[call TOOL JSON]]` first calls a tool that the request offers, with these arguments if there
/// are any, and `[[load TOOL,TOOL]]` first asks for those of which it has only the names. A request
/// of a CLI on its own behalf, such as for a title, gets the last prompt back.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// Releases answers that are held back.
#[derive(Default)]
struct Waiting {
    stopped: bool,
    /// The number of answers whose first part has been sent.
    half_sent: usize,
    /// The number of those, oldest first, that need not wait any more.
    released: usize,
}

impl ModelServer {
    /// Starts a server on a port of its own.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let of_server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_server.waiting().stopped {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let of_connection = Arc::clone(&of_server);
                thread::spawn(move || of_connection.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Returns the base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all requests so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests().clone()
    }

    /// Returns the number of answers so far that were held back in their middle.
    pub fn half_sent(&self) -> usize {
        self.shared.waiting().half_sent
    }

    /// Sends the rest of every answer that is held back in its middle.
    pub fn go_on(&self) {
        let mut waiting = self.shared.waiting();
        waiting.released = waiting.half_sent;
        self.shared.changed.notify_all();
    }

    /// Returns the requests that are steps of conversations.
    pub fn turn_requests(&self) -> Vec<Recorded> {
        self.shared.requests().iter().filter(|request| request.is_turn()).cloned().collect()
    }

    /// Returns the requests that run the model and are not steps of conversations.
    pub fn asides(&self) -> Vec<Recorded> {
        self.shared.requests().iter().filter(|request| request.is_aside()).cloned().collect()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        let waiting = self.shared.waiting.lock();
        waiting.unwrap_or_else(|poisoned| poisoned.into_inner()).stopped = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts, which then sees that it must end.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().expect("no thread panics while it records")
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no thread panics while it waits")
    }

    /// Waits for some seconds, or until `is_over`; false if the server stopped before.
    fn wait(&self, seconds: f64, mut is_over: impl FnMut(&mut Waiting) -> bool) -> bool {
        let duration = Duration::from_secs_f64(seconds);
        let goes_on = |waiting: &mut Waiting| !waiting.stopped && !is_over(waiting);
        let waited = self.changed.wait_timeout_while(self.waiting(), duration, goes_on);
        !waited.expect("no thread panics while it waits").0.stopped
    }

    /// Waits in the middle of an answer; false if the server stopped before.
    fn pause(&self, seconds: f64) -> bool {
        let mut waiting = self.waiting();
        waiting.half_sent += 1;
        let number = waiting.half_sent;
        drop(waiting);
        self.wait(seconds, |waiting| waiting.released >= number)
    }

    /// Serves the one request of a connection. A client that goes away is not a failure.
    fn serve(&self, stream: TcpStream) {
        let Ok(Request { method, path, body }) = Request::read(&stream) else { return };
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let recorded = Recorded { method, path, at: SystemTime::now(), body };
        self.requests().push(recorded.clone());
        let Some(response) = self.respond(&recorded) else {
            // A socket closed without lingering is reset.
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            return;
        };
        // The end of the connection travels with a whole response. Else a client that sends its
        // next request at once may reuse a connection that is about to close, and is reset.
        let _ = rustix::net::sockopt::set_tcp_cork(&stream, response.is_whole());
        let pause = |seconds: f64| seconds.is_finite() && self.pause(seconds);
        let _ = response.write(&stream, recorded.method == "HEAD", pause);
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// Returns the response; `None` if the server stopped before it was due, or must reset.
    fn respond(&self, request: &Recorded) -> Option<Response> {
        let Some(dialect) = Dialect::of(&request.method, &request.path) else {
            return Some(Self::respond_aside(request));
        };
        let prompts = dialect.prompts(&request.body);
        let last = prompts.last().map(String::as_str).unwrap_or_default();
        if is_aside(&request.body) {
            return Some(dialect.response(request, &[&aside(&request.body, last)]));
        }
        if let Some(seconds) = directive(last, "sleep")
            && !self.wait(seconds, |_| false)
        {
            return None;
        }
        if let Some(status) = directive(last, "status") {
            return Some(Response::failure(status, directive(last, "retry")));
        }
        let mut pause = directive(last, "pause");
        match directive::<String>(last, "broken").as_deref() {
            Some("reset") => return None,
            Some("garbage") => return Some(Response::garbage()),
            // The rest never comes.
            Some("off") => pause = Some(f64::INFINITY),
            _ => {}
        }
        if let Some(tool) = directive::<String>(last, "call")
            && let Some(call) = dialect.call(request, &tool)
        {
            return Some(call);
        }
        if let Some(tools) = directive::<String>(last, "load")
            && let Some(load) = dialect.load(request, &tools)
        {
            return Some(load);
        }
        let text = answer(&prompts);
        match pause.zip(text.split_once(" first=")) {
            None => Some(dialect.response(request, &[&text])),
            Some((seconds, (begin, rest))) => {
                let parts = [format!("{begin}\n"), format!("first={rest}")];
                Some(dialect.response(request, &[&parts[0], &parts[1]]).with_pauses(seconds))
            }
        }
    }

    /// Returns the response to a request beside the turns: reachability, token counts, lists of
    /// models.
    fn respond_aside(request: &Recorded) -> Response {
        match (request.method.as_str(), request.path.split('?').next().unwrap_or_default()) {
            ("HEAD", _) => Response::json(&json!({})),
            (_, path) if path.ends_with("/count_tokens") => {
                Response::json(&json!({"input_tokens": 1}))
            }
            (_, path) if path.ends_with(":countTokens") => {
                Response::json(&json!({"totalTokens": 1}))
            }
            ("GET", path) if path.ends_with("/models") => {
                Response::json(&json!({"object": "list", "data": [], "models": []}))
            }
            _ => Response::failure(404, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn every_request_is_recorded_and_only_turns_run_the_model() {
        let server = ModelServer::start();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        };
        assert!(ask("HEAD / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(ask("GET /v1/nothing HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        let chunked = "POST /v1/messages?beta=true HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            1d\r\n{\"tools\": [{}], \"messages\": [\r\n\
            24\r\n{\"role\": \"user\", \"content\": \"one\"}]}\r\n0\r\n\r\n";
        assert!(ask(chunked).contains(r#""text":"FAKE turns=1 first='one' last='one'""#));
        let failing =
            r#"{"tools": [{}], "input": [{"role": "user", "content": "[[status 429]]"}]}"#;
        let length = failing.len();
        let failing =
            format!("POST /v1/responses HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{failing}");
        assert!(ask(&failing).starts_with("HTTP/1.1 429 "));

        let aside = r#"{"input": [{"role": "user", "content": "a title for it"}]}"#;
        let length = aside.len();
        let aside =
            format!("POST /v1/responses HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{aside}");
        assert!(ask(&aside).contains("a title for it"));

        let methods: Vec<_> = server.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, ["HEAD", "GET", "POST", "POST", "POST"]);
        assert_eq!((server.turn_requests().len(), server.asides().len()), (2, 1));
    }
}
