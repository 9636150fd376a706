//! Damages that any file of records in lines can have. Knows no provider.

use std::fs;
use std::os::unix::fs::symlink;

use super::case::{Input, input};

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Inputs that every provider with a file per session has.
pub(super) const INPUTS: &[Input] = &[
    input("as it was", "untouched", |_| {}),
    input("truncated", "in the last record", |it| it.edit(|bytes| cut_last(bytes, 2))),
    input("truncated", "the last line feed", |it| {
        it.edit(|bytes| bytes.truncate(bytes.trim_ascii_end().len()));
    }),
    input("truncated", "the last byte of the last record", |it| {
        it.edit(|bytes| bytes.truncate(bytes.trim_ascii_end().len() - 1));
    }),
    input("truncated", "in the middle of the file", |it| {
        it.edit(|bytes| bytes.truncate(bytes.len() / 2));
    }),
    input("truncated", "at a line end in the middle", |it| {
        it.lines(|lines| lines.truncate(lines.len() / 2));
    }),
    input("truncated", "after the first line", |it| it.lines(|lines| lines.truncate(1))),
    input("truncated", "in the first line", |it| {
        it.lines(|lines| *lines = vec![half(&lines[0]).to_owned()]);
    }),
    input("glued", "the last two", |it| it.lines(|lines| glue(lines, |count| count - 2))),
    input("glued", "the first two", |it| it.lines(|lines| glue(lines, |_| 0))),
    input("glued", "two in the middle", |it| it.lines(|lines| glue(lines, |count| count / 2))),
    input("glued", "all", |it| {
        it.lines(|lines| *lines = vec![lines.concat().replace('\n', "") + "\n"]);
    }),
    input("glued", "a torn one and the next", |it| {
        it.lines(|lines| {
            let at = lines.len() / 2;
            lines[at] = half(&lines[at]).to_owned();
        });
    }),
    input("head missing", "the first line", |it| it.lines(|lines| drop(lines.remove(0)))),
    input("head missing", "a third", |it| it.lines(|lines| drop(lines.drain(..lines.len() / 3)))),
    input("head missing", "half of the first line", |it| {
        it.lines(|lines| lines[0] = lines[0][half(&lines[0]).len()..].to_owned());
    }),
    input("middle missing", "one record", |it| {
        it.lines(|lines| drop(lines.remove(lines.len() / 2)));
    }),
    input("middle missing", "a third", |it| {
        it.lines(|lines| drop(lines.drain(lines.len() / 3..2 * lines.len() / 3)));
    }),
    input("tail missing", "a third", |it| it.lines(|lines| lines.truncate(2 * lines.len() / 3))),
    input("duplicated", "the last line", |it| it.lines(|lines| repeat(lines, lines.len() - 1))),
    input("duplicated", "the first line", |it| it.lines(|lines| repeat(lines, 0))),
    input("duplicated", "a line in the middle", |it| {
        it.lines(|lines| repeat(lines, lines.len() / 2));
    }),
    input("duplicated", "every line", |it| {
        it.lines(|lines| {
            *lines = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect()
        });
    }),
    input("duplicated", "the whole file", |it| it.edit(|bytes| bytes.extend(bytes.clone()))),
    input("garbage", "before", |it| it.edit(|bytes| drop(bytes.splice(..0, *b"garbage\n")))),
    input("garbage", "in the middle", |it| {
        it.lines(|lines| lines.insert(lines.len() / 2, "{\"type\":\"us garbage\n".to_owned()));
    }),
    input("garbage", "after", |it| it.edit(|bytes| bytes.extend(b"garbage\n"))),
    input("garbage", "only", |it| it.write("nothing here is JSON\n".repeat(100))),
    input("garbage", "another JSON value in each second line", |it| {
        it.lines(|lines| {
            let odd = ["[]", "1", "null", "\"text\"", "{}"].iter().cycle();
            *lines = lines.iter().zip(odd).map(|(line, odd)| format!("{line}{odd}\n")).collect();
        });
    }),
    input("encoding", "a byte order mark", |it| {
        it.edit(|bytes| drop(bytes.splice(..0, MARK.to_vec())))
    }),
    input("encoding", "UTF-16", |it| {
        let units = it.text().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        it.write([b"\xff\xfe", &*units].concat());
    }),
    input("encoding", "CRLF", |it| it.write(it.text().replace('\n', "\r\n"))),
    input("encoding", "CR", |it| it.write(it.text().replace('\n', "\r"))),
    input("encoding", "a bad byte in the first line", |it| spoil(it, 0)),
    input("encoding", "a bad byte in a prompt", |it| {
        let at = it.text().find("omega question").unwrap();
        it.edit(|bytes| bytes[at] = 0xff);
    }),
    input("encoding", "a bad byte in the last line", |it| {
        it.edit(|bytes| {
            let end = bytes.trim_ascii_end().len();
            bytes.splice(end..end, *b"\xff");
        });
    }),
    input("encoding", "torn in the middle of a character", |it| {
        it.edit(|bytes| bytes.extend(b"{\"type\":\"\xc3"));
    }),
    input("NUL", "after the end", |it| it.edit(|bytes| bytes.extend([0; 4096]))),
    input("NUL", "in the place of the last record", |it| {
        it.edit(|bytes| {
            let length = bytes.len();
            cut_last(bytes, 2);
            bytes.resize(length, 0);
        });
    }),
    input("NUL", "a block in the middle", |it| {
        it.edit(|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 512].fill(0);
        });
    }),
    input("NUL", "only", |it| it.write([0; 8192])),
    input("blank lines", "before", |it| it.edit(|bytes| drop(bytes.splice(..0, *b"\n")))),
    input("blank lines", "between", |it| it.write(it.text().replace('\n', "\n\n"))),
    input("blank lines", "with blanks, after", |it| it.edit(|bytes| bytes.extend(b"  \n\t\n\n"))),
    input("blank lines", "records with blanks around them", |it| {
        it.lines(|lines| {
            lines.iter_mut().for_each(|line| *line = format!("  {} \n", line.trim_end()))
        });
    }),
    input("empty", "no byte", |it| it.write("")),
    input("empty", "a line feed", |it| it.write("\n")),
    input("empty", "an object", |it| it.write("{}\n")),
    input("size", "a line of 5 MB", |it| {
        it.lines(|lines| lines.push(unknown(&"x".repeat(5 << 20))))
    }),
    input("size", "deep JSON", |it| {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        it.lines(|lines| lines.push(format!("{{\"type\":\"deep\",\"of\":{deep}}}\n")));
    }),
    input("newer", "an unknown record before", |it| it.lines(|lines| lines.insert(0, unknown("")))),
    input("newer", "an unknown record in the middle", |it| {
        it.lines(|lines| lines.insert(lines.len() / 2, unknown("")));
    }),
    input("newer", "an unknown record after", |it| it.lines(|lines| lines.push(unknown("")))),
    input("newer", "an unknown field in each record", |it| {
        it.each(|record| record["newer"] = serde_json::json!({"a": [1, null]}));
    }),
    input("newer", "a time that is a number", |it| {
        it.each(|record| record["timestamp"] = 1_795_248_933_761_u64.into());
    }),
    input("link", "a symbolic one", |it| symlink(it.put_aside(), &it.path).unwrap()),
    input("link", "a hard one", |it| fs::hard_link(it.put_aside(), &it.path).unwrap()),
    input("link", "one that leads nowhere", |it| {
        symlink(it.put_aside().with_extension("gone"), &it.path).unwrap();
    }),
    input("link", "a loop", |it| {
        it.put_aside();
        symlink(&it.path, &it.path).unwrap();
    }),
    input("link", "a folder of that name", |it| {
        it.put_aside();
        fs::create_dir(&it.path).unwrap();
    }),
    input("removed", "the file", |it| drop(it.put_aside())),
];

