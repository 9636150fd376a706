//! `sessctl show`.

use sessd_proto::session::ShowRequest;
use sessd_proto::{Fault, Live, Session};

use crate::Context;

/// Show everything about one session
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Session to show
    selector: String,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let session = context.connect()?.show(ShowRequest { selector: args.selector })?;
    if context.output.is_json() {
        return context.output.json(&session);
    }
    context.output.pairs(&pairs(context, &session))
}

/// Returns the end of the session's time to live.
fn ttl(session: &Session) -> String {
    session.ttl_ms.map_or_else(
        || "-".to_owned(),
        |ttl_ms| format!("until {}", session.last_activity.plus_ms(ttl_ms)),
    )
}

/// Returns the live state with its process.
fn live_state(live: &Live) -> String {
    let pid = live.pid.map(|pid| format!(" in process {pid}")).unwrap_or_default();
    let what = live.what.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
    format!("{}{pid}{what}", live.state)
}

fn cost(cost_usd: Option<f64>) -> String {
    cost_usd.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2} USD"))
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "-".to_owned())
}

fn number(value: &Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Destructures the session, so that a new field cannot be forgotten here.
fn pairs(context: &Context, session: &Session) -> Vec<(&'static str, String)> {
    let moment = |at| context.output.moment(at);
    let Session {
        id,
        title,
        last_prompt,
        status,
        reason,
        live,
        provider,
        provider_session_id,
        agent,
        kind,
        model,
        project,
        launch_dir,
        cwd,
        git_branch,
        home,
        created_at,
        last_activity,
        checked_at,
        expires_at,
        ttl_ms: _,
        parent_id,
        keys,
        tags,
        turns,
        tokens_in,
        tokens_out,
        cost_usd,
        pinned,
        trashed_at,
        revision: _,
        metadata,
    } = session;
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    vec![
        ("id", id.clone()),
        ("title", text(title)),
        ("last prompt", text(last_prompt)),
        ("status", format!("{status}{reason}")),
        ("live", live_state(live)),
        ("provider", provider.clone()),
        ("provider id", text(provider_session_id)),
        ("agent", agent.clone()),
        ("kind", kind.to_string()),
        ("model", text(model)),
        ("project", project.clone()),
        ("launch directory", launch_dir.clone()),
        ("last directory", text(cwd)),
        ("git branch", text(git_branch)),
        ("home", home.clone()),
        ("created", moment(Some(*created_at))),
        ("last activity", moment(Some(*last_activity))),
        ("checked", moment(*checked_at)),
        ("provider deletes", moment(*expires_at)),
        ("time to live", ttl(session)),
        ("parent", text(parent_id)),
        ("keys", keys.join(" ")),
        ("tags", tags.join(" ")),
        ("turns", number(turns)),
        ("tokens in", number(tokens_in)),
        ("tokens out", number(tokens_out)),
        ("cost", cost(*cost_usd)),
        ("pinned", pinned.to_string()),
        ("trashed", moment(*trashed_at)),
        ("metadata", metadata.0.to_string()),
    ]
}
