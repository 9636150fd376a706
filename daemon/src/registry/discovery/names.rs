//! Names: gives every transcript one name and so one row, whatever links lead to it, and finds the
//! transcripts that have moved.
//!
//! Two names are one transcript if they lead to the same file, by device and inode, and name the
//! same session. Only names of one sweep are compared: numbers are used again after a deletion or a
//! remount, and a hard-linked backup becomes a file of its own when either side is rewritten. So
//! nothing of this is stored, and a decision that no longer holds is undone by the next sweep. The
//! name that a row has already is kept, so that names do not change from sweep to sweep.
//!
//! A transcript has moved if its old name is gone, and exactly one new name in the same listings
//! names the same session: a project that was renamed together with its transcripts.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use sessd_proto::Fault;

use super::Discovery;
use super::sweep::Scan;
use crate::clock::now;
use crate::providers::{FileId, Hidden, Listed, file_of};
use crate::registry::homes::KnownHome;
use crate::registry::homes::gate::CHECK_TIMEOUT;
use crate::store::bindings;
use crate::store::merge::{self, Merged, Name, Pair};

/// Pairs of names that one transaction merges.
const MERGE_BATCH: usize = 100;

/// A position in the listings of a sweep: home, transcript.
type Position = (usize, usize);

/// The transcripts that have moved, by their new location.
#[derive(Debug, Default)]
pub(super) struct Moves {
    by_new: HashMap<String, Name>,
    from: HashSet<String>,
}

impl Moves {
    /// Returns the name that the transcript at this location had.
    pub(super) fn to(&self, location: &str) -> Option<&Name> {
        self.by_new.get(location)
    }

    /// True if the transcript at this location has moved away.
    pub(super) fn are_from(&self, location: &str) -> bool {
        self.from.contains(location)
    }
}

impl Discovery {
    /// Leaves one name of every transcript in the scans. Rows that turn out to be of one
    /// transcript are merged; those that have to stay apart get one queue and one lease. `is_whole`
    /// is false if another home of the provider could not be scanned.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(super) async fn merge_names(
        &self,
        scans: &mut [Scan],
        is_whole: bool,
    ) -> Result<(), Fault> {
        let groups = groups(scans);
        self.note_crossing(scans, &groups);
        let rows = self.rows_of(scans, &groups).await?;
        let mut dropped: HashSet<Position> = HashSet::new();
        let mut pairs = Vec::new();
        for group in &groups {
            let kept = self.kept(scans, group, &rows).await?;
            for other in group.iter().filter(|other| **other != kept) {
                match (rows.get(&kept), rows.get(other)) {
                    (Some(row), Some(other_row)) => pairs.push((kept, *row, *other, *other_row)),
                    _ => _ = dropped.insert(*other),
                }
            }
        }
        let mut twins = Vec::new();
        for batch in pairs.chunks(MERGE_BATCH) {
            let named = |position: Position, row: i64| (name(scans, position), row);
            let asked = batch.iter().map(|(kept, row, other, other_row)| Pair {
                kept: named(*kept, *row),
                other: named(*other, *other_row),
            });
            let asked: Vec<_> = asked.collect();
            let merged = self.store.write_durable(move |tx| merge::names(tx, &asked, now()));
            for ((kept, _, other, _), merged) in batch.iter().zip(merged.await?) {
                match merged {
                    Merged::Apart(pair) => twins.push(pair),
                    Merged::Changed => {}
                    Merged::One => {
                        dropped.insert(*other);
                        for (home, entry) in [*kept, *other] {
                            let location = scans[home].listed[entry].location.clone();
                            scans[home].seen.remove(&location);
                        }
                    }
                }
            }
        }
        for (home, scan) in scans.iter_mut().enumerate() {
            let mut position = 0..;
            let mut next = || position.next().unwrap_or_default();
            scan.listed.retain(|_| !dropped.contains(&(home, next())));
        }
        // What cannot be read now may still be a name of one of them.
        let is_whole = is_whole && scans.iter().all(|scan| scan.is_complete());
        let homes = scans.iter().map(|scan| scan.known.id).filter(|_| is_whole).collect();
        self.writers.set_twins(twins, homes).await
    }

    /// Notes whether a transcript has names in several homes of the provider.
    fn note_crossing(&self, scans: &[Scan], groups: &[Vec<Position>]) {
        let Some(provider) = scans.first().map(|scan| scan.known.provider.id()) else { return };
        let is_crossing = groups.iter().any(|group| group.iter().any(|it| it.0 != group[0].0));
        if scans.len() > 1 {
            self.apart().insert(provider, !is_crossing);
        }
    }

    /// Returns the row numbers of the current bindings of all names in the groups.
    async fn rows_of(
        &self,
        scans: &[Scan],
        groups: &[Vec<Position>],
    ) -> Result<HashMap<Position, i64>, Fault> {
        let mut rows = HashMap::new();
        for (home, scan) in scans.iter().enumerate() {
            let in_home = || groups.iter().flatten().filter(|position| position.0 == home);
            if in_home().next().is_none() {
                continue;
            }
            let home_id = scan.known.id;
            let by_location = self.store.read_slowly(move |c| bindings::by_location(c, home_id));
            let by_location = by_location.await?;
            let row = |position: &Position| {
                Some((*position, *by_location.get(&scan.listed[position.1].location)?))
            };
            rows.extend(in_home().filter_map(row));
        }
        Ok(rows)
    }

    /// Returns the name of a group that stays: one with a row, else one without a link in it.
    async fn kept(
        &self,
        scans: &[Scan],
        group: &[Position],
        rows: &HashMap<Position, i64>,
    ) -> Result<Position, Fault> {
        if let Some(known) = group.iter().find(|position| rows.contains_key(position)) {
            return Ok(*known);
        }
        for position in group {
            let Name { location, .. } = name(scans, *position);
            let known = &scans[position.0].known;
            let look = move |_: &KnownHome| is_real(Path::new(file_of(&location)));
            if self.homes.ask(known, CHECK_TIMEOUT, look).await? == Some(true) {
                return Ok(*position);
            }
        }
        Ok(group[0])
    }
}

