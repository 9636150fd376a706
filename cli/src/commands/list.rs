//! `sessctl list`.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use serde::Serialize;
use sessd_proto::client::Client;
use sessd_proto::session::{ListRequest, SessionPage, Sort, UnreadablePart};
use sessd_proto::{Fault, Kind, LiveState, Session, Status, Timestamp};

use super::resume::quoted;
use crate::directory::absolute;
use crate::{Context, current_dir, duration};

/// List sessions, newest activity first
///
/// Prints at most --limit sessions; use --all for every one. Through a pipe, the columns are
/// separated by tabs and not shortened: id, provider, status, live state, last activity, project,
/// title. `sessctl help states` explains status and live state.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only sessions of the project that contains this directory
    #[arg(long, value_name = "DIR", conflicts_with = "here")]
    project: Option<String>,
    /// Only sessions of the current directory's project
    #[arg(long)]
    here: bool,
    /// Only sessions of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only sessions of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only sessions with this status: active, archived, expired, invalid, unknown
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// Only sessions of this kind: interactive, headless, subagent (hidden by default)
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only sessions with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only sessions that a process has open now
    #[arg(long)]
    busy: bool,
    /// List the trash instead
    #[arg(long, conflicts_with = "busy")]
    trash: bool,
    /// Only sessions active within this time, e.g. 2d, 12h, 30m
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    since: Option<i64>,
    /// Sort by activity or created (newest first), or expires (soonest first)
    #[arg(long, default_value = "activity", value_parser = sort)]
    sort: Sort,
    /// Maximum number of sessions, 1 to 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Continue after the page that ended with this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print every session, however many there are; waits for the first sweep after a start
    #[arg(long, conflicts_with = "after")]
    all: bool,
}

const EXAMPLES: &str = "\
Examples:
  sessctl list --here --since 2d
  sessctl list --sort expires --limit 10
  sessctl list --all --json";

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// An expiry nearer than this is shown, in milliseconds.
const EXPIRY_NEAR_MS: i64 = 3 * DAY_MS;

/// How long `--all` waits for the first sweep.
const FIRST_SWEEP_TIMEOUT: Duration = Duration::from_secs(120);

/// The JSON output of `list` and `check`.
#[derive(Serialize)]
pub(super) struct Sessions {
    pub(super) sessions: Vec<Session>,
    pub(super) next: Option<String>,
    pub(super) incomplete: Vec<UnreadablePart>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let project = if args.here {
        Some(current_dir()?)
    } else {
        args.project.map(|dir| absolute(&dir)).transpose()?
    };
    let mut client = context.connect()?;
    let request = ListRequest {
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
        environment: context.declared_environment(&mut client)?,
    };
    let mut page = if args.all { whole(&mut client, request)? } else { client.list(request)? };
    let sessions = std::mem::take(&mut page.sessions);
    note_discovering(context, page.discovering);
    note_unreadable(context, &page.unreadable);
    if context.output.is_json() {
        return context.output.json(&Sessions {
            sessions,
            next: page.next,
            incomplete: page.unreadable,
        });
    }
    if sessions.is_empty() && context.output.is_terminal() {
        context.output.note("no sessions; to see where sessd looks: `sessctl providers`");
    }
    table(context, &sessions)?;
    if let Some(next) = page.next.filter(|_| context.output.is_terminal()) {
        context.output.note(&format!("more: `{}` (or --all)", next_page(&next)));
    }
    Ok(())
}

/// Returns all sessions in one page. The daemon is asked for them in the order of their creation:
/// a session that moves to the front of the requested order meanwhile would be missed.
fn whole(client: &mut Client, mut request: ListRequest) -> Result<SessionPage, Fault> {
    let order = std::mem::replace(&mut request.sort, Sort::Created);
    let deadline = Instant::now() + FIRST_SWEEP_TIMEOUT;
    let mut all = client.list(request.clone())?;
    while all.discovering && Instant::now() < deadline {
        // Each call waits for the sweep for a while.
        all = client.list(request.clone())?;
    }
    while let Some(next) = all.next.take() {
        request.after = Some(next);
        let mut page = client.list(request.clone())?;
        all.sessions.append(&mut page.sessions);
        all.next = page.next;
    }
    match order {
        Sort::Activity => all.sessions.sort_by_key(|session| Reverse(session.last_activity)),
        Sort::Created => {}
        Sort::Expires => {
            all.sessions.sort_by_key(|it| (it.expires_at.is_none(), it.expires_at));
        }
    }
    Ok(all)
}

