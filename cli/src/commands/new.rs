//! `sessctl new`: registers a session, then resumes it.

use serde::Serialize;
use sessd_proto::launch::CreateRequest;
use sessd_proto::{Fault, Session};
use uuid::Uuid;

use super::resume;
use crate::directory::real_path;
use crate::{Context, current_dir, duration};

/// Start a new session in this terminal
///
/// It appears in `list` immediately. With --json it is only registered; start it with
/// `sessctl resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Agent to start; `sessctl agents` lists them
    agent: String,
    /// Directory to start in [default: the agent's own, else the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Move the session to the trash this long after its last activity, e.g. 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<i64>,
}

const EXAMPLES: &str = "\
Examples:
  sessctl new claude
  sessctl new codex --cwd ~/work/parser --ttl 7d";

/// The JSON output.
#[derive(Serialize)]
struct Created {
    session: Session,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let environment = context.declared_environment(&mut client)?;
    let cwd_given = args.cwd.is_some();
    let cwd = match args.cwd {
        Some(dir) => real_path(&dir)?,
        None => current_dir()?,
    };
    let created = client.create(CreateRequest {
        id: Uuid::new_v4().to_string(),
        agent: args.agent,
        cwd,
        cwd_given,
        ttl_ms: args.ttl,
        environment: environment.clone(),
    })?;
    if context.output.is_json() {
        return context.output.json(&Created { session: created.session });
    }
    context.output.note(&format!("session: {}", created.session.id));
    resume::start(context, &mut client, created.session.id, environment)
}
