//! Plain English in comments, messages and the pages for people, and test names that are short.
//! Knows only words: good English that looks like a riddle is reworded, not excused.

use super::{Source, read, sources, words};

/// Words that are refused, and what to write instead.
struct Riddle {
    place: Place,
    words: &'static [&'static str],
    instead: &'static str,
}

/// Where words are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of a comment.
    CommentStart,
    /// At the start of a doc comment.
    DocStart,
    /// In any comment, and in the pages for people.
    Comment,
    /// In code too, which includes messages.
    Anywhere,
}

use Place::{Anywhere, Comment, CommentStart, DocStart};

const RIDDLES: &[Riddle] = &[
    Riddle {
        place: CommentStart,
        words: &["those of", "who", "whose"],
        instead: "name the thing; under `# Errors`: \"Fails if …\"",
    },
    Riddle { place: CommentStart, words: &["whether"], instead: "\"True if …\"" },
    Riddle { place: CommentStart, words: &["answers"], instead: "\"Returns …\"" },
    Riddle {
        place: DocStart,
        words: &["what", "how", "where"],
        instead: "a verb (\"Returns …\", \"Runs …\"), or the noun itself",
    },
    Riddle { place: Comment, words: &["somebody", "nobody"], instead: "name the person" },
    Riddle { place: Anywhere, words: &["whoever"], instead: "\"anyone who\", or the person" },
    Riddle { place: Anywhere, words: &["anew"], instead: "\"again\"" },
    Riddle { place: Anywhere, words: &["whereupon"], instead: "\"after that\"" },
    Riddle { place: Anywhere, words: &["is no"], instead: "\"is not a\"" },
    Riddle {
        place: Anywhere,
        words: &["comes to nothing", "what it comes to", "what it came to"],
        instead: "say what happens",
    },
];

/// Plain English that contains such words.
const PLAIN: &[&str] =
    &[" how long ", " how many ", " how much ", " how often ", " is no longer ", " there is no "];

/// Pages for people, beside the sources.
const PAGES: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/promises.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "daemon/config.default.toml",
    "docs/reference.md",
];

const TEST_NAME_LETTERS_MAX: usize = 60;

#[test]
fn text_has_no_riddles() {
    let mut broken = String::new();
    let mut seen = 0;
    let pages = PAGES.map(|name| Source { text: read(name), name: name.to_owned() });
    let sources = sources().into_iter().filter(|it| it.name != "tests/e2e/tidy/words.rs");
    for source in sources.chain(pages) {
        for (number, kind, text) in paragraphs(&source) {
            seen += 1;
            let plain = PLAIN.iter().fold(normal(&text), |text, it| text.replace(it, " "));
            for riddle in RIDDLES {
                if let Some(found) = riddle.words.iter().find(|it| riddle.is_in(kind, &plain, it)) {
                    let Source { name, .. } = &source;
                    let instead = riddle.instead;
                    broken += &format!("{name}:{number}: \"{found}\": write {instead}\n");
                }
            }
        }
    }
    assert!(seen > 10_000, "no text found: this test looks at nothing");
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn test_names_are_short() {
    let mut broken = String::new();
    for Source { name, text } in sources() {
        for test in test_names(&text).filter(|test| test.len() > TEST_NAME_LETTERS_MAX) {
            broken += &format!("{name}: {test}: {} letters\n", test.len());
        }
    }
    assert!(broken.is_empty(), "longer than {TEST_NAME_LETTERS_MAX} letters:\n{broken}");
}

/// The kinds of text in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Doc,
    Page,
}

impl Riddle {
    fn is_in(&self, kind: Kind, text: &str, words: &str) -> bool {
        let is_comment = matches!(kind, Kind::Comment | Kind::Doc);
        let words = format!(" {words} ");
        match self.place {
            CommentStart => is_comment && text.starts_with(&words),
            DocStart => kind == Kind::Doc && text.starts_with(&words),
            Comment => kind != Kind::Code && text.contains(&words),
            Anywhere => text.contains(&words),
        }
    }
}

/// Splits a file into paragraphs of one kind, each with its first line's number. A line of code is
/// a paragraph of its own.
fn paragraphs(source: &Source) -> Vec<(usize, Kind, String)> {
    let is_code_file = source.name.ends_with(".rs");
    let mut all: Vec<(usize, Kind, String)> = Vec::new();
    let mut last = None;
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = line.trim_start().trim_start_matches("# ");
        let (kind, text) = match line {
            _ if !is_code_file => (Kind::Page, line),
            _ if line.starts_with("///") || line.starts_with("//!") => (Kind::Doc, &line[3..]),
            _ if line.starts_with("//") => (Kind::Comment, &line[2..]),
            _ => (Kind::Code, line),
        };
        if text.trim().is_empty() {
            last = None;
            continue;
        }
        match all.last_mut() {
            Some((_, _, paragraph)) if last == Some(kind) && kind != Kind::Code => {
                *paragraph += &format!(" {text}");
            }
            _ => all.push((number, kind, text.to_owned())),
        }
        last = Some(kind);
    }
    all
}

/// Lower case, with one blank around every word.
fn normal(text: &str) -> String {
    let text = text.to_lowercase();
    format!(" {} ", words(&text).collect::<Vec<_>>().join(" "))
}

/// The names of the functions after `#[test]` and its like.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name = line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| is_test)?;
        is_test = false;
        words(name).next()
    })
}
