//! Listing tools of servers on loopback that answer well, badly or not at all.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use serde_json::json;

use super::*;

/// Long enough for everything that works.
const AMPLE: Duration = Duration::from_secs(60);

const SECRET: &str = "Bearer 0123456789";

/// A request that a server has received.
struct Seen {
    /// Lines in lower case.
    head: String,
    body: Value,
}

impl Seen {
    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header.to_ascii_lowercase())
    }

    fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or("-")
    }

    /// The response to it.
    fn answer(&self, result: &Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result })
    }
}

struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Arc<Seen>>>>,
}

impl Server {
    /// Leaves every connection open until we close it.
    fn start(
        answer: impl Fn(&Seen, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, of_server) = (Arc::new(answer), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&of_server));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut requests = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read(&mut requests) {
                        let request = Arc::new(request);
                        seen.lock().unwrap().push(Arc::clone(&request));
                        if answer(&request, &mut stream).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen }
    }

    /// Gives the same answer to every message.
    fn saying(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |_, stream| stream.write_all(answer.as_bytes()))
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Arc<Seen>>> {
        self.seen.lock().unwrap()
    }

    async fn ask(&self) -> Result<Vec<String>, Refusal> {
        ask(&self.url, AMPLE).await
    }

    async fn why(&self) -> String {
        match self.ask().await {
            Err(Refusal::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(url: &str, deadline: Duration) -> Result<Vec<String>, Refusal> {
    let headers = ["Authorization", "Accept"].map(|name| (name.to_owned(), SECRET.to_owned()));
    let requests =
        Requests::new(url, &Environment(headers.into()), &Environment::default(), deadline);
    requests.unwrap().tools().await.map_err(refusal)
}

fn read(requests: &mut impl BufRead) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if requests.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase().replace("\r\n", "\n");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    requests.read_exact(&mut body).ok()?;
    Some(Seen { head, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn respond(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn document(body: &str) -> String {
    respond("200 OK", "Content-Type: application/json; charset=utf-8\r\n", body)
}

/// Has the tools `a` and `b`, each on a page of its own.
fn two_pages(seen: &Seen, stream: &mut TcpStream) -> io::Result<()> {
    let answer = match (seen.method(), &seen.body["params"]["cursor"]) {
        ("initialize", _) => {
            let agreed =
                json!({ "protocolVersion": "2025-03-26", "capabilities": { "tools": {} } });
            let body = seen.answer(&agreed).to_string();
            let headers = "content-type: application/json\r\nMcp-Session-Id: s-1\r\n";
            respond("200 OK", headers, &body)
        }
        ("tools/list", Value::Null) => {
            let page = json!({ "tools": [{ "name": "a" }], "nextCursor": "2" });
            document(&seen.answer(&page).to_string())
        }
        ("tools/list", _) => {
            document(&seen.answer(&json!({ "tools": [{ "name": "b" }] })).to_string())
        }
        _ => respond("202 Accepted", "", ""),
    };
    stream.write_all(answer.as_bytes())
}

#[tokio::test]
async fn all_pages_are_read_in_one_session_which_is_ended() {
    let server = Server::start(two_pages);
    assert_eq!(server.ask().await.unwrap(), ["a", "b"]);
    let seen = server.seen();
    let methods: Vec<_> = seen.iter().map(|request| request.method()).collect();
    let wanted = ["initialize", "notifications/initialized", "tools/list", "tools/list", "-"];
    assert_eq!(methods, wanted);
    assert!(seen[4].head.starts_with("delete /mcp "), "{}", seen[4].head);
    for (index, request) in seen.iter().enumerate() {
        assert!(request.has(&format!("Authorization: {SECRET}")), "{}", request.head);
        assert!(request.has("Accept: application/json, text/event-stream"), "{}", request.head);
        assert_eq!(request.has("Mcp-Session-Id: s-1"), index > 0, "{}", request.head);
        assert_eq!(request.has("MCP-Protocol-Version: 2025-03-26"), index > 0, "{}", request.head);
    }
}

#[tokio::test]
async fn response_is_found_in_a_stream_that_goes_on() {
    let server = Server::start(|seen, stream| {
        let result = json!({ "tools": [{ "name": "a" }] });
        let answer = serde_json::to_string_pretty(&seen.answer(&result)).unwrap();
        let answer = answer.replace('\n', "\r\ndata: ");
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\r\n\r\n\
             data: {{\"method\":\"notifications/message\",\"params\":{{}}}}\r\n\r\n\
             data: {{\"method\":\"ping\",\"id\":{id}}}\r\n\r\ndata: garbage\r\n\r\n\
             data: {{\"id\":\"other\",\"result\":{{}}}}\r\n\r\n\
             event: message\r\nid: 7\r\ndata: {answer}\r\n\r\n",
            id = seen.body["id"],
        )
    });
    assert_eq!(server.ask().await.unwrap(), ["a"]);
}

#[tokio::test]
async fn server_without_tools_is_not_asked_for_them() {
    let server = Server::start(|seen, stream| {
        let answer = seen.answer(&json!({ "capabilities": { "prompts": {} } }));
        stream.write_all(document(&answer.to_string()).as_bytes())
    });
    assert_eq!(server.ask().await.unwrap(), [""; 0]);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn refused_authentication_is_reported_as_such() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let body = r#"{"error":"invalid_token","error_description":"it has\nexpired"}"#;
        let server = Server::saying(respond(status, "", body));
        let why = format!("the server answered {status}: it has expired");
        assert_eq!(server.ask().await, Err(Refusal::NeedsAuth(why)));
    }
}

#[tokio::test]
async fn refusals_are_explained_on_one_line() {
    let cases = [
        (respond("500 Internal Server Error", "", "out\n of\x1b memory"), ": out of memory"),
        (respond("404 Not Found", "", r#"{"error":{"code":-1,"message":"no"}}"#), "Found: no"),
        (respond("404 Not Found", "", "<html>lost</html>"), "the server answered 404 Not Found"),
        (respond("302 Found", "location: /login\r\n", ""), "the server answered 302 Found"),
        (
            document(r#"{"id":0,"error":{"code":-1,"message":"too old"}}"#),
            "refused initialize: too old",
        ),
    ];
    for (answer, wanted) in cases {
        let why = Server::saying(answer).why().await;
        assert!(why.ends_with(wanted), "{why} is not {wanted}");
    }
}

#[tokio::test]
async fn garbage_is_not_taken_for_a_response() {
    let none = "the response does not answer the request";
    let cases = [
        (document("garbage"), none),
        (document(r#"{"id":7,"result":{}}"#), none),
        (document(r#"{"id":0}"#), none),
        (respond("200 OK", "content-type: text/event-stream\r\n", "data: {}\n\n"), none),
        (respond("200 OK", "content-type: text/html\r\n", "<html>"), "the response is text/html"),
        (respond("202 Accepted", "", ""), "the response is empty"),
        ("garbage\r\n\r\n".to_owned(), "protocol: "),
    ];
    for (answer, wanted) in cases {
        let why = Server::saying(answer).why().await;
        assert!(why.starts_with(wanted), "{why} is not {wanted}");
    }
}

#[tokio::test]
async fn oversized_responses_are_not_read_to_the_end() {
    for kind in ["text/event-stream", "application/json"] {
        let server = Server::start(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n")?;
            loop {
                stream.write_all(": and so on and on\n\n".repeat(1000).as_bytes())?;
            }
        });
        assert_eq!(server.why().await, "the response is too large");
    }
    let server = Server::start(|seen, stream| {
        let rest = "x".repeat(1024 * 1024);
        let page = json!({ "tools": [{ "name": "a" }], "nextCursor": "2", "rest": rest });
        stream.write_all(document(&seen.answer(&page).to_string()).as_bytes())
    });
    assert_eq!(server.why().await, "the response is too large");
}

#[tokio::test]
async fn endless_pages_are_left() {
    let server = Server::start(|seen, stream| {
        let page = json!({ "tools": [{ "name": "a" }], "nextCursor": "2" });
        stream.write_all(document(&seen.answer(&page).to_string()).as_bytes())
    });
    assert_eq!(server.ask().await.unwrap().len(), super::super::PAGES_MAX);
}

#[tokio::test]
async fn slow_servers_are_left_at_the_deadline() {
    let silence = |_: &Seen, _: &mut TcpStream| Ok(());
    let half = |_: &Seen, stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {")
    };
    let chatter = |_: &Seen, stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        loop {
            stream.write_all(b": wait\n\n")?;
            thread::sleep(Duration::from_millis(10));
        }
    };
    for server in [Server::start(silence), Server::start(half), Server::start(chatter)] {
        let asked = ask(&server.url, Duration::from_millis(300));
        let asked = tokio::time::timeout(AMPLE, asked).await.expect("the deadline holds");
        assert_eq!(asked, Err(Refusal::Failed("the server did not answer in time".to_owned())));
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let server = Server::start(|seen, stream| {
        let is_there = seen.head.starts_with("post /mcp/ ") || seen.head.starts_with("delete");
        let host = seen.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let there = format!("location: http://{host}/mcp/\r\n");
        match is_there {
            true => two_pages(seen, stream),
            false => stream.write_all(respond("307 Temporary Redirect", &there, "").as_bytes()),
        }
    });
    assert_eq!(server.ask().await.unwrap(), ["a", "b"]);
    assert_eq!(server.seen().len(), 6, "the new address is kept");

    let other = Server::start(two_pages);
    let there = format!("location: {}\r\n", other.url);
    let server = Server::saying(respond("308 Permanent Redirect", &there, ""));
    assert_eq!(server.why().await, "the server redirects to another host");
    assert_eq!(other.seen().len(), 0);
    let round = respond("308 Permanent Redirect", "location: /mcp\r\n", "");
    assert_eq!(Server::saying(round).why().await, "too many redirects");
}

#[tokio::test]
async fn session_is_ended_after_a_failure_too() {
    let server = Server::start(|seen, stream| match seen.method() {
        "tools/list" => stream.write_all(respond("500 Oh", "", "").as_bytes()),
        _ => two_pages(seen, stream),
    });
    server.why().await;
    assert!(server.seen().last().unwrap().head.starts_with("delete"));
}

#[tokio::test]
async fn unreachable_server_and_invalid_url_are_told_apart() {
    let refused = ask("http://127.0.0.1:1/", AMPLE).await;
    let Err(Refusal::Failed(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("refused"), "{why}");

    let none = Requests::new("http://", &Environment::default(), &Environment::default(), AMPLE);
    assert!(none.is_err());
}

#[test]
fn proxy_follows_the_scheme_unless_the_host_is_exempt() {
    let variables = [
        ("https_proxy", "http://secure:1"),
        ("ALL_PROXY", "http://all:2"),
        ("NO_PROXY", "127.0.0.1, .corp.example,localhost"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let env = Environment(variables.into());
    let cases = [
        ("https://a.example/mcp", Some("secure")),
        ("http://a.example/mcp", Some("all")),
        ("http://127.0.0.1:8080/mcp", None),
        ("https://x.corp.example/mcp", None),
        ("https://notcorp.example/mcp", Some("secure")),
    ];
    for (url, wanted) in cases {
        let proxy = proxy(&Uri::from_static(url), &env).unwrap();
        assert_eq!(proxy.as_ref().map(Proxy::host), wanted, "{url}");
    }
    let somewhere = Uri::from_static("https://a.example");
    assert!(proxy(&somewhere, &Environment::default()).unwrap().is_none());
    for unusable in ["socks5://127.0.0.1:1080", "no proxy"] {
        let env = Environment([("ALL_PROXY".to_owned(), unusable.to_owned())].into());
        assert!(proxy(&somewhere, &env).is_err(), "{unusable}");
    }
}
