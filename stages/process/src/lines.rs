//! The output of a program as lines for people.

/// Longer lines are split.
const MAX_LINE: usize = 16 * 1024;

/// A line of a program's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its line feed.
    Whole(String),
    /// The state of a line that the program may still overwrite, as progress bars do.
    State(String),
}

/// Splits output into lines.
///
/// - A carriage return starts the line again, so that only the last state of a progress bar remains.
/// - Bytes that are not UTF-8 are replaced.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// Whether the next byte replaces the line.
    is_overwritten: bool,
}

impl Lines {
    /// Adds a piece of the output.
    pub fn push(&mut self, piece: &[u8], say: &mut impl FnMut(Line)) {
        for &byte in piece {
            match byte {
                b'\n' => self.end(say),
                b'\r' => self.is_overwritten = true,
                _ => {
                    if std::mem::take(&mut self.is_overwritten) {
                        self.line.clear();
                    }
                    self.line.push(byte);
                    if self.line.len() == MAX_LINE {
                        self.end(say);
                    }
                }
            }
        }
        if self.is_overwritten && !self.line.is_empty() {
            say(Line::State(self.text()));
        }
    }

    /// Ends the output: the rest is a line, too.
    pub fn finish(&mut self, say: &mut impl FnMut(Line)) {
        if !self.line.is_empty() {
            self.end(say);
        }
    }

    fn end(&mut self, say: &mut impl FnMut(Line)) {
        self.is_overwritten = false;
        let text = self.text();
        self.line.clear();
        say(Line::Whole(text));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        let mut say = |line| found.push(line);
        pieces.iter().for_each(|piece| lines.push(piece, &mut say));
        lines.finish(&mut say);
        found
    }

    fn whole(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::Whole((*text).to_owned())).collect()
    }

    #[test]
    fn only_the_last_state_of_a_progress_bar_is_a_line() {
        let state = |text: &str| Line::State(text.to_owned());
        assert_eq!(lines(&[b"a\r 50%\r100%\nnext"]), whole(&["100%", "next"]));
        let expected = [vec![state(" 50%")], whole(&["100%", "b"])].concat();
        assert_eq!(lines(&[b"\r 10%\r 50%\r", b"100%\nb\n"]), expected);
        // The line ends of Windows, also torn apart.
        assert_eq!(lines(&[b"a\r\nb\r\n"]), whole(&["a", "b"]));
        assert_eq!(lines(&[b"a\r", b"\nb"]), [vec![state("a")], whole(&["a", "b"])].concat());
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(lines(&[b"latin \xe9\n"]), whole(&["latin \u{fffd}"]));
        assert_eq!(lines(&["é".as_bytes().split_at(1).0, "é\n".as_bytes().split_at(1).1]), whole(&["é"]));
    }

    #[test]
    fn long_lines_are_split() {
        let found = lines(&[&[b'x'; MAX_LINE + 3]]);
        let lengths: Vec<usize> =
            found.iter().map(|line| matches!(line, Line::Whole(text) if text.starts_with('x')).into()).collect();
        assert_eq!(lengths, [1, 1]);
        assert_eq!(found[1], Line::Whole("xxx".to_owned()));
    }
}
