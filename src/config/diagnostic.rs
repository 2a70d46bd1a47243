//! Diagnostics: an error in the pipeline file or on the command line, with its line, a caret and a hint.

use std::collections::BTreeSet;

use hamflow_stage_api::escape_controls;

/// Bytes `start..end` of `pipeline.toml` (or of a `--set` argument).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// 0 for the file; [`Sources`] counts the others.
    pub source: usize,
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// An error in the pipeline file or on the command line, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// One sentence, lowercase at its start, place first: ``stage `train`: unknown parameter `epoch` ``.
    pub message: String,
    /// The file, the line and the column, with the line's text.
    pub place: Option<Location>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Where a diagnostic points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as the user would name it, or `--set` for the command line.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters the caret line marks.
    pub width: usize,
    /// The whole line.
    pub text: String,
}

impl Diagnostic {
    /// A diagnostic without a location.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for the terminal: message, location, the line with a caret below, hint. Without a final line break.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if let Some(Location { file, line, column, width, text: shown }) = &self.place {
            let digits = line.to_string().len().max(2);
            let excerpt = excerpt(shown.trim_end_matches('\r'), column - 1, *width);
            let (shown, width) = (&excerpt.text[..], excerpt.width);
            let (before, marked) = split_at_character(shown, excerpt.start);
            let (marked, _) = split_at_character(marked, width);
            // Tabs stay tabs, so that the caret is below its column at any tab width.
            let indent: String = escape_controls(before).chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let width = width + escape_controls(marked).chars().count() - marked.chars().count();
            let shown = escape_controls(shown);
            text.push_str(&format!("\n{:digits$}--> {file}:{line}:{column}", ""));
            text.push_str(&format!("\n{:digits$} |", ""));
            text.push_str(&format!("\n{line:digits$} | {shown}"));
            text.push_str(&format!("\n{:digits$} | {indent}{:^>width$}", "", ""));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }
}

/// Longer lines are shown in part.
const MAX_SHOWN: usize = 400;

/// How much of a long line is shown in front of what is marked.
const SHOWN_BEFORE: usize = 60;

/// The part of a line that is shown, and what is marked in it; in characters.
struct Excerpt {
    text: String,
    start: usize,
    width: usize,
}

/// Cuts a long line to the surroundings of what is marked.
fn excerpt(line: &str, start: usize, width: usize) -> Excerpt {
    if line.chars().count() <= MAX_SHOWN {
        return Excerpt { text: line.to_owned(), start, width };
    }
    let cut = start.saturating_sub(SHOWN_BEFORE);
    let (_, rest) = split_at_character(line, cut);
    let (kept, lost) = split_at_character(rest, MAX_SHOWN);
    let (before, after) = (if cut > 0 { "…" } else { "" }, if lost.is_empty() { "" } else { "…" });
    let start = start - cut + before.chars().count();
    let text = format!("{before}{kept}{after}");
    let width = width.min(text.chars().count().saturating_sub(start)).max(1);
    Excerpt { text, start, width }
}

/// Splits a text behind its first `count` characters.
fn split_at_character(text: &str, count: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(count).map_or(text.len(), |(place, _)| place))
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The pipeline file.
    File,
    /// The profile that `--profile` chose.
    Profile,
    /// A `--set` argument.
    Set,
}

/// The texts that spans point into: the file, the file again for the values of the chosen profile, each `--set`.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    origin: Origin,
    name: String,
    text: String,
}

impl Sources {
    /// Starts with the pipeline file, under the name that diagnostics show.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { sources: vec![Source { origin: Origin::File, name: file.into(), text: text.into() }] }
    }

    fn add(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Adds the text of the file once more, for the values of a profile in it.
    pub(crate) fn add_profile(&mut self) -> usize {
        let file = self.sources.first().map(|file| Source { origin: Origin::Profile, ..file.clone() });
        file.map_or(0, |file| self.add(file))
    }

    /// Adds the text of another file.
    pub(crate) fn add_file(&mut self, name: &str, text: &str) -> usize {
        self.add(Source { origin: Origin::File, name: name.to_owned(), text: text.to_owned() })
    }

    /// Adds one argument of the command line; its number goes into [`Span::source`].
    pub fn add_argument(&mut self, option: &str, text: &str) -> usize {
        self.add(Source { origin: Origin::Set, name: option.to_owned(), text: text.to_owned() })
    }

    /// The origin of the text at a span.
    pub fn origin(&self, span: Span) -> Origin {
        self.sources.get(span.source).map_or(Origin::File, |source| source.origin)
    }

    /// The text of the pipeline file.
    pub fn file_text(&self) -> &str {
        self.sources.first().map_or("", |file| &file.text)
    }

    /// The text that a span marks.
    pub fn text(&self, span: Span) -> &str {
        self.sources.get(span.source).and_then(|source| source.text.get(span.start..span.end)).unwrap_or_default()
    }

    /// The line and column of a span.
    pub fn locate(&self, span: Span) -> Option<Location> {
        let Source { name, text, .. } = self.sources.get(span.source)?;
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_text = text[line_start..line_end].trim_end_matches('\r');
        // A span of several lines is marked on its first.
        let end = floor(text, span.end).clamp(start, (line_start + line_text.len()).max(start));
        Some(Location {
            file: name.clone(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].trim_end().chars().count().max(1),
            text: line_text.to_owned(),
        })
    }

    /// A diagnostic at a span.
    pub fn diagnostic(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), place: self.locate(span), hint: None }
    }
}

