//! The flags of the Cursor CLI, as far as the tests and sessd use them. Knows no chat.

/// The parsed arguments.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) print: bool,
    pub(crate) version: bool,
    pub(crate) trust: bool,
    pub(crate) output: String,
    pub(crate) resume: Option<String>,
    pub(crate) new_session_id: Option<String>,
    model: Option<String>,
    pub(crate) words: Vec<String>,
}

impl Arguments {
    /// Takes `--name value` and `--name=value` alike; what follows `--` is the prompt.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = words;
        while let Some(word) = words.next() {
            if word == "--" {
                arguments.words.extend(words.by_ref());
                break;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let missing = format!("error: option '{name} <value>' argument missing");
            let mut value = || value.clone().or_else(|| words.next()).ok_or(missing.clone());
            match &*name {
                "-p" | "--print" => arguments.print = true,
                "-v" | "--version" => arguments.version = true,
                "--trust" => arguments.trust = true,
                "-f" | "--force" | "--approve-mcps" => {}
                "--output-format" => arguments.output = value()?,
                "--resume" => arguments.resume = Some(value()?),
                "--new-session-id" => arguments.new_session_id = Some(value()?),
                "--model" => arguments.model = Some(value()?),
                name if name.starts_with('-') => {
                    return Err(format!("error: unknown option '{name}'"));
                }
                _ => arguments.words.push(name),
            }
        }
        Ok(arguments)
    }

    pub(crate) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or("test-model")
    }
}
