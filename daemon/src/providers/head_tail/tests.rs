//! Tests of reading both ends of a file. Knows no format.

use std::fs;

use super::*;
use crate::providers::scan::scan;

fn lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[test]
fn head_and_tail_are_cut_at_line_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
    let read = HeadTail::read(&path, 6).unwrap();
    assert!(!read.is_whole());
    assert_eq!(lines(read.head()), ["one"]);
    assert_eq!(lines(read.tail_reversed()), ["four"]);
    let stream = fs::read(&path).unwrap();
    let read = HeadTail::of_stream(&*stream, 6, 100).unwrap();
    assert_eq!(lines(read.head()), ["one", "two"]);
    assert_eq!(lines(read.tail_reversed()), ["four"]);
    assert!(HeadTail::of_stream(&*stream, 5, 17).is_err());
}

#[test]
fn line_far_before_the_tail_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let find = |before: usize, after: usize| {
        let [before, after] = [before, after].map(|length| "x".repeat(length));
        fs::write(&path, format!("a KEY 1\n{before}\na KEY 2\n{after}\nend\n")).unwrap();
        let read = HeadTail::read(&path, 16).unwrap();
        let mut found = Vec::new();
        let mut add = |line: &[u8]| found.push(String::from_utf8_lossy(line).into_owned());
        read.search_back(&path, SEARCH_BYTES_MAX, &[b"KEY", b"MORE"], &mut add).unwrap();
        found
    };
    for after in [0, 100, 60_000, (64 << 10) - 20, (64 << 10) - 10, 64 << 10, 250_000] {
        assert_eq!(find(100, after), ["a KEY 2"], "{after}");
    }
    assert!(find(100, 300_000).is_empty());
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"a\xff\xfeb\nc\n").unwrap();
    let read = HeadTail::read(&path, 100).unwrap();
    assert_eq!(lines(read.head()), ["a\u{fffd}\u{fffd}b", "c"]);
    assert!(!read.is_utf8());
    let mut scanned = Vec::new();
    scan(&path, |line| {
        scanned.push(String::from_utf8(line.to_vec()).unwrap());
        true
    })
    .unwrap();
    assert_eq!(scanned, lines(read.head()).into_iter().collect::<Vec<_>>());
}

#[test]
fn record_larger_than_the_first_read_is_found_by_growing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, format!("{}\n{}\n", "a".repeat(50), "b".repeat(50))).unwrap();
    let read = HeadTail::read(&path, 8).unwrap();
    assert!(!read.is_whole() && read.head().next().is_none());
    let read =
        HeadTail::grow(&path, 8, |read| read.head().count(), |_, lines| *lines > 0).unwrap().0;
    assert_eq!(lines(read.tail_reversed()), ["b".repeat(50), "a".repeat(50)]);
}

#[test]
fn line_of_any_size_is_read_with_its_strings_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let long = |name: &str| format!("{{\"{name}\":\"{}\"}}", "x".repeat(9 << 20));
    let small = "{}\n".repeat(9 << 19);
    let names = |lines: &mut dyn Iterator<Item = &[u8]>| {
        let name = |line: &[u8]| line.get(2..3).map(|it| String::from_utf8_lossy(it).into());
        lines.filter_map(name).collect::<Vec<String>>()
    };
    let ends = |text: &str| {
        fs::write(&path, text).unwrap();
        let (ends, ()) = HeadTail::grow(&path, 8, |_| (), |_, ()| false).unwrap();
        assert!(ends.head.len() + ends.tail.len() < 17 << 20 && !ends.is_too_long());
        (names(&mut ends.head()), names(&mut ends.tail_reversed()))
    };
    for end in ["", "\n"] {
        let (head, tail) = ends(&format!("{}\n{small}{}{end}", long("a"), long("b")));
        assert_eq!((head, tail), (vec!["a".to_owned()], vec!["b".to_owned()]));
    }
    let (head, tail) = ends(&format!("{small}{}\n{small}", long("a")));
    assert_eq!((head.len(), tail.len()), (0, 0), "nothing is read in between");
    let mut scanned = Vec::new();
    let scan_line = |line: &[u8]| {
        scanned.push(line.len());
        true
    };
    fs::write(&path, format!("{}\n{{}}\n{}", long("a"), long("b"))).unwrap();
    scan(&path, scan_line).unwrap();
    assert!(scanned.len() == 3 && scanned[1] == 2 && scanned[0].max(scanned[2]) < 1 << 20);
    let stream = format!("{}\n{small}{}\n", long("a"), long("b"));
    let read = HeadTail::of_stream(stream.as_bytes(), 100_000, u64::MAX - 1).unwrap();
    assert_eq!(names(&mut read.head()), ["a"]);
    assert_eq!(names(&mut read.tail_reversed()), ["b"]);
}

#[test]
fn line_that_is_too_long_to_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    // A hole takes no room on the disk.
    File::create(&path).unwrap().set_len(3 << 30).unwrap();
    let (ends, ()) = HeadTail::grow(&path, 8, |_| (), |_, ()| false).unwrap();
    assert!(ends.is_too_long());
    let scanned = scan(&path, |_| true).unwrap_err();
    assert_eq!(scanned.kind(), io::ErrorKind::FileTooLarge);
}
