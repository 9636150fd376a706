//! A stand-in for the Cursor CLI, which npm does not have and which does not run without an
//! account: it takes the documented flags, keeps the documented stores, and fails in the
//! documented ways. It asks the tests' model server. Knows nothing of sessd.
#![expect(
    clippy::expect_used,
    reason = "a program of the tests: a broken assumption must end it at once, and loudly"
)]

mod arguments;
mod chat;
mod model;

use std::env;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::exit;

use arguments::Arguments;
use chat::Chat;
use serde_json::{Value, json};
use uuid::Uuid;

fn main() {
    let arguments = Arguments::parse(env::args().skip(1)).unwrap_or_else(|error| refuse(&error));
    if arguments.version {
        return print("2026.10.01-standin");
    }
    let cwd = env::current_dir().expect("a directory to work in");
    let is_headless = arguments.print || !io::stdin().is_terminal() || !io::stdout().is_terminal();
    if arguments.trust {
        fs::create_dir_all(trusted(&cwd)).expect("our own directory");
    }
    if is_headless && !trusted(&cwd).is_dir() {
        refuse("⚠ Workspace Trust Required\nPass --trust to trust this directory.");
    }
    if env::var_os("CURSOR_API_KEY").is_none() {
        refuse("Error: Authentication required. Run 'agent login', or set CURSOR_API_KEY.");
    }
    // Unknown ids are accepted: a chat that does not exist starts empty, without a warning.
    let id = arguments.resume.clone().unwrap_or_else(|| new_id(&arguments));
    let chat = Chat::of(&id, &cwd);
    if is_headless { one_shot(&arguments, &chat) } else { converse(&arguments, &chat) }
}

fn new_id(arguments: &Arguments) -> String {
    let Some(id) = &arguments.new_session_id else { return Uuid::new_v4().to_string() };
    if Uuid::parse_str(id).map_or(0, |id| id.get_version_num()) != 4 {
        refuse(&format!("Error: Invalid --new-session-id \"{id}\": expected a UUIDv4."));
    }
    if Chat::exists(id) {
        refuse(&format!("Error: Session ID \"{id}\" is already in use."));
    }
    id.clone()
}

fn one_shot(arguments: &Arguments, chat: &Chat) {
    let mut prompt = arguments.words.join(" ");
    if prompt.is_empty() {
        let _ = io::stdin().read_to_string(&mut prompt);
    }
    let (id, cwd, model) = (&chat.id, &chat.cwd, arguments.model());
    let speaks = arguments.output == "stream-json";
    let said = |role: &str, text: &str| {
        let content = json!([{ "type": "text", "text": text }]);
        let message = json!({ "role": role, "content": content });
        json!({ "type": role, "message": message, "session_id": id })
    };
    if speaks {
        line(&json!({
            "type": "system", "subtype": "init", "apiKeySource": "env", "cwd": cwd,
            "session_id": id, "model": model, "permissionMode": "default",
        }));
        line(&said("user", prompt.trim()));
    }
    // A failed turn ends without a result.
    let answer = turn(chat, prompt.trim(), model).unwrap_or_else(|error| refuse(&error));
    let usage = json!({
        "inputTokens": 10, "outputTokens": 5, "cacheReadTokens": 0, "cacheWriteTokens": 0,
    });
    let result = json!({
        "type": "result", "subtype": "success", "is_error": false, "duration_ms": 1,
        "duration_api_ms": 1, "result": answer, "session_id": id, "usage": usage,
        "request_id": Uuid::new_v4().to_string(),
    });
    match &*arguments.output {
        "stream-json" => {
            line(&said("assistant", &answer));
            line(&result);
        }
        "json" => line(&result),
        _ => print(&answer),
    }
}

/// Runs the full-screen form: prints the conversation, then reads prompts line by line.
fn converse(arguments: &Arguments, chat: &Chat) {
    chat.begin();
    print("Cursor Agent");
    for (role, text) in chat.messages() {
        print(&if role == "user" { format!("> {text}") } else { text });
    }
    for prompt in io::stdin().lock().lines().map_while(Result::ok) {
        if !prompt.trim().is_empty() {
            print(&turn(chat, prompt.trim(), arguments.model()).unwrap_or_else(|error| error));
        }
    }
    print(&format!("To resume: cursor-agent --resume={}", chat.id));
}

/// Runs one prompt; the log of the store is not empty until the answer is written.
fn turn(chat: &Chat, prompt: &str, model: &str) -> Result<String, String> {
    let writer = chat.write(prompt, model);
    let messages = chat.messages().into_iter().chain([("user".to_owned(), prompt.to_owned())]);
    let answer = model::ask(messages.collect(), model)?;
    writer.finish(&answer);
    Ok(answer)
}

/// Returns the file that marks a directory as trusted.
fn trusted(cwd: &Path) -> PathBuf {
    let slug = cwd.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    home().join(".cursor/projects").join(slug.trim_start_matches('-')).join(".trusted")
}

fn home() -> PathBuf {
    env::var_os("HOME").expect("a home").into()
}

fn line(value: &Value) {
    print(&value.to_string());
}

fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn refuse(message: &str) -> ! {
    let _ = writeln!(io::stderr(), "{message}");
    exit(1)
}