/// Notes that sessions may be missing while the first sweep is running.
pub(super) fn note_discovering(context: &Context, discovering: bool) {
    if discovering {
        context.output.note("note: the first sweep is still running, so sessions may be missing");
    }
}

/// Notes in one line that a part of a home cannot be read.
pub(super) fn note_unreadable(context: &Context, parts: &[UnreadablePart]) {
    let [first, others @ ..] = parts else { return };
    let UnreadablePart { provider, path, error, .. } = first;
    let more = if others.is_empty() {
        String::new()
    } else {
        format!(" (and {} more: `sessctl doctor`)", others.len())
    };
    context.output.note(&format!(
        "note: sessions of {provider} may be missing: {path} cannot be read: {error}{more}"
    ));
}

/// Returns the command line of this call for the next page: a cursor is only valid with the same
/// filters and order.
pub(super) fn next_page(cursor: &str) -> String {
    with_cursor(std::env::args().skip(1), cursor)
}

fn with_cursor(mut words: impl Iterator<Item = String>, next: &str) -> String {
    let mut line = "sessctl".to_owned();
    while let Some(word) = words.next() {
        if word == "--after" {
            words.next();
        } else if !word.starts_with("--after=") {
            line += &format!(" {}", quoted(&word));
        }
    }
    line + " --after " + &quoted(next)
}

/// Prints sessions, one per line.
pub(super) fn table(context: &Context, sessions: &[Session]) -> Result<(), Fault> {
    let home = context.env.get("HOME");
    let output = &context.output;
    // Through a pipe the columns are always the same.
    let shows_expiry = output.is_terminal() && sessions.iter().any(|it| expiry(it).is_some());
    let row = |session: &Session| {
        let mut cells = vec![
            output.id(&session.id),
            session.provider.clone(),
            session.status.to_string(),
            live(session),
            output.moment(Some(session.last_activity)),
            output.dir(&session.project, home),
            session.title.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        if shows_expiry {
            cells.insert(3, expiry(session).unwrap_or_else(|| "-".to_owned()));
        }
        cells
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let mut head = vec!["ID", "PROVIDER", "STATUS", "LIVE", "AGO", "PROJECT", "TITLE"];
    if shows_expiry {
        head.insert(3, "EXPIRES");
    }
    if rows.is_empty() { Ok(()) } else { output.table(&head, &rows) }
}

/// Returns the time until the provider deletes a session, if that is near or past.
fn expiry(session: &Session) -> Option<String> {
    let at = session.expires_at.filter(|_| session.status != Status::Expired)?;
    let left_ms = at.0.saturating_sub(crate::output::now().0);
    match left_ms {
        ..=0 => Some("now".to_owned()),
        1..HOUR_MS => Some(format!("{}m", left_ms / 60_000 + 1)),
        HOUR_MS..DAY_MS => Some(format!("{}h", left_ms / HOUR_MS)),
        DAY_MS..EXPIRY_NEAR_MS => Some(format!("{}d", left_ms / DAY_MS)),
        _ => None,
    }
}

/// Returns the live state; `none` and `unknown` are both shown as `-`.
fn live(session: &Session) -> String {
    match session.live.state {
        LiveState::None | LiveState::Unknown => "-".to_owned(),
        state => state.to_string(),
    }
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
    format!("expected one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_keeps_filters_and_order() {
        let words = ["list", "--tag", "a b", "--after", "x.1", "--sort=created", "--after=y.2"];
        assert_eq!(
            with_cursor(words.map(str::to_owned).into_iter(), "z.3"),
            "sessctl list --tag 'a b' --sort=created --after z.3"
        );
    }
}
