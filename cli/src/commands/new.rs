//! `sessctl new`: a session is registered, then started like any other that is resumed.

use serde::Serialize;
use sessd_proto::launch::CreateRequest;
use sessd_proto::{Fault, Session};
use uuid::Uuid;

use super::resume::{self, existing};
use crate::{Context, current_dir, duration};

/// Start a new session at this terminal
///
/// It is in the list at once. With --json it is only registered, and printed; `sessctl resume`
/// starts it then.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom to start: `sessctl agents`
    agent: String,
    /// Start in this directory [default: the agent's own, else the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Put it into the trash this long after its last activity, e.g. 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<i64>,
}

/// What it answers in JSON.
#[derive(Serialize)]
struct Created {
    session: Session,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let environment = context.declared(&mut client)?;
    let cwd_given = args.cwd.is_some();
    let cwd = match args.cwd {
        Some(dir) => existing(&dir)?,
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