/// The nearest start of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A diagnostic whose location is not resolved yet.
#[derive(Debug, Clone)]
pub(crate) struct Mistake {
    /// None for something outside every source, such as `--profile NAME`.
    span: Option<Span>,
    message: String,
    hint: Option<String>,
}

impl Mistake {
    /// A mistake at a span.
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), hint: None }
    }

    /// A mistake outside every source, such as the name after `--profile`.
    pub(crate) fn placeless(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), hint: None }
    }

    /// Adds a hint, if there is one.
    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// All mistakes of one load, so that a user sees them at once.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(crate) fn push(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    pub(crate) fn extend(&mut self, mistakes: impl IntoIterator<Item = Mistake>) {
        self.0.extend(mistakes);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes sorted by location, without the repetitions that a matrix causes.
    pub(crate) fn into_diagnostics(mut self, sources: &Sources) -> Vec<Diagnostic> {
        self.0.sort_by_key(|mistake| mistake.span.map(|span| (span.source, span.start)));
        let mut seen = BTreeSet::new();
        self.0.retain(|mistake| seen.insert((mistake.span, mistake.message.clone())));
        self.0
            .into_iter()
            .map(|Mistake { span, message, hint }| {
                let place = span.and_then(|span| sources.locate(span));
                Diagnostic { message, place, hint }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize) -> Span {
        Span { source: 0, start, end }
    }

    #[test]
    fn a_diagnostic_shows_the_line_and_a_caret() {
        let text = format!("{}epoch = 3\n", "\n".repeat(40));
        let sources = Sources::new("pipeline.toml", text);
        let diagnostic =
            sources.diagnostic(span(40, 45), "stage `train`: unknown parameter `epoch`").hint("did you mean `epochs`?");
        assert_eq!(
            diagnostic.render(),
            "error: stage `train`: unknown parameter `epoch`\n\
             \x20 --> pipeline.toml:41:1\n\
             \x20  |\n\
             41 | epoch = 3\n\
             \x20  | ^^^^^\n\
             hint: did you mean `epochs`?"
        );
    }

    #[test]
    fn of_a_long_line_the_surroundings_are_shown() {
        let line = |length: usize| format!("run = \"{}\"", "x".repeat(length));
        let shown = |text: String, start: usize, end: usize| {
            let rendered = Sources::new("p", text).diagnostic(span(start, end), "wrong").render();
            rendered.lines().skip(3).map(|line| line[5..].to_owned()).collect::<Vec<_>>()
        };
        let all = shown(line(70_000), 6, 70_008);
        assert_eq!(all[0], format!("run = \"{}…", "x".repeat(393)));
        assert_eq!(all[1], format!("{}{}", " ".repeat(6), "^".repeat(395)));
        let middle = shown(line(70_000), 50_000, 50_003);
        assert_eq!(middle[0], format!("…{}…", "x".repeat(400)));
        assert_eq!(middle[1], format!("{}^^^", " ".repeat(61)));
    }

    #[test]
    fn a_span_of_several_lines_is_marked_on_its_first() {
        let sources = Sources::new("p", "a = [\r\n1,\r\n]\r\n");
        let place = sources.locate(span(4, 13)).unwrap();
        assert_eq!((place.line, place.column, place.width, place.text.as_str()), (1, 5, 1, "a = ["));
    }

    #[test]
    fn columns_count_characters_and_the_end_of_the_file_has_a_place() {
        let sources = Sources::new("p", "ä = 1\n");
        let place = sources.locate(span(5, 6)).unwrap();
        assert_eq!((place.column, place.width), (5, 1));
        let place = sources.locate(span(7, 7)).unwrap();
        assert_eq!((place.line, place.column, place.width, place.text.as_str()), (2, 1, 1, ""));
        assert!(sources.locate(span(900, 901)).is_some());
    }
}
