//! `sessctl list`.

use serde::Serialize;
use sessd_proto::session::{ListRequest, Sort};
use sessd_proto::{Fault, Kind, LiveState, Session, Status, Timestamp};

use crate::{Context, current_dir};

/// List sessions, newest activity first
///
/// Through a pipe the columns are separated by tabs and complete: id, provider, status, live
/// state, last activity, project, title.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of the project that this directory belongs to
    #[arg(long, value_name = "DIR", conflicts_with = "here")]
    project: Option<String>,
    /// Only of the project of the current directory
    #[arg(long)]
    here: bool,
    /// Only of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only with this status: active, archived, expired, invalid, unknown
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// Only of this kind: interactive, headless, subagent (hidden by default)
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only those that a process has open now
    #[arg(long)]
    busy: bool,
    /// Only with activity in this time, e.g. 2d, 12h, 30m
    #[arg(long, value_name = "AGE", value_parser = age_ms)]
    since: Option<i64>,
    /// Order: activity or created (newest first), expires (soonest first)
    #[arg(long, default_value = "activity", value_parser = sort)]
    sort: Sort,
    /// Sessions a page, 1 to 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Go on where the page with this cursor ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// All pages
    #[arg(long)]
    all: bool,
}

/// What `list` and `check` answer in JSON.
#[derive(Serialize)]
pub(super) struct Sessions {
    pub(super) sessions: Vec<Session>,
    pub(super) next: Option<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let project =
        if args.here { Some(current_dir()?) } else { args.project.map(absolute).transpose()? };
    let mut request = ListRequest {
        project,
        provider: args.provider,
        agent: args.agent,
        status: args.status,
        kind: args.kind,
        tag: args.tag,
        busy: args.busy,
        since: args.since.map(since),
        sort: args.sort,
        limit: if args.all { 500 } else { args.limit },
        after: args.after,
    };
    let mut client = context.connect()?;
    let mut page = client.list(request.clone())?;
    let mut sessions = std::mem::take(&mut page.sessions);
    while args.all && page.next.is_some() {
        request.after = page.next.take();
        page = client.list(request.clone())?;
        sessions.append(&mut page.sessions);
    }
    if page.discovering {
        context.output.note("note: the first sweep still runs, sessions may be missing");
    }
    if context.output.is_json() {
        return context
            .output
            .json(&serde_json::json!({ "sessions": sessions, "next": page.next }));
    }
    if sessions.is_empty() && context.output.is_terminal() {
        context.output.note("no sessions; what is looked at: `sessctl providers`");
    }
    table(context, &sessions)?;
    if let Some(next) = page.next.filter(|_| context.output.is_terminal()) {
        context.output.note(&format!("more: `sessctl list --after {next}` (or --all)"));
    }
    Ok(())
}

/// Prints sessions, one a line.
pub(super) fn table(context: &Context, sessions: &[Session]) -> Result<(), Fault> {
    let home = context.env.get("HOME");
    let output = &context.output;
    let row = |session: &Session| {
        vec![
            output.id(&session.id),
            session.provider.clone(),
            session.status.to_string(),
            live(session),
            output.moment(Some(session.last_activity)),
            output.dir(&session.project, home),
            session.title.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let head = ["ID", "PROVIDER", "STATUS", "LIVE", "AGO", "PROJECT", "TITLE"];
    if rows.is_empty() { Ok(()) } else { output.table(&head, &rows) }
}

/// The live state; nobody and unknown look alike in a list.
fn live(session: &Session) -> String {
    match session.live.state {
        LiveState::None | LiveState::Unknown => "-".to_owned(),
        state => state.to_string(),
    }
}

fn absolute(dir: String) -> Result<String, Fault> {
    let path = std::path::absolute(&dir).map_err(|error| {
        Fault::new(sessd_proto::FaultCode::Usage, format!("`{dir}` is no directory: {error}"))
    })?;
    Ok(path.to_string_lossy().into_owned())
}

fn since(age_ms: i64) -> Timestamp {
    crate::output::now().plus_ms(-age_ms)
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).ok_or_else(|| one_of(Status::ALL))
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| one_of(Kind::ALL))
}

fn sort(text: &str) -> Result<Sort, String> {
    Sort::parse(text).ok_or_else(|| one_of(Sort::ALL))
}

fn one_of(values: &[impl ToString]) -> String {
    let names: Vec<_> = values.iter().map(ToString::to_string).collect();
    format!("one of {}", names.join(", "))
}

/// Reads `2d`, `12h`, `30m`, `90s`, in milliseconds.
fn age_ms(text: &str) -> Result<i64, String> {
    let units = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];
    let unit = units.into_iter().find(|(unit, _)| text.ends_with(*unit));
    let (unit, ms) = unit.ok_or("a number with d, h, m or s, e.g. 2d")?;
    let count: u32 = text.trim_end_matches(unit).parse().map_err(|_| "no whole number")?;
    Ok(i64::from(count) * ms)
}