/// Leaves the last record in part.
fn cut_last(bytes: &mut Vec<u8>, part: usize) {
    let start = bytes.trim_ascii_end().iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    bytes.truncate(start + (bytes.len() - start) / part);
}

fn half(line: &str) -> &str {
    let middle = (0..=line.len() / 2).rev().find(|at| line.is_char_boundary(*at)).unwrap();
    &line[..middle]
}

/// Removes the end of a line.
fn glue(lines: &mut [String], at: impl Fn(usize) -> usize) {
    let at = at(lines.len());
    lines[at] = lines[at].trim_end().to_owned();
}

fn repeat(lines: &mut Vec<String>, at: usize) {
    lines.insert(at, lines[at].clone());
}

/// Puts a byte that is not UTF-8 into a text of a line.
fn spoil(it: &super::Case, line: usize) {
    let start: usize = it.text().split_inclusive('\n').take(line).map(str::len).sum();
    let text = it.text()[start..].find(":\"").unwrap();
    it.edit(|bytes| drop(bytes.splice(start + text + 2..start + text + 2, *b"\xff")));
}

/// A record of a version that is not known.
pub(super) fn unknown(text: &str) -> String {
    format!(
        "{{\"type\":\"of-tomorrow\",\"timestamp\":\"2026-11-30T10:00:00.000Z\",\"a\":\"{text}\"}}\n"
    )
}
