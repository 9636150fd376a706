//! Finding, reading and checking Codex's rollouts.

use std::path::{Path, PathBuf};

use sessd_proto::Reason;
use uuid::Uuid;

use super::lineage::Ancestors;
use super::model_providers::ModelProviders;
use super::names::{self, Names};
use super::rollout::{self, Rollout};
use super::{Codex, live};
use crate::providers::{
    Bound, Discovery, Found, Home, Listing, LiveReader, Reader, Unreadable, Verdict, listing,
};

const SESSIONS: &str = "sessions";
const ARCHIVED: &str = "archived_sessions";
const LOCKS: &str = "thread-writer-locks";

impl Discovery for Codex {
    /// New rollouts appear in the folder of the day, new days in the newest folders above it.
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let mut watched = vec![home.path.join(ARCHIVED), home.path.join(LOCKS), names::path(home)];
        let mut newest = Some(home.path.join(SESSIONS));
        while let Some(folder) = newest {
            newest = listing::folders(&folder).into_iter().max();
            watched.push(folder);
        }
        watched
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let mut found = Listing::default();
        // `sessions` exists from the first session on; without it nothing is known.
        found.walk(listing::root(&home.path.join(SESSIONS))?, 3, is_rollout);
        let folder = home.path.join(ARCHIVED);
        let archived = found.entries(&folder);
        found.walk(archived, 0, is_rollout);
        // Any missing session may have been archived.
        found.widen_gaps(&folder, &home.path);
        let names = Names::read(home);
        for listed in &mut found.transcripts {
            listed.stamp = names.stamp(id_in_name(&listed.location), listed.stamp);
        }
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        Rollouts::of(home).read(location)
    }

    fn reader(&self, home: &Home) -> Option<Box<dyn Reader>> {
        Some(Box::new(Rollouts::of(home)))
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        Rollouts::of(home).check(bound)
    }

    fn live(&self) -> Option<LiveReader> {
        Some(|home| live::read(&home.path.join(LOCKS)))
    }
}

/// Reads rollouts of a home, and once what they share: the names of sessions, the settings, and
/// what they were forked from.
struct Rollouts {
    home: Home,
    names: Names,
    services: ModelProviders,
    ancestors: Ancestors,
}

impl Reader for Rollouts {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| self.read(location)).collect()
    }

    fn check(&self, bound: &Bound) -> Verdict {
        // The CLI takes a malformed id as a request for a new session.
        if !is_uuid(&bound.provider_session_id) {
            return Verdict::MALFORMED_ID;
        }
        let location = match self.locate(bound) {
            Ok(Some(location)) => location,
            Ok(None) => return Verdict::of_missing(Codex.list(&self.home), &bound.location),
            Err(error) => return error.into(),
        };
        match rollout::open(Path::new(&location)) {
            Ok(rollout) => self.judge(&location, &rollout),
            Err(_) => Verdict::UNREADABLE,
        }
    }
}

impl Rollouts {
    fn of(home: &Home) -> Self {
        Self {
            home: home.clone(),
            names: Names::read(home),
            services: ModelProviders::read(home),
            ancestors: Ancestors::of(home),
        }
    }

    fn read(&self, location: &str) -> Option<Found> {
        let rollout = rollout::open(Path::new(location)).ok()?;
        let verdict = self.judge(location, &rollout);
        let id = match &rollout.meta {
            Some(meta) => meta.id.clone(),
            None => id_in_name(location)?.to_owned(),
        };
        let mut found = rollout.found()?;
        if let Some(name) = self.names.of(&id) {
            found.facts.title = Some(name.to_owned());
        }
        found.facts.provider_session_id = id;
        Some(Found { verdict, ..found })
    }

    /// Finds the rollout: archiving moves it, and resuming a compressed one replaces it.
    fn locate(&self, bound: &Bound) -> Result<Option<String>, Unreadable> {
        if Path::new(&bound.location).is_file() {
            return Ok(Some(bound.location.clone()));
        }
        let rollouts = Codex.list(&self.home)?.transcripts.into_iter();
        let mut found = rollouts.map(|listed| listed.location);
        Ok(found.find(|location| id_in_name(location) == Some(&bound.provider_session_id)))
    }

    /// Applies the rules of the CLI, in its order.
    fn judge(&self, location: &str, rollout: &Rollout) -> Verdict {
        if let Some(fault) = rollout.fault {
            return Verdict::of(fault);
        }
        if rollout.meta.as_ref().is_some_and(|meta| !is_uuid(&meta.id)) {
            return Verdict::MALFORMED_ID;
        }
        if let Some(base) = rollout.meta.as_ref().and_then(|meta| meta.base.as_ref()) {
            match self.ancestors.fault(base) {
                Ok(None) => {}
                Ok(Some(fault)) => return Verdict::of(fault),
                Err(error) => return error.into(),
            }
        }
        if Path::new(location).starts_with(self.home.path.join(ARCHIVED)) {
            return Verdict::of(Reason::ArchivedByProvider);
        }
        let service = rollout.meta.as_ref().and_then(|meta| meta.model_provider.as_deref());
        if service.is_some_and(|name| self.services.lack(name)) {
            return Verdict::of(Reason::ModelProviderMissing);
        }
        Verdict::ACTIVE
    }
}

fn is_rollout(name: &str) -> bool {
    name.starts_with("rollout-") && (name.ends_with(".jsonl") || name.ends_with(".jsonl.zst"))
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok()
}

/// Returns the id at the end of a rollout's name.
pub(super) fn id_in_name(location: &str) -> Option<&str> {
    let name = Path::new(location).file_name()?.to_str()?;
    let stem = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".jsonl")?;
    stem.get(stem.len().checked_sub(36)?..).filter(|id| is_uuid(id))
}
