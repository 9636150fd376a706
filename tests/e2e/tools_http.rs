//! Promise: where a provider tells no tools, `sessctl tools` has them from the MCP server itself,
//! also from one that is reached over HTTP, and what is sent to it for that is never shown.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::Value;
use sessd_tests::npm::{self, MCP_EVERYTHING};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::tools;
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::scene::answer;

const SECRET: &str = "sk-marker-8c1f0a77";

/// An agent of a provider that tells no tools, with these servers.
fn have_agent(sandbox: &Sandbox, servers: &[(&str, String)]) {
    let names: Vec<_> = servers.iter().map(|(name, _)| *name).collect();
    let mut config = format!("[agents.helper]\nprovider = 'codex'\nmcp_servers = {names:?}\n");
    for (name, options) in servers {
        config += &format!("[mcp_servers.{name}]\n{options}\n");
    }
    sandbox.write(".config/sessd/config.toml", config);
}

/// Starts the real server where it can be reached over HTTP, and keeps its log in a file.
pub(crate) fn start_server(sandbox: &Sandbox, program: &Path, log: &Path) -> (Child, u16) {
    wait_until("a port that stays free", DEADLINE, || {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = sandbox.command(program);
        command.arg("streamableHttp").env("PORT", port.to_string());
        let out = File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut server = command.spawn().unwrap();
        wait_until("an answer or the end of the server", DEADLINE, || {
            let is_there = fs::read_to_string(log).unwrap().contains("listening on port");
            let has_ended = server.try_wait().unwrap().is_some();
            (is_there || has_ended).then_some(is_there && !has_ended)
        })
        .then_some((server, port))
    })
}

#[test]
fn tools_over_http_are_those_on_the_standard_streams() {
    let Some(installed) = npm::install(&MCP_EVERYTHING) else { return };
    let sandbox = Sandbox::new(BINARIES);
    let log = sandbox.home().join("server.log");
    let (mut server, port) = start_server(&sandbox, &installed.program, &log);
    let program = installed.program.display();
    let remote = format!("url = 'http://127.0.0.1:{port}/mcp'\nheaders = {{ X-Key = '{SECRET}' }}");
    let lost = format!("url = 'http://127.0.0.1:{port}/nowhere'");
    have_agent(
        &sandbox,
        &[
            ("local", format!("command = '{program}'\nargs = ['stdio']")),
            ("remote", remote),
            ("lost", lost),
        ],
    );
    let told = answer(&sandbox, &["tools", "helper"]);
    assert_eq!(told["told_by"], "servers");
    let servers = told["servers"].as_array().unwrap();
    let [local, remote, lost] = ["local", "remote", "lost"]
        .map(|name| servers.iter().find(|server| server["name"] == name).unwrap());
    assert_eq!(remote["state"], "connected", "{remote}");
    assert!(remote["tools"].as_array().unwrap().contains(&"echo".into()), "{remote}");
    assert_eq!(remote["tools"], local["tools"]);
    let why = (&lost["state"], &lost["detail"]);
    assert_eq!(why, (&"failed".into(), &"the server answered 404 Not Found".into()));
    wait_until("the end of the session", DEADLINE, || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains("session termination request").then_some(())
    });
    assert!(!told.to_string().contains(SECRET), "{told}");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// A server that refuses access, and repeats in its reason what it was sent.
fn start_gatekeeper() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/{SECRET}/mcp", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let said = format!("who is {}", head.join(" "));
            let status = "401 Unauthorized\r\nconnection: close";
            let length = said.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{said}");
        }
    });
    url
}

#[test]
fn a_server_that_refuses_access_is_shown_without_secrets() {
    let sandbox = Sandbox::new(BINARIES);
    let url = start_gatekeeper();
    let headers = format!("{{ Authorization = 'Bearer {SECRET}', X-Other = '{SECRET}' }}");
    have_agent(&sandbox, &[("guarded", format!("url = '{url}'\nheaders = {headers}"))]);
    let told = answer(&sandbox, &["tools", "helper"]);
    let server: &Value = &told["servers"][0];
    assert_eq!(server["state"], "needs-auth");
    let why = server["detail"].as_str().unwrap();
    assert!(why.starts_with("the server answered 401 Unauthorized: who is POST /***/mcp"), "{why}");
    assert!(why.contains("authorization: ***"), "the server did not get it: {why}");
    let table = sandbox.sessctl(&["tools", "helper"]);
    assert!(table.stdout.contains("guarded\tneeds-auth\t(the server answered 401"), "{table:?}");
    for said in [told.to_string(), format!("{table:?}")] {
        assert!(!said.contains(SECRET), "{said}");
    }
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let files = files_below(&sandbox.state_dir());
    assert!(files.iter().any(|path| path.ends_with("sessd.db")), "{files:?}");
    for path in files {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(SECRET), "{}", path.display());
    }
}

/// Refuses access too, and writes down that it was asked.
const GUARD: &str = r#"
const fs = require("node:fs");
const pair = { key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") };
const guard = require("node:https").createServer(pair, (request, response) => {
    fs.appendFileSync("asked", request.method);
    response.writeHead(401).end();
});
guard.listen(0, "127.0.0.1", () => {
    fs.writeFileSync("port.new", String(guard.address().port));
    fs.renameSync("port.new", "port");
});
"#;

#[test]
fn over_https_a_server_is_asked_only_if_the_system_trusts_it() {
    let mut sandbox = Sandbox::new(BINARIES);
    let home = sandbox.home();
    let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                       -keyout key.pem -out cert.pem -subj /CN=guard \
                       -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE";
    if ["node", "openssl"].iter().any(|name| tools::require(name).is_none()) {
        return;
    }
    let mut openssl = sandbox.command("openssl");
    let made = sandbox.run(openssl.args(certificate.split_whitespace()), DEADLINE);
    assert_eq!(made.status, 0, "{made:?}");
    let mut guard = sandbox.command("node");
    let mut guard = guard.args(["-e", GUARD]).stdin(Stdio::null()).spawn().unwrap();
    let port = wait_until("the port", DEADLINE, || fs::read_to_string(home.join("port")).ok());
    have_agent(&sandbox, &[("guarded", format!("url = 'https://127.0.0.1:{port}/mcp'"))]);

    let told = answer(&sandbox, &["tools", "helper"]);
    let server = &told["servers"][0];
    assert_eq!(server["state"], "failed");
    let why = server["detail"].as_str().unwrap();
    assert!(why.contains("invalid peer certificate"), "{why}");
    assert!(!home.join("asked").exists(), "it was asked");

    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    sandbox.set_env("SSL_CERT_FILE", home.join("cert.pem").to_str().unwrap());
    let told = answer(&sandbox, &["tools", "helper"]);
    let server = &told["servers"][0];
    assert_eq!(server["state"], "needs-auth", "{server}");
    assert_eq!(fs::read_to_string(home.join("asked")).unwrap(), "POST");
    guard.kill().unwrap();
    guard.wait().unwrap();
}
