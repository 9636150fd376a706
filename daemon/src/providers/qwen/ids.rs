//! The session that the records of a transcript name. The CLI refuses a transcript whose records
//! name more than one. Knows neither homes nor folders.

use std::io;
use std::path::Path;

use memchr::memmem;

use super::transcript::Record;
use crate::providers::head_tail::HeadTail;
use crate::providers::record::records;
use crate::providers::scan;

const KEY: &[u8] = b"\"sessionId\":\"";

/// Bytes of a transcript that are searched: a second or two.
const BYTES_MAX: usize = 1 << 30;

/// The sessions that were named so far.
#[derive(Default)]
struct Ids {
    first: Option<String>,
    are_mixed: bool,
}

impl Ids {
    /// Adds the records of a line. Most lines name the known session and nothing else, and are not
    /// parsed again.
    fn add(&mut self, line: &[u8]) {
        let is_known = |at: usize| {
            let first = self.first.as_deref().unwrap_or_default().as_bytes();
            let rest = &line[at + KEY.len()..];
            !first.is_empty() && rest.starts_with(first) && rest.get(first.len()) == Some(&b'"')
        };
        if memmem::find_iter(line, KEY).all(is_known) {
            return;
        }
        for record in records::<Record<'_>>(line).filter(Record::is_accepted) {
            let id = record.session_id.as_deref().unwrap_or_default();
            match &self.first {
                Some(first) => self.are_mixed |= first != id,
                None => self.first = Some(id.to_owned()),
            }
        }
    }
}

/// True if the records at both ends name more than one session.
pub(super) fn are_mixed(ends: &HeadTail) -> bool {
    let mut ids = Ids::default();
    ends.head().chain(ends.tail_reversed()).for_each(|line| ids.add(line));
    ids.are_mixed
}

/// True if the records of a file name more than one session.
pub(super) fn are_mixed_in(path: &Path) -> io::Result<bool> {
    let (mut ids, mut bytes) = (Ids::default(), 0);
    let scanned = scan::scan(path, |line| {
        ids.add(line);
        bytes += line.len();
        !ids.are_mixed && bytes < BYTES_MAX
    });
    match scanned {
        // What is beyond the limit is not judged.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(ids.are_mixed),
        scanned => scanned.map(|()| ids.are_mixed),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_records_with_an_identity_name_a_session() {
        let record = |id: &str, of: &str| {
            format!(r#"{{"uuid":"u","parentUuid":null,"sessionId":"{id}","type":"{of}"}}"#)
        };
        let forked = record("a", "user").replace('}', r#","forkedFrom":{"sessionId":"b"}}"#);
        let rootless = r#"{"uuid":"u","sessionId":"b","type":"user"}"#;
        for (other, mixed) in [
            (record("a", "system"), false),
            (record("b", "system"), true),
            (record("ab", "user"), true),
            (record("b", "of-tomorrow"), false),
            (forked, false),
            (rootless.to_owned(), false),
            (format!("{}{}", record("a", "user"), record("b", "user")), true),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), format!("{}\n{other}\n", record("a", "user"))).unwrap();
            let ends = HeadTail::read(file.path(), 1 << 16).unwrap();
            assert_eq!(are_mixed(&ends), mixed, "{other}");
            assert_eq!(are_mixed_in(file.path()).unwrap(), mixed, "{other}");
        }
    }
}
