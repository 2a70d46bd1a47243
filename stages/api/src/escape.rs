//! Control characters in text from outside: file names, values of tables, output of programs.

use std::borrow::Cow;
use std::fmt::Write;

/// Replaces what a terminal would obey instead of show with `\uXXXX`; line feeds and tabs stay.
///
/// These are the control characters (ECMA-48: C0, DEL and C1), the bidirectional controls that reorder what is read
/// (Unicode UAX #9, CVE-2021-42574), the line and paragraph separators, and Unicode's noncharacters U+FDD0–U+FDEF.
/// The replacement is also the escape of JSON, so that a line of JSON keeps its value.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_obeyed) else { return Cow::Borrowed(text) };
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    for character in text[first..].chars() {
        if is_obeyed(character) {
            write!(escaped, "\\u{:04x}", u32::from(character)).expect("a string can always be written to");
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_obeyed(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{fdd0}'..='\u{fdef}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["", "naïve 🙂👩‍🔬 日本語\tשלום\n", "a\\b"] {
            assert!(matches!(escape_controls(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn controls_become_escapes_of_json() {
        let hostile = "\u{1b}]0;x\u{7}\r\u{7f}\u{9b}2J \u{202e}\u{2066}\u{200f}\u{2028}\u{fdd0}";
        let escaped = escape_controls(hostile);
        let expected = r"\u001b]0;x\u0007\u000d\u007f\u009b2J \u202e\u2066\u200f\u2028\ufdd0";
        assert_eq!(escaped, expected);
        let parsed: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(parsed, hostile);
    }
}