fn name(scans: &[Scan], (home, entry): Position) -> Name {
    let scan = &scans[home];
    Name { home_id: scan.known.id, location: scan.listed[entry].location.clone() }
}

/// Returns the names of each transcript that has several.
fn groups(scans: &[Scan]) -> Vec<Vec<Position>> {
    let mut first: HashMap<(FileId, u64), Position> = HashMap::new();
    let mut groups: HashMap<Position, Vec<Position>> = HashMap::new();
    for (home, scan) in scans.iter().enumerate() {
        let discovery = scan.known.provider.discovery();
        for (entry, listed) in scan.listed.iter().enumerate() {
            if listed.file == FileId::default() {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            discovery.name_in(&listed.location).hash(&mut hasher);
            let at = *first.entry((listed.file, hasher.finish())).or_insert((home, entry));
            if at != (home, entry) {
                groups.entry(at).or_insert_with(|| vec![at]).push((home, entry));
            }
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_unstable();
    groups
}

/// True if there is no link in a path.
fn is_real(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real == path)
}

/// Returns the transcripts whose old name is gone and that have exactly one new name.
pub(super) fn moves(scans: &[Scan]) -> Moves {
    let mut moves = Moves::default();
    let mut gone: HashMap<&str, Vec<Name>> = HashMap::new();
    for scan in scans.iter().filter(|scan| scan.is_listed()) {
        let is_seen = |it: &&Listed| scan.seen.contains_key(&it.location);
        if scan.listed.iter().filter(is_seen).count() == scan.seen.len() {
            continue;
        }
        let listed: HashSet<&str> = scan.listed.iter().map(|it| &*it.location).collect();
        let hidden = Hidden::by(&scan.gaps);
        for location in scan.seen.keys() {
            if !listed.contains(&**location) && !hidden.has(location) {
                let name = Name { home_id: scan.known.id, location: location.clone() };
                gone.entry(scan.known.provider.discovery().name_in(location))
                    .or_default()
                    .push(name);
            }
        }
    }
    if gone.is_empty() {
        return moves;
    }
    let mut new: HashMap<&str, Vec<&str>> = HashMap::new();
    for scan in scans {
        let fresh = scan.listed.iter().filter(|it| !scan.seen.contains_key(&it.location));
        for listed in fresh {
            let name = scan.known.provider.discovery().name_in(&listed.location);
            if gone.contains_key(name) {
                new.entry(name).or_default().push(&listed.location);
            }
        }
    }
    for (name, locations) in new {
        if let ([to], Some([from])) = (&locations[..], gone.get(name).map(|it| &it[..])) {
            moves.from.insert(from.location.clone());
            moves.by_new.insert((*to).to_owned(), from.clone());
        }
    }
    moves
}
