//! `sessctl list`.

use serde::Serialize;
use sessd_proto::session::{ListRequest, Sort};
use sessd_proto::{Fault, Kind, LiveState, Session, Status, Timestamp};

use super::resume::quoted;
use crate::{Context, current_dir, duration};

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
    /// The trash instead of everything else
    #[arg(long, conflicts_with = "busy")]
    trash: bool,
    /// Only with activity in this time, e.g. 2d, 12h, 30m
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
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
        trash: args.trash,
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
    note_discovering(context, page.discovering);
    if context.output.is_json() {
        return context.output.json(&Sessions { sessions, next: page.next });
    }
    if sessions.is_empty() && context.output.is_terminal() {
        context.output.note("no sessions; what is looked at: `sessctl providers`");
    }
    table(context, &sessions)?;
    if let Some(next) = page.next.filter(|_| context.output.is_terminal()) {
        let more = onward(std::env::args().skip(1), &next);
        context.output.note(&format!("more: `{more}` (or --all)"));
    }
    Ok(())
}

/// Says why sessions may be missing.
pub(super) fn note_discovering(context: &Context, discovering: bool) {
    if discovering {
        context.output.note("note: the first sweep still runs, sessions may be missing");
    }
}

/// The same call for the next page: a cursor belongs to its filters and its order.
fn onward(mut words: impl Iterator<Item = String>, next: &str) -> String {
    let mut line = "sessctl".to_owned();
    while let Some(word) = words.next() {
        if word == "--after" {
            words.next();
        } else if !word.starts_with("--after=") {
            line += &format!(" {}", quoted(&word));
        }
    }
    line + " --after " + next
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

pub(super) fn one_of(values: &[impl ToString]) -> String {
    let names: Vec<_> = values.iter().map(ToString::to_string).collect();
    format!("one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_filters_and_order() {
        let words = ["list", "--tag", "a b", "--after", "x.1", "--sort=created", "--after=y.2"];
        assert_eq!(
            onward(words.map(str::to_owned).into_iter(), "z.3"),
            "sessctl list --tag 'a b' --sort=created --after z.3"
        );
    }
}
