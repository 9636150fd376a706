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
use std::path::{Path, PathBuf};

use sessd_proto::Fault;

use super::Discovery;
use super::sweep::Scan;
use crate::clock::now;
use crate::providers::{FileId, file_of, hides};
use crate::store::merge::{self, Merged, Name};

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
    /// transcript are merged; where both have keys they stay, with one queue and one lease.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(super) async fn merge_names(&self, scans: &mut [Scan]) -> Result<(), Fault> {
        let doubles = doubles(scans);
        let mut dropped: HashSet<Position> = HashSet::new();
        let (known, new): (Vec<_>, Vec<_>) =
            doubles.into_iter().partition(|(_, other)| is_seen(scans, *other));
        dropped.extend(new.into_iter().map(|(_, other)| other));
        let mut twins = Vec::new();
        for batch in known.chunks(MERGE_BATCH) {
            let pairs = batch.iter().map(|(kept, other)| (name(scans, *kept), name(scans, *other)));
            let pairs: Vec<_> = pairs.collect();
            let merged = self.store.write_durable(move |tx| merge::names(tx, &pairs, now()));
            for ((kept, other), merged) in batch.iter().zip(merged.await?) {
                match merged {
                    Merged::Apart(pair) => {
                        twins.extend(pair);
                        continue;
                    }
                    Merged::One => {}
                }
                for position in [kept, other] {
                    let location = scans[position.0].listed[position.1].location.clone();
                    // The kept one is read again.
                    scans[position.0].seen.remove(&location);
                }
                dropped.insert(*other);
            }
        }
        for (home, scan) in scans.iter_mut().enumerate() {
            let mut position = 0..;
            let mut next = || position.next().unwrap_or_default();
            scan.listed.retain(|_| !dropped.contains(&(home, next())));
        }
        if scans.iter().all(|scan| scan.is_complete()) {
            let homes: Vec<i64> = scans.iter().map(|scan| scan.known.id).collect();
            self.writers.set_twins(homes, twins).await?;
        }
        Ok(())
    }
}

fn name(scans: &[Scan], (home, entry): Position) -> Name {
    let scan = &scans[home];
    Name { home_id: scan.known.id, location: scan.listed[entry].location.clone() }
}

fn is_seen(scans: &[Scan], (home, entry): Position) -> bool {
    let scan = &scans[home];
    scan.seen.contains_key(&scan.listed[entry].location)
}

/// Returns the surplus names of transcripts, each with the name that is kept.
fn doubles(scans: &[Scan]) -> Vec<(Position, Position)> {
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
    let mut real = RealFolders::default();
    let mut doubles = Vec::new();
    for names in groups.into_values() {
        let rank = |position: &Position| {
            let location = &scans[position.0].listed[position.1].location;
            (!is_seen(scans, *position), !real.is_real(location), *position, location)
        };
        let mut ranked: Vec<_> = names.iter().map(rank).collect();
        ranked.sort_unstable();
        let kept = ranked[0].2;
        doubles.extend(ranked[1..].iter().map(|rank| (kept, rank.2)));
    }
    doubles
}

/// Tells paths without a link in them from others, and looks at every folder once.
#[derive(Default)]
struct RealFolders {
    seen: HashMap<PathBuf, bool>,
}

impl RealFolders {
    fn is_real(&mut self, location: &str) -> bool {
        let path = Path::new(file_of(location));
        let Some(folder) = path.parent() else { return true };
        let is_real = || folder.canonicalize().is_ok_and(|real| real == folder);
        *self.seen.entry(folder.to_owned()).or_insert_with(is_real) && !path.is_symlink()
    }
}

/// Returns the transcripts whose old name is gone and that have exactly one new name.
pub(super) fn moves(scans: &[Scan]) -> Moves {
    let mut moves = Moves::default();
    let mut gone: HashMap<&str, Vec<Name>> = HashMap::new();
    for scan in scans.iter().filter(|scan| scan.is_listed()) {
        let listed: HashSet<&str> = scan.listed.iter().map(|it| &*it.location).collect();
        for location in scan.seen.keys() {
            if !listed.contains(&**location) && !hides(&scan.gaps, location) {
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
