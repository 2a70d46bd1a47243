//! Colours and human-readable numbers.

use std::fmt::Display;
use std::io::IsTerminal;

/// Whether output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Coloured if `stream` is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: stream.is_terminal() && !refused }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The word for an outcome or a verdict, coloured and padded to eight columns.
    pub fn word(self, word: &str) -> String {
        let padded = format!("{word:<8}");
        match word {
            "ran" => self.paint("32", &padded),
            "cached" => self.paint("36", &padded),
            "stale" | "pending" => self.paint("33", &padded),
            "failed" | "missing" => self.paint("31;1", &padded),
            _ => self.paint("2", &padded),
        }
    }

    /// The coloured label at the beginning of a message, such as `error:` or `warning:`.
    pub fn label(self, label: &str) -> String {
        let colour = match label {
            "error" | "flaw" => "31;1",
            "note" => "36;1",
            _ => "33;1",
        };
        self.paint(colour, &format!("{label}:"))
    }
}

/// A count with its noun in the singular or plural: `1 file`, `3 files`.
pub fn plural(count: impl Display + PartialEq + From<u8>, noun: &str) -> String {
    let ending = if count == 1.into() { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Formats milliseconds: `18 ms`, `4.2 s`, `3 min 05 s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{:.1} s", milliseconds as f64 / 1e3),
        60_000..3_600_000 => format!("{} min {:02} s", milliseconds / 60_000, milliseconds / 1_000 % 60),
        _ => format!("{} h {:02} min", milliseconds / 3_600_000, milliseconds / 60_000 % 60),
    }
}

/// Formats a number of bytes in powers of 1000: `512 B`, `1.5 MB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1e3;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_human_readable() {
        assert_eq!([18, 4_249, 185_000, 7_260_000].map(duration), ["18 ms", "4.2 s", "3 min 05 s", "2 h 01 min"]);
        assert_eq!([512, 1_500_000, 225_000_000].map(bytes), ["512 B", "1.5 MB", "225.0 MB"]);
        assert_eq!([0, 1, 2].map(|count: u64| plural(count, "file")), ["0 files", "1 file", "2 files"]);
    }
}
