//! Headless turns of the built-in provider.

use sessd_proto::{Event, EventType, Json, LaunchPlan};

use super::{Echo, launch};
use crate::providers::{Home, TurnSpec, Turns};

impl Turns for Echo {
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let resumed = spec.resume.as_ref().map(|bound| &bound.provider_session_id);
        let id = resumed.or(spec.new_id.as_ref())?;
        Some(launch::plan(home, id, &spec.cwd, &["--once"], &spec.launch))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return Vec::new() };
        let kind = value["type"].as_str().and_then(EventType::parse);
        let Some(kind) = kind else { return Vec::new() };
        let text = value["text"].as_str().map(str::to_owned);
        let data = Json(value["data"].clone());
        vec![Event { kind, text, data, ..Event::default() }]
    }
}
