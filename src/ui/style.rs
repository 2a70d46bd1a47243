//! Colours and human-readable numbers.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;
use std::sync::OnceLock;

use hamflow_stage_api::escape_controls;

/// A colour of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Plain,
    Dim,
    Red,
    Green,
    Yellow,
    BoldYellow,
    Cyan,
    BoldCyan,
}

impl Colour {
    /// The digit of its mark, and the parameters of SGR (ECMA-48, 8.3.117).
    const ALL: [(Self, char, &'static str); 8] = [
        (Self::Plain, '0', "0"),
        (Self::Dim, '1', "2"),
        (Self::Red, '2', "31;1"),
        (Self::Green, '3', "32"),
        (Self::Yellow, '4', "33"),
        (Self::BoldYellow, '5', "33;1"),
        (Self::Cyan, '6', "36"),
        (Self::BoldCyan, '7', "36;1"),
    ];

    /// What stands for the colour in a text until it is written.
    fn mark(self) -> String {
        let digit = Self::ALL.iter().find(|(colour, ..)| *colour == self).map_or('0', |(_, digit, _)| *digit);
        format!("{}{digit}", mark_prefix())
    }
}

/// The start of every mark: a noncharacter and a number that differs from process to process.
///
/// Only [`Style::render`] makes escape sequences, so that one that comes from outside is never mistaken for one of
/// hamflow's. Nobody outside knows the number, so a mark cannot be imitated either.
fn mark_prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| format!("\u{fdd0}{:016x}", RandomState::new().build_hasher().finish()))
}

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

    fn paint(self, colour: Colour, text: &str) -> String {
        if self.colour { format!("{}{text}{}", colour.mark(), Colour::Plain.mark()) } else { text.to_owned() }
    }

    /// The word for an outcome or a verdict, coloured and padded to eight columns.
    pub fn word(self, word: &str) -> String {
        let colour = match word {
            "ran" => Colour::Green,
            "cached" => Colour::Cyan,
            "stale" | "pending" => Colour::Yellow,
            "failed" | "missing" => Colour::Red,
            _ => Colour::Dim,
        };
        self.paint(colour, &format!("{word:<8}"))
    }

    /// The coloured label at the beginning of a message, such as `error:` or `warning:`.
    pub fn label(self, label: &str) -> String {
        let colour = match label {
            "error" | "flaw" => Colour::Red,
            "note" => Colour::BoldCyan,
            _ => Colour::BoldYellow,
        };
        self.paint(colour, &format!("{label}:"))
    }

    /// The text as a stream gets it: colours as escape sequences, all other control characters escaped.
    pub(super) fn render(self, text: &str) -> Cow<'_, str> {
        if !self.colour || !text.contains(mark_prefix()) {
            return escape_controls(text);
        }
        let mut pieces = text.split(mark_prefix());
        let mut rendered = escape_controls(pieces.next().unwrap_or_default()).into_owned();
        for piece in pieces {
            let (digit, text) = piece.split_at_checked(1).unwrap_or((piece, ""));
            let code =
                Colour::ALL.iter().find(|(_, known, _)| digit.starts_with(*known)).map_or("0", |(.., code)| *code);
            rendered.push_str(&format!("\x1b[{code}m{}", escape_controls(text)));
        }
        Cow::Owned(rendered)
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
    fn only_own_colours_become_escape_sequences() {
        let hostile = "\x1b[31m\x1b]0;x\x07\u{202e}";
        for (colour, expected) in [
            (true, "\x1b[31;1merror:\x1b[0m \\u001b[31m\\u001b]0;x\\u0007\\u202e"),
            (false, "error: \\u001b[31m\\u001b]0;x\\u0007\\u202e"),
        ] {
            let style = Style { colour };
            assert_eq!(style.render(&format!("{} {hostile}", style.label("error"))), expected);
        }
        for word in ["ran", "cached", "stale", "failed", "fresh"] {
            let style = Style { colour: true };
            let rendered = style.render(&style.word(word)).into_owned();
            assert!(rendered.starts_with("\x1b[") && rendered.ends_with("\x1b[0m"), "{rendered:?}");
        }
        for colour in [true, false] {
            let style = Style { colour };
            assert_eq!(style.render("\u{fdd0}2\u{fdd7}"), "\\ufdd02\\ufdd7", "a mark cannot be imitated");
        }
    }

    #[test]
    fn numbers_are_human_readable() {
        assert_eq!([18, 4_249, 185_000, 7_260_000].map(duration), ["18 ms", "4.2 s", "3 min 05 s", "2 h 01 min"]);
        assert_eq!([512, 1_500_000, 225_000_000].map(bytes), ["512 B", "1.5 MB", "225.0 MB"]);
        assert_eq!([0, 1, 2].map(|count: u64| plural(count, "file")), ["0 files", "1 file", "2 files"]);
    }
}
