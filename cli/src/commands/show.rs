//! `sessctl show`.

use sessd_proto::session::ShowRequest;
use sessd_proto::{Fault, Session};

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

fn pairs(context: &Context, session: &Session) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let moment = |at| context.output.moment(at);
    let Session { live, .. } = session;
    let pid = live.pid.map(|pid| format!(" in process {pid}")).unwrap_or_default();
    let what = live.what.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
    let reason = session.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    vec![
        ("id", session.id.clone()),
        ("title", text(&session.title)),
        ("status", format!("{}{reason}", session.status)),
        ("live", format!("{}{pid}{what}", live.state)),
        ("provider", session.provider.clone()),
        ("provider id", text(&session.provider_session_id)),
        ("agent", session.agent.clone()),
        ("kind", session.kind.to_string()),
        ("model", text(&session.model)),
        ("project", session.project.clone()),
        ("launch directory", session.launch_dir.clone()),
        ("last directory", text(&session.cwd)),
        ("git branch", text(&session.git_branch)),
        ("home", session.home.clone()),
        ("created", moment(Some(session.created_at))),
        ("last activity", moment(Some(session.last_activity))),
        ("checked", moment(session.checked_at)),
        ("provider deletes", moment(session.expires_at)),
        ("time to live", ttl(session)),
        ("parent", text(&session.parent_id)),
        ("keys", session.keys.join(" ")),
        ("tags", session.tags.join(" ")),
        ("turns", number(session.turns)),
        ("tokens in", number(session.tokens_in)),
        ("tokens out", number(session.tokens_out)),
        ("pinned", session.pinned.to_string()),
        ("trashed", moment(session.trashed_at)),
        ("metadata", session.metadata.0.to_string()),
    ]
}
