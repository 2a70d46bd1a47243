//! Numbers and texts in SVG.

/// Formats a number with at most two decimals, without trailing zeros, exponent or negative zero.
pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Escapes a text for elements and attributes. Control characters, most of which XML cannot represent, are replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\t' | '\n') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_compactly() {
        assert_eq!([1.0, 0.125, -0.001, 10.0, 100.5].map(number), ["1", "0.12", "0", "10", "100.5"]);
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape("<a b=\"c\"> & 'd'"), "&lt;a b=&quot;c&quot;&gt; &amp; &#39;d&#39;");
        assert_eq!(escape("\u{1}\u{9b}\r\n\t"), "\u{fffd}\u{fffd}\u{fffd}\n\t");
    }
}
