//! The name that Claude Code and Qwen Code give to the folder of a directory. Knows no provider and
//! no disk.

/// Returns the path with every UTF-16 unit that is not an ASCII letter or digit replaced by `-`.
pub(super) fn munged(dir: &str) -> String {
    let clean = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii_alphanumeric() => byte as char,
        _ => '-',
    };
    dir.encode_utf16().map(clean).collect()
}
