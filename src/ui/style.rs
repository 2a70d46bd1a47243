//! Colours and human-readable numbers.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::IsTerminal;

use hamflow_stage_api::escape_controls;

/// Ends a coloured text.
const PLAIN: char = '\u{fdd0}';

/// A colour of the output.
///
/// A text carries its colours as noncharacters of Unicode. Only [`Style::render`] makes escape sequences, so that one
/// that comes from outside is never mistaken for one of hamflow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Dim,
    Red,
    Green,
    Yellow,
    BoldYellow,
    Cyan,
    BoldCyan,
}

impl Colour {
    const ALL: [Self; 7] =
        [Self::Dim, Self::Red, Self::Green, Self::Yellow, Self::BoldYellow, Self::Cyan, Self::BoldCyan];

    /// The character that starts this colour.
    const fn mark(self) -> char {
        match self {
            Self::Dim => '\u{fdd1}',
            Self::Red => '\u{fdd2}',
            Self::Green => '\u{fdd3}',
            Self::Yellow => '\u{fdd4}',
            Self::BoldYellow => '\u{fdd5}',
            Self::Cyan => '\u{fdd6}',
            Self::BoldCyan => '\u{fdd7}',
        }
    }

    /// The parameters of SGR (ECMA-48, 8.3.117).
    const fn code(self) -> &'static str {
        match self {
            Self::Dim => "2",
            Self::Red => "31;1",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::BoldYellow => "33;1",
            Self::Cyan => "36",
            Self::BoldCyan => "36;1",
        }
    }
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
        if self.colour { format!("{}{text}{PLAIN}", colour.mark()) } else { text.to_owned() }
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
        let is_mark = |character: char| ('\u{fdd0}'..='\u{fdd7}').contains(&character);
        if !self.colour || !text.contains(is_mark) {
            return escape_controls(text);
        }
        let mut rendered = String::with_capacity(text.len() + 16);
        for piece in text.split_inclusive(is_mark) {
            let mark = piece.chars().next_back().filter(|last| is_mark(*last));
            rendered.push_str(&escape_controls(piece.strip_suffix(is_mark).unwrap_or(piece)));
            let code =
                mark.map(|mark| Colour::ALL.iter().find(|colour| colour.mark() == mark).map_or("0", |it| it.code()));
            if let Some(code) = code {
                rendered.push_str(&format!("\x1b[{code}m"));
            }
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
        // A mark from outside is shown where nothing is coloured; elsewhere it changes a colour at most.
        assert_eq!(Style { colour: false }.render("\u{fdd1}"), "\\ufdd1");
    }

    #[test]
    fn numbers_are_human_readable() {
        assert_eq!([18, 4_249, 185_000, 7_260_000].map(duration), ["18 ms", "4.2 s", "3 min 05 s", "2 h 01 min"]);
        assert_eq!([512, 1_500_000, 225_000_000].map(bytes), ["512 B", "1.5 MB", "225.0 MB"]);
        assert_eq!([0, 1, 2].map(|count: u64| plural(count, "file")), ["0 files", "1 file", "2 files"]);
    }
}
