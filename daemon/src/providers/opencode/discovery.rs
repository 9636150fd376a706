//! Finding, reading and checking the family's sessions, which are rows of one database.

use std::fs;
use std::path::{Path, PathBuf};

use super::rows::Row;
use super::{Brand, messages, rows, started};
use crate::providers::{
    Bound, Discovery, FileId, Found, Home, Listed, Listing, LiveSession, Start, Unreadable,
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
        let rows = sqlite::read(&database, rows::all)?;
        let file = fs::metadata(&database).map(|it| FileId::of(&it)).unwrap_or_default();
        let listed = |row: &Row| {
            let location = location(&database, &row.id);
            Listed { location, stamp: row.stamp(), file }
        };
        let transcripts = rows.iter().filter(|row| row.has_messages).map(listed).collect();
        Ok(Listing { transcripts, gaps: Vec::new() })
    }

    fn name_in<'a>(&self, location: &'a str) -> &'a str {
        id_in(location)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        self.read_all(home, &[location]).pop().flatten()
    }

    /// Opens the database once for all of them.
    fn read_all(&self, home: &Home, locations: &[&str]) -> Vec<Option<Found>> {
        let ids = locations.iter().map(|location| id_in(location)).collect::<Vec<_>>();
        let found = sqlite::read(&self.database(home), |connection| rows::found(connection, &ids));
        found.unwrap_or_else(|_| vec![None; locations.len()])
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let verdict = sqlite::read(&self.database(home), |connection| {
            let row = rows::by_id(connection, &bound.provider_session_id)?;
            row.map(|row| messages::judge(connection, &row, messages::ALL)).transpose()
        });
        match verdict {
            Ok(verdict) => verdict.unwrap_or(Verdict::EXPIRED),
            Err(error) => error.into(),
        }
    }

    fn started_by(&self, home: &Home, starts: &[Start]) -> Vec<LiveSession> {
        if starts.is_empty() {
            return Vec::new();
        }
        let database = self.database(home);
        let rows = sqlite::read(&database, rows::all).unwrap_or_default();
        started::by(starts, &rows, &database)
    }
}

/// Returns the location of a session: its row.
fn location(database: &Path, id: &str) -> String {
    format!("{}#{id}", database.display())
}

fn id_in(location: &str) -> &str {
    location.rsplit_once('#').map_or("", |(_, id)| id)
}
