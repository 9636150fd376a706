//! Finding, reading and checking the family's sessions, which are rows of one database.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::rows::{Brief, TABLES};
use super::{Brand, rows, started};
use crate::providers::{
    Bound, Discovery, FileId, Found, Home, Listed, Listing, LiveSession, Reader, Start, Unreadable,
    Verdict, sqlite,
};

/// Which processes have the database open can be seen, but not which session they are on. Nothing
/// is deleted by age.
impl Discovery for Brand {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        vec![home.path.clone()]
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let database = self.database(home);
        let rows = sqlite::read(&database, TABLES, rows::all)?;
        let file = fs::metadata(&database).map(|it| FileId::of(&it)).unwrap_or_default();
        let listed = |row: &Brief| {
            let location = location(&database, &row.id);
            Listed { location, stamp: row.stamp, file }
        };
        let transcripts = rows.iter().filter(|row| row.has_messages).map(listed).collect();
        Ok(Listing { transcripts, gaps: Vec::new() })
    }

    fn name_in<'a>(&self, location: &'a str) -> &'a str {
        id_in(location)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        read_all(&self.database(home), &[location]).pop().flatten()
    }

    fn reader(&self, home: &Home) -> Option<Box<dyn Reader>> {
        Some(Box::new(Rows { database: self.database(home) }))
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        check(&self.database(home), bound)
    }

    fn started_by(&self, home: &Home, starts: &[Start]) -> Vec<LiveSession> {
        if starts.is_empty() {
            return Vec::new();
        }
        let database = self.database(home);
        let rows = sqlite::read(&database, TABLES, rows::all).unwrap_or_default();
        started::by(starts, &rows, &database)
    }
}

/// Reads many rows of a database, which is opened once for all of them.
struct Rows {
    database: PathBuf,
}

impl Reader for Rows {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        read_all(&self.database, locations)
    }

    fn check(&self, bound: &Bound) -> Verdict {
        check(&self.database, bound)
    }
}

fn read_all(database: &Path, locations: &[&str]) -> Vec<Option<Found>> {
    let ids = locations.iter().map(|location| id_in(location)).collect::<Vec<_>>();
    let read = |connection: &Connection| rows::found(connection, &ids);
    let found = sqlite::read(database, TABLES, read);
    found.unwrap_or_else(|_| vec![None; locations.len()])
}

fn check(database: &Path, bound: &Bound) -> Verdict {
    let check = |connection: &Connection| rows::check(connection, &bound.provider_session_id);
    match sqlite::read(database, TABLES, check) {
        Ok(verdict) => verdict.unwrap_or(Verdict::EXPIRED),
        Err(error) => error.into(),
    }
}

/// Returns the location of a session: its row.
fn location(database: &Path, id: &str) -> String {
    format!("{}#{id}", database.display())
}

fn id_in(location: &str) -> &str {
    location.rsplit_once('#').map_or("", |(_, id)| id)
}
