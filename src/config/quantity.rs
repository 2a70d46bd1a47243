//! Parsers of sizes and durations: `2GB`, `30d`.

use std::time::Duration;

/// Reads `2GB`, `1.5 GiB` or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = (number * factor as f64).round();
    // Larger sizes are not exact in a float, and certainly a mistake.
    (1.0..=9_007_199_254_740_992.0).contains(&bytes).then_some(bytes as u64)
}

/// Reads `30d`, `12h` or `2w`.
pub fn parse_age(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return None,
    };
    digits.parse::<u32>().ok().map(|count| Duration::from_secs(u64::from(count) * hours * 60 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_units() {
        assert_eq!(parse_size("2GB"), Some(2_000_000_000));
        assert_eq!(parse_size("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(parse_size("512"), Some(512));
        for text in ["", "GB", "2 gigabytes", "-1GB", "0", "1e3"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn ages_are_hours_days_and_weeks() {
        let hours = |text| parse_age(text).map(|age| age.as_secs() / 3600);
        assert_eq!([hours("30d"), hours("12h"), hours("2w"), hours("0d")], [Some(720), Some(12), Some(336), Some(0)]);
        assert!(["", "d", "3", "3m", "-1d", "1.5d", "3 d", "3ä"].iter().all(|text| parse_age(text).is_none()));
    }
}
