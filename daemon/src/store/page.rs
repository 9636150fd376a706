//! Pages of sessions: keyset pagination along one index, within fixed limits of rows. Knows no
//! provider.
//!
//! The most selective filter picks the index, and the cursor the position in it, so a page costs
//! the same at any depth. Further filters are applied to at most [`EXAMINED_MAX`] rows; the page
//! may then be short, with a cursor to go on.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use sessd_proto::session::{ListRequest, Sort};
use sessd_proto::{Fault, FaultCode, Kind};

use super::sessions::{self, Stored};
use super::{Error, Result, indexes};

/// Upper limit of index rows that one call examines when filters are combined.
pub const EXAMINED_MAX: u32 = 10_000;

/// Sessions per page by default.
pub const LIMIT: u32 = 50;

/// Upper limit of sessions per page.
pub const LIMIT_MAX: u32 = 500;

/// Returns a page of sessions, and the cursor of the next one if there may be more.
///
/// # Errors
/// [`FaultCode::Usage`] for an invalid limit or cursor. Fails if the registry cannot be read.
pub fn list(
    connection: &Connection,
    request: &ListRequest,
) -> Result<(Vec<Stored>, Option<String>)> {
    let limit = limit(request.limit)?;
    let Some(walk) = Walk::plan(connection, request)? else { return Ok((Vec::new(), None)) };
    let mut statement = indexes::prepare(connection, &walk.sql)?;
    let position = |name| statement.column_index(name);
    let (at_seq, at_key, at_match) =
        (position("row_seq")?, position("sort_key")?, position("is_match")?);
    let mut rows = statement.query(params_from_iter(&walk.parameters))?;
    let mut seqs = Vec::with_capacity(limit as usize);
    let mut examined = 0;
    let mut last = None;
    let mut more = false;
    while let Some(row) = rows.next()? {
        if seqs.len() == limit as usize {
            more = true;
            break;
        }
        examined += 1;
        let (seq, key): (i64, i64) = (row.get(at_seq)?, row.get(at_key)?);
        if row.get::<_, Option<bool>>(at_match)? == Some(true) {
            seqs.push(seq);
        }
        last = Some(Cursor { sort: request.sort, key, seq });
    }
    let next = last.filter(|_| more || examined == EXAMINED_MAX).map(Cursor::to_text);
    Ok((sessions::by_seqs(connection, seqs)?, next))
}

/// Returns the page size for a requested limit; 0 means the default.
///
/// # Errors
/// [`FaultCode::Usage`] above the maximum.
pub fn limit(asked: u32) -> Result<u32> {
    match asked {
        0 => Ok(LIMIT),
        1..=LIMIT_MAX => Ok(asked),
        _ => Err(usage(format!("a page has at most {LIMIT_MAX} sessions, not {asked}"))),
    }
}

/// A query that walks along one index.
pub(super) struct Walk {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
}

/// A condition on one column, and the index that starts with it.
struct Filter {
    index: &'static str,
    column: &'static str,
    value: Value,
}

impl Walk {
    /// Plans the query; `None` if a filter names something that no session has.
    pub(super) fn plan(connection: &Connection, request: &ListRequest) -> Result<Option<Self>> {
        let Some(mut filters) = filters(connection, request)? else { return Ok(None) };
        let subagents = request.kind == Some(Kind::Subagent);
        // Only the indexes that start with the kind or a tag contain subagents. The trash is
        // small and has one index for each order.
        let wanted = |filter: &Filter| !subagents || matches!(filter.index, "kind" | "tag");
        let first = filters.iter().position(wanted).filter(|_| !request.trash);
        let first = first.map(|at| filters.remove(at));
        Ok(Some(Self::build(request, first.as_ref(), &filters)?))
    }

