//! Tells the words of a person from the text that a CLI, its hooks or an editor put around them.
//! Knows no provider: each names its own text.
//!
//! A title must tell sessions apart, so it is the first text that a person or a program typed. Text
//! that a CLI adds is known by its beginning and its end. It is cut out of a prompt, and a prompt
//! that consists of nothing else does not count. Some texts are only better than none, e.g. a
//! command without arguments; they count where a session has no other prompt.

use super::record;

/// The text that a CLI and its surroundings put into prompts.
pub(super) struct Noise {
    /// Names of elements, which are cut out wherever they are: `<name …> … </name>`.
    pub(super) elements: &'static [&'static str],
    /// Passages at the start of a prompt, by their beginning and their end. With an empty end a
    /// passage reaches to the end of the prompt.
    pub(super) passages: &'static [(&'static str, &'static str)],
}

/// A prompt, as a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// The user's own words.
    Words(String),
    /// A text that is a title only if there is no better one.
    Substitute(String),
}

impl Noise {
    /// Returns the prompt in a text; `None` if the text is all noise.
    pub(super) fn prompt(&self, text: &str) -> Option<Prompt> {
        let text = self.without_elements(text);
        let mut rest = &*text;
        while let Some(shorter) = self.after_passage(rest) {
            rest = shorter;
        }
        let title = record::title(rest)?;
        // An element that no version had yet.
        let is_element = title.starts_with('<') && self.is_element_start(&title);
        Some(if is_element { Prompt::Substitute(title) } else { Prompt::Words(title) })
    }

    fn without_elements(&self, text: &str) -> String {
        let mut kept = String::new();
        let mut rest = text;
        // Elements without an end. Each is looked for once, else a text full of beginnings takes
        // the square of its size.
        let mut endless: Vec<&str> = Vec::new();
        while let Some(at) = memchr::memchr(b'<', rest.as_bytes()) {
            let (before, from) = rest.split_at(at);
            kept += before;
            let name = self.elements.iter().find(|name| starts_element(from, name));
            let name = name.filter(|name| !endless.contains(*name));
            match name.map(|name| (name, after_element(from, name))) {
                Some((_, Some(after))) => rest = after,
                // It was cut off, unless it is only mentioned in a sentence.
                Some((_, None)) if kept.trim().is_empty() => return String::new(),
                unended => {
                    endless.extend(unended.map(|(name, _)| name));
                    kept.push('<');
                    rest = &from[1..];
                }
            }
        }
        kept + rest
    }

    fn after_passage<'t>(&self, text: &'t str) -> Option<&'t str> {
        let text = text.trim_start();
        let (_, end) = self.passages.iter().find(|(start, _)| text.starts_with(start))?;
        let after = if end.is_empty() { None } else { text.find(end).map(|at| at + end.len()) };
        Some(after.map_or("", |at| &text[at..]))
    }

    /// True if a text begins with an element in small letters, as those of machines do.
    fn is_element_start(&self, text: &str) -> bool {
        let name = &text[1..];
        let end = name.find(|c: char| !c.is_ascii_lowercase() && !"-_".contains(c));
        end.is_some_and(|end| end > 0 && name[end..].starts_with(['>', ' ']))
    }
}

/// Returns the text after the element with which `text` starts.
fn after_element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    Some(text.split_once(&format!("</{name}>"))?.1)
}

fn starts_element(text: &str, name: &str) -> bool {
    let after = text.strip_prefix('<').and_then(|text| text.strip_prefix(name));
    after
        .is_some_and(|after| after.starts_with(|c: char| c == '>' || c == '/' || c.is_whitespace()))
}

/// Returns the text between the start and the end of the first element of this name.
pub(super) fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The best of several prompts, added in the order of their preference.
#[derive(Clone, Debug, Default)]
pub(super) struct Best {
    words: Option<String>,
    substitute: Option<String>,
}

impl Best {
    pub(super) fn add(&mut self, prompt: Option<Prompt>) {
        match prompt {
            Some(Prompt::Words(title)) => drop(self.words.get_or_insert(title)),
            Some(Prompt::Substitute(title)) => drop(self.substitute.get_or_insert(title)),
            None => {}
        }
    }

    /// True if no prompt that follows is better.
    pub(super) fn is_final(&self) -> bool {
        self.words.is_some()
    }

    pub(super) fn is_some(&self) -> bool {
        self.words.is_some() || self.substitute.is_some()
    }

    pub(super) fn title(self) -> Option<String> {
        self.words.or(self.substitute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: Noise = Noise {
        elements: &["reminder", "ide_file"],
        passages: &[("[Interrupted", "]"), ("Caveat: ", ""), ("# Setup", "## Request:")],
    };

    fn words(text: &str) -> Option<String> {
        match NOISE.prompt(text) {
            Some(Prompt::Words(words)) => Some(words),
            _ => None,
        }
    }

    #[test]
    fn noise_around_words_is_cut_out() {
        for text in [
            "fix it",
            "<reminder>\nbe brief\n</reminder>\nfix it",
            "<ide_file path=\"x\">a</ide_file><reminder>b</reminder> fix it <reminder>c</reminder>",
            "[Interrupted by user]fix it",
            "# Setup\n- open: a.py\n## Request:\nfix it",
            "<reminder/></reminder>[Interrupted] # Setup ## Request: fix it",
        ] {
            assert_eq!(words(text).as_deref(), Some("fix it"), "{text}");
        }
    }

    /// Takes minutes if each passage costs a copy of the rest.
    #[test]
    fn many_passages_are_cut_out() {
        let text = "[Interrupted]".repeat(1_000_000) + "fix it";
        assert_eq!(words(&text).as_deref(), Some("fix it"));
    }

    #[test]
    fn noise_alone_is_no_prompt() {
        for text in ["", "<reminder>x</reminder>", "<reminder>cut off", "Caveat: x", "[Interrupted"]
        {
            assert_eq!(NOISE.prompt(text), None, "{text}");
        }
    }

    #[test]
    fn words_about_noise_stay() {
        for text in ["why <reminder> here?", "<Foo> is not <b>bold</b>", "a < b", "<reminders> x y"]
        {
            let title = NOISE.prompt(text).and_then(|prompt| {
                let mut best = Best::default();
                best.add(Some(prompt));
                best.title()
            });
            assert_eq!(title.as_deref(), Some(text));
        }
        let mut best = Best::default();
        best.add(NOISE.prompt("<new-element>x</new-element>"));
        best.add(NOISE.prompt("real"));
        assert_eq!(best.title().as_deref(), Some("real"));
    }
}
