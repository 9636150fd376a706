//! Durations as users type them: `2d`, `12h`, `30m`, `90s`. Knows no clock.

/// Parses `2d`, `12h`, `30m` or `90s` into milliseconds.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let units = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];
    let split = units.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let (count, ms) = split.ok_or("expected a number with d, h, m or s, e.g. 2d")?;
    let count: u32 = count.parse().map_err(|_| "expected a whole number")?;
    Ok(i64::from(count) * ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_unit() {
        assert_eq!(parse("2d"), Ok(172_800_000));
        assert!(parse("2dd").is_err() && parse("d").is_err() && parse("2").is_err());
    }
}
