//! The records with which Claude Code names a session: the user's name, its own title, a summary,
//! and the last prompt. It repeats them as the transcript grows; the last one of each kind counts.

use std::path::Path;

use super::prompt;
use super::transcript::Record;
use crate::providers::head_tail::{HeadTail, SEARCH_BYTES_MAX};
use crate::providers::jsonl::has_any;
use crate::providers::record::{self, records};
use crate::providers::title::Best;

/// Parts of the records, the strongest first.
pub(super) const KEYS: &[&[u8]] =
    &[b"\"customTitle\"", b"\"agent-name\"", b"\"aiTitle\"", b"\"lastPrompt\"", b"\"summary\""];

/// Distance in which the CLI repeats names, in bytes: it reads no more than that itself.
const REPEAT_BYTES: u64 = 64 << 10;

/// The names in the last records. Each is `None` until a record of its kind was seen; a record may
/// also take a name away.
#[derive(Default)]
pub(super) struct Names {
    custom: Option<Option<String>>,
    agent: Option<Option<String>>,
    generated: Option<Option<String>>,
    summary: Option<Option<String>>,
    prompt: Best,
    /// True if a last prompt was seen. Versions that record it repeat every name with it.
    repeats: bool,
}

impl Names {
    /// Adds a record; later ones are added first.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let is = |of: &str| record.of.as_deref() == Some(of);
        set(&mut self.custom, record.custom_title.as_deref());
        set(&mut self.agent, record.agent_name.as_deref().filter(|_| is("agent-name")));
        set(&mut self.generated, record.ai_title.as_deref());
        set(&mut self.summary, record.summary.as_deref().filter(|_| is("summary")));
        self.repeats |= record.last_prompt.is_some();
        if !self.prompt.is_final() {
            self.prompt.add(record.last_prompt.as_deref().and_then(prompt::of_text));
            self.prompt.add(record.prompt());
        }
    }

    /// Looks for what the tail does not have: some way before it, and in the head.
    pub(super) fn complete(&mut self, ends: &HeadTail, path: &Path) {
        if ends.is_whole() || self.custom.is_some() {
            return;
        }
        let mut wanted = vec![KEYS[0]];
        wanted.extend(self.generated.is_none().then_some(KEYS[2]));
        wanted.extend((!self.prompt.is_some()).then_some(KEYS[3]));
        let bytes = if self.repeats { REPEAT_BYTES } else { SEARCH_BYTES_MAX };
        // A file that cannot be read any more has no other names.
        let _ = ends.search_back(path, bytes, &wanted, |line| self.add_line(line));
        let named: Vec<&[u8]> = ends.head().filter(|line| has_any(line, &KEYS[..3])).collect();
        named.into_iter().rev().for_each(|line| self.add_line(line));
    }

    fn add_line(&mut self, line: &[u8]) {
        records::<Record<'_>>(line).for_each(|record| self.add(&record));
    }

    /// Returns the best name.
    pub(super) fn title(&mut self) -> Option<String> {
        let names = [&mut self.custom, &mut self.agent, &mut self.generated, &mut self.summary];
        names.into_iter().find_map(|name| name.take().flatten())
    }

    /// Returns the last prompt, as a title.
    pub(super) fn last_prompt(&self) -> Option<String> {
        self.prompt.clone().title()
    }
}

fn set(name: &mut Option<Option<String>>, text: Option<&str>) {
    if let (None, Some(text)) = (&name, text) {
        *name = Some(record::title(text));
    }
}