    fn build(request: &ListRequest, first: Option<&Filter>, rest: &[Filter]) -> Result<Self> {
        let mut parameters = Vec::new();
        let tagged = first.is_some_and(|filter| filter.index == "tag");
        let (key, seq) = match (tagged, request.sort) {
            (false, sort) => {
                (["s.last_activity", "s.created_at", "s.expires_key"][sort as usize], "s.seq")
            }
            (true, sort) => (
                ["t.last_activity", "t.created_at", "t.expires_key"][sort as usize],
                "t.session_seq",
            ),
        };
        let (direction, beyond) = match request.sort {
            Sort::Activity | Sort::Created => ("DESC", "<"),
            Sort::Expires => ("ASC", ">"),
        };
        let mut parameter = |value: Value| {
            parameters.push(value);
            format!("?{}", parameters.len())
        };
        let mut wanted = vec!["1".to_owned()];
        let mut range = Vec::new();
        for filter in rest {
            let value = parameter(filter.value.clone());
            wanted.push(match filter.index {
                "tag" => format!("{value} IN (SELECT tag FROM tags WHERE session_id = s.id)"),
                _ => format!("{} = {value}", filter.column),
            });
        }
        if tagged {
            wanted.push("s.trashed_at IS NULL".to_owned());
            wanted.extend(request.kind.is_none().then(|| "s.kind <> 'subagent'".to_owned()));
        } else if request.trash {
            range.push("s.trashed_at IS NOT NULL".to_owned());
            wanted.extend(request.kind.is_none().then(|| "s.kind <> 'subagent'".to_owned()));
        } else {
            range.push("s.trashed_at IS NULL".to_owned());
            let by_kind = first.is_some_and(|filter| filter.index == "kind");
            range.extend((!by_kind).then(|| "s.kind <> 'subagent'".to_owned()));
        }
        if let Some(filter) = first {
            range.push(format!("{} = {}", filter.column, parameter(filter.value.clone())));
        }
        if let Some(since) = request.since {
            let bound = format!("{} >= {}", "s.last_activity", parameter(since.0.into()));
            if request.sort == Sort::Activity && !tagged {
                range.push(bound)
            } else {
                wanted.push(bound)
            }
        }
        if let Some(after) = &request.after {
            let cursor = Cursor::parse(after, request.sort)?;
            let (at_key, at_seq) = (parameter(cursor.key.into()), parameter(cursor.seq.into()));
            range.push(format!("({key}, {seq}) {beyond} ({at_key}, {at_seq})"));
        }
        let from = Self::index(request, first);
        let sql = format!(
            "SELECT {seq} AS row_seq, {key} AS sort_key, {wanted} AS is_match
             FROM {from} WHERE {range}
             ORDER BY {key} {direction}, {seq} {direction} LIMIT {EXAMINED_MAX}",
            wanted = wanted.join(" AND "),
            range = range.join(" AND "),
        );
        Ok(Self { sql, parameters })
    }

    /// The FROM clause with the index to walk along.
    fn index(request: &ListRequest, first: Option<&Filter>) -> String {
        let sort = request.sort;
        match first {
            Some(filter) if filter.index == "tag" => {
                format!(
                    "tags t INDEXED BY list_tag_{sort} JOIN sessions s ON s.seq = t.session_seq"
                )
            }
            Some(filter) => format!("sessions s INDEXED BY list_{}_{sort}", filter.index),
            None if request.trash => format!("sessions s INDEXED BY list_trash_{sort}"),
            None => format!("sessions s INDEXED BY list_{sort}"),
        }
    }
}

/// Returns the filters of a request, most selective first; `None` if one cannot match.
fn filters(connection: &Connection, request: &ListRequest) -> Result<Option<Vec<Filter>>> {
    let mut filters = Vec::new();
    let text = |index, column, value: Option<&str>| {
        value.map(|value| Filter { index, column, value: value.to_owned().into() })
    };
    filters.extend(text("tag", "t.tag", request.tag.as_deref()));
    if let Some(root) = &request.project {
        let mut statement = connection.prepare_cached("SELECT id FROM projects WHERE root = ?1")?;
        let id: Option<i64> = statement.query_row([root], |row| row.get(0)).optional()?;
        let Some(id) = id else { return Ok(None) };
        filters.push(Filter { index: "project", column: "s.project_id", value: id.into() });
    }
    filters.extend(text("agent", "s.agent", request.agent.as_deref()));
    filters.extend(text("provider", "s.provider", request.provider.as_deref()));
    filters.extend(text("status", "s.status", request.status.map(|status| status.as_str())));
    filters.extend(text("kind", "s.kind", request.kind.map(|kind| kind.as_str())));
    Ok(Some(filters))
}

/// The position at which a page ended: sort key and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    sort: Sort,
    key: i64,
    seq: i64,
}

impl Cursor {
    fn to_text(self) -> String {
        format!("{}.{}.{}", self.sort, self.key, self.seq)
    }

    fn parse(text: &str, sort: Sort) -> Result<Self> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        let (of, key, seq) = (Sort::parse(part()), part().parse(), part().parse());
        match (of, key, seq) {
            (Some(of), Ok(key), Ok(seq)) if of == sort => Ok(Self { sort, key, seq }),
            (Some(of), Ok(_), Ok(_)) => {
                Err(usage(format!("the cursor belongs to a list sorted by {of}, not by {sort}")))
            }
            _ => Err(usage("invalid cursor".to_owned())),
        }
    }
}

fn usage(what: String) -> Error {
    Error::Fault(
        Fault::new(FaultCode::Usage, what).hint("start over without a cursor: `sessctl list`"),
    )
}
