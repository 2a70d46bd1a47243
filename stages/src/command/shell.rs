//! What a line for the shell consists of: its words, its quotes and its commands.

use std::iter::Peekable;
use std::str::CharIndices;

/// Where a placeholder must not be, because its value would be read as syntax or changed by the shell, or because
/// another interpreter reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Quotes(char),
    Backslash,
    Dollar,
    Backticks,
    HereDocument,
    Arithmetic,
    Test,
}

impl Place {
    /// The place as the end of a sentence: "is …".
    pub fn describe(self) -> String {
        match self {
            Self::Quotes(quote) => format!("within quotes ({quote})"),
            Self::Backslash => "after a backslash".to_owned(),
            Self::Dollar => "after `$`".to_owned(),
            Self::Backticks => "within backticks".to_owned(),
            Self::HereDocument => "within a here-document".to_owned(),
            Self::Arithmetic => "within arithmetic, which is evaluated".to_owned(),
            Self::Test => "within `[[ … ]]`, which evaluates it".to_owned(),
        }
    }

    /// What to write instead of this placeholder.
    pub fn hint(self, placeholder: &str) -> String {
        match self {
            Self::Quotes(_) | Self::Backslash | Self::Dollar => {
                format!("write `{placeholder}` as a word of its own, without quotes: its value is always one word")
            }
            Self::Backticks => format!("write `$(… {placeholder} …)` instead of backticks"),
            Self::HereDocument => format!("print it instead: `printf '%s\\n' {placeholder} | …`"),
            Self::Arithmetic => "use a number instead of a text for the parameter".to_owned(),
            Self::Test => format!("write `[ {placeholder} … ]`"),
        }
    }
}

/// The result of reading a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// For each placeholder, in order: its place, if values must not be there.
    pub places: Vec<Option<Place>>,
    /// Whether the line has several commands, so that without `strict` only the status of the last one counts.
    pub has_several_commands: bool,
    /// Whether it has a pipe.
    pub has_pipe: bool,
}

/// What the shell is reading (POSIX.1-2017, XCU 2.2, 2.3, 2.6 and 2.7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// Commands within `$(…)`.
    Commands {
        /// The number of open parentheses.
        open: usize,
        /// The number of open `case` commands, whose patterns end with a parenthesis.
        cases: usize,
    },
    Single,
    /// `$'…'` of bash, in which a backslash quotes.
    DollarSingle,
    Double,
    Backticks,
    /// `$((…))`, and `((…))` and `$[…]` of bash: the closing character, and how many of them are missing.
    Arithmetic(char, usize),
    /// `[[ … ]]` of bash.
    Test,
}

/// Stands for a placeholder in a line that [`read`] gets.
pub(super) const PLACEHOLDER: char = '\u{fdef}';

/// Reads a line in which [`PLACEHOLDER`] stands for each placeholder.
pub(super) fn read(line: &str) -> Shape {
    let mut reader = Reader {
        line,
        characters: line.char_indices().peekable(),
        contexts: vec![Context::Commands { open: 0, cases: 0 }],
        shape: Shape::default(),
        word: String::new(),
        documents: Vec::new(),
        ended: false,
    };
    while let Some((position, character)) = reader.characters.next() {
        reader.step(position, character);
    }
    reader.shape
}

/// A here-document that starts after the next line feed.
struct HereDocument {
    delimiter: String,
    /// Whether it was declared with `<<-`, so that tabs in front of the delimiter do not count.
    is_indented: bool,
}

struct Reader<'a> {
    line: &'a str,
    characters: Peekable<CharIndices<'a>>,
    /// The innermost is last; the first is the line itself.
    contexts: Vec<Context>,
    shape: Shape,
    /// The word so far, in commands.
    word: String,
    documents: Vec<HereDocument>,
    /// Whether a command has ended, so that what follows is another one.
    ended: bool,
}

impl Reader<'_> {
    fn next_is(&mut self, wanted: char) -> bool {
        self.characters.next_if(|(_, character)| *character == wanted).is_some()
    }

    fn step(&mut self, position: usize, character: char) {
        match self.contexts.last().copied() {
            None | Some(Context::Commands { .. }) => self.command(position, character),
            Some(Context::Single) => self.single(character),
            Some(Context::DollarSingle) => self.within(character, '\'', Place::Quotes('\'')),
            Some(Context::Double) => self.double(character),
            Some(Context::Backticks) => self.within(character, '`', Place::Backticks),
            Some(Context::Arithmetic(..)) => self.arithmetic(character),
            Some(Context::Test) => self.test(character),
        }
    }

    fn placeholder(&mut self, place: Option<Place>) {
        self.shape.places.push(place);
    }

    fn single(&mut self, character: char) {
        match character {
            '\'' => drop(self.contexts.pop()),
            PLACEHOLDER => self.placeholder(Some(Place::Quotes('\''))),
            _ => {}
        }
    }

    fn double(&mut self, character: char) {
        match character {
            '"' => drop(self.contexts.pop()),
            '$' => self.dollar(Some(Place::Quotes('"'))),
            _ => self.within(character, '"', Place::Quotes('"')),
        }
    }

    /// A context in which a backslash quotes and `end` ends it.
    fn within(&mut self, character: char, end: char, place: Place) {
        match character {
            '\\' => {
                if let Some((_, PLACEHOLDER)) = self.characters.next() {
                    self.placeholder(Some(place));
                }
            }
            PLACEHOLDER => self.placeholder(Some(place)),
            _ if character == end => drop(self.contexts.pop()),
            _ => {}
        }
    }

    /// After `$`, within double quotes if there is a place.
    fn dollar(&mut self, quotes: Option<Place>) {
        if self.next_is('(') {
            if self.next_is('(') {
                self.contexts.push(Context::Arithmetic(')', 2));
            } else {
                self.contexts.push(Context::Commands { open: 0, cases: 0 });
                self.word.clear();
                self.ended = false;
            }
        } else if self.next_is('[') {
            self.contexts.push(Context::Arithmetic(']', 1));
        } else if quotes.is_none() && self.next_is('\'') {
            self.contexts.push(Context::DollarSingle);
        } else if self.next_is(PLACEHOLDER) {
            self.placeholder(Some(quotes.unwrap_or(Place::Dollar)));
        }
    }

    fn arithmetic(&mut self, character: char) {
        let Some(Context::Arithmetic(closing, missing)) = self.contexts.last_mut() else { return };
        let opening = if *closing == ')' { '(' } else { '[' };
        if character == opening {
            *missing += 1;
        } else if character == *closing {
            *missing -= 1;
        } else if character == PLACEHOLDER {
            self.placeholder(Some(Place::Arithmetic));
        }
        if matches!(self.contexts.last(), Some(Context::Arithmetic(_, 0))) {
            self.contexts.pop();
        }
    }

    fn test(&mut self, character: char) {
        match character {
            ']' if self.next_is(']') => drop(self.contexts.pop()),
            '\'' => self.contexts.push(Context::Single),
            '"' => self.contexts.push(Context::Double),
            '\\' => {
                if let Some((_, PLACEHOLDER)) = self.characters.next() {
                    self.placeholder(Some(Place::Test));
                }
            }
            PLACEHOLDER => self.placeholder(Some(Place::Test)),
            _ => {}
        }
    }

    fn command(&mut self, position: usize, character: char) {
        if self.ended && !character.is_whitespace() && !")#".contains(character) {
            self.shape.has_several_commands = true;
        }
        match character {
            '\'' => self.quote(Context::Single),
            '"' => self.quote(Context::Double),
            '`' => self.quote(Context::Backticks),
            '\\' => match self.characters.next() {
                Some((_, PLACEHOLDER)) => self.placeholder(Some(Place::Backslash)),
                // A line that goes on; the word goes on, too.
                Some((_, '\n')) => {}
                _ => self.word.push('\\'),
            },
            '$' => {
                self.word.push('$');
                self.dollar(None);
            }
            '#' if self.word.is_empty() => self.skip_comment(),
            '<' if self.next_is('<') => {
                self.end_word();
                // `<<<` is a string of bash, not a document.
                if !self.next_is('<') {
                    self.here_document();
                }
            }
            '\n' => {
                self.end_word();
                self.line_feed(position);
            }
            '(' if self.word.is_empty() && self.next_is('(') => self.contexts.push(Context::Arithmetic(')', 2)),
            PLACEHOLDER => {
                self.word.push(PLACEHOLDER);
                self.placeholder(None);
            }
            _ => self.operator(character),
        }
    }

    fn quote(&mut self, context: Context) {
        self.word.push('"');
        self.contexts.push(context);
    }

    /// Blanks, operators, and characters of words.
    fn operator(&mut self, character: char) {
        if !character.is_whitespace() && !"|&;()<>".contains(character) {
            self.word.push(character);
            return;
        }
        let is_pattern = self.end_word();
        match character {
            '|' if !self.next_is('|') => {
                self.next_is('&');
                self.shape.has_pipe = true;
                self.shape.has_several_commands = true;
            }
            ';' => self.ended = true,
            // `&` is part of `>&2`, too.
            '>' | '<' => drop(self.next_is('&') || self.next_is('|')),
            // What follows `a && b` is another command, but `a && b` itself stops at the first that fails.
            '&' if !self.next_is('&') => self.ended = true,
            '(' => self.parenthesis(true),
            ')' if !is_pattern => self.parenthesis(false),
            _ => {}
        }
    }

    /// Ends the word; returns whether a closing parenthesis after it would end a pattern of `case`.
    fn end_word(&mut self) -> bool {
        let word = std::mem::take(&mut self.word);
        if word == "[[" {
            self.contexts.push(Context::Test);
        }
        let Some(Context::Commands { open, cases }) = self.contexts.last_mut() else { return false };
        match &word[..] {
            "case" => *cases += 1,
            "esac" => *cases = cases.saturating_sub(1),
            _ => {}
        }
        *cases > 0 && *open == 0
    }

    fn parenthesis(&mut self, is_open: bool) {
        let is_line = self.contexts.len() == 1;
        let Some(Context::Commands { open, .. }) = self.contexts.last_mut() else { return };
        match (is_open, *open) {
            (true, _) => *open += 1,
            (false, 1..) => *open -= 1,
            (false, 0) if !is_line => {
                self.contexts.pop();
                // What follows belongs to the word that the substitution is part of.
                self.word.push('"');
            }
            (false, _) => {}
        }
    }

    fn skip_comment(&mut self) {
        while let Some((_, character)) = self.characters.next_if(|(_, character)| *character != '\n') {
            if character == PLACEHOLDER {
                self.placeholder(None);
            }
        }
    }

    /// After `<<`: takes the delimiter.
    fn here_document(&mut self) {
        let is_indented = self.next_is('-');
        while self.characters.next_if(|(_, c)| *c == ' ' || *c == '\t').is_some() {}
        let (mut delimiter, mut quote) = (String::new(), None);
        while let Some((_, c)) =
            self.characters.next_if(|(_, c)| quote.is_some() || !c.is_whitespace() && !"|&;()<>".contains(*c))
        {
            match c {
                _ if quote == Some(c) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                '\\' if quote != Some('\'') => {}
                PLACEHOLDER => self.placeholder(Some(Place::HereDocument)),
                _ => delimiter.push(c),
            }
        }
        self.documents.push(HereDocument { delimiter, is_indented });
    }

    fn line_feed(&mut self, position: usize) {
        self.ended = true;
        let mut rest = &self.line[position + 1..];
        for HereDocument { delimiter, is_indented } in std::mem::take(&mut self.documents) {
            while !rest.is_empty() {
                let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
                rest = after;
                let line = if is_indented { line.trim_start_matches('\t') } else { line };
                if line == delimiter {
                    break;
                }
                self.shape.places.extend(line.matches(PLACEHOLDER).map(|_| Some(Place::HereDocument)));
            }
        }
        let next = self.line.len() - rest.len();
        while self.characters.next_if(|(at, _)| *at < next).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(line: &str) -> Vec<Option<Place>> {
        read(&line.replace("{}", &PLACEHOLDER.to_string())).places
    }

    #[test]
    fn placeholders_between_words_are_accepted() {
        for line in [
            "cat {}",
            "a={} sort<{}>{}",
            "'a b' {} \"c\" {}",
            "echo it\\'s {}",
            "x $(cat {}) {}",
            "echo \"$(cat {})\" {}",
            "( {} ); {}",
            "# it's {}\ncat {}",
            "echo a#' ' {}",
            "cat <<E | sort {}\nit's\nE\ncat {}",
            "echo ${x:-{}}",
            "echo \"$(case x in x) echo {};; (y) cat {};; esac)\" {}",
            "cat <<< 'a' > {}\necho {}",
            "cat <<'A B' | sort {}\nit's\nA B\ncat {}",
            "cat <<-E {}\n\tit's\n\tE\ncat {}",
            "cat <<E {}\n\tE\nit's\nE\ncat {}",
            "echo $'it\\'s' {}",
            "echo \"a [[ b\" {}",
            "[ {} = a ] && ( (echo {}) )",
        ] {
            let found = places(line);
            assert_eq!(found.len(), line.matches("{}").count(), "{line}");
            assert!(found.iter().all(Option::is_none), "{line}: {found:?}");
        }
    }

    #[test]
    fn placeholders_where_a_value_would_be_syntax_are_found() {
        let (single, double) = (Place::Quotes('\''), Place::Quotes('"'));
        for (line, expected) in [
            ("echo '{}'", single),
            ("echo 'a {} b'", single),
            ("echo \"{}\"", double),
            ("echo \"a \\\" {}\"", double),
            ("bash -c \"cat {}\"", double),
            ("echo \"$(cat 'a {}')\"", single),
            ("echo \"$(cat b) {}\"", double),
            ("echo `cat {}`", Place::Backticks),
            ("echo \\{}", Place::Backslash),
            ("echo $(( {} + 1 ))", Place::Arithmetic),
            ("echo $(( (1) + {} ))", Place::Arithmetic),
            ("(( {} > 3 )) && true", Place::Arithmetic),
            ("echo $[ {} ]", Place::Arithmetic),
            ("[[ {} -gt 3 ]] && true", Place::Test),
            ("[[ a = \\{} ]] && true", Place::Test),
            ("echo ${}", Place::Dollar),
            ("echo \"${}\"", double),
            ("echo $'a\\' {}'", single),
            ("echo \"$(case x in x) echo \"{}\";; esac)\"", double),
            ("cat <<E\n\tE\n{}\nE", Place::HereDocument),
            ("python3 <<E\nprint('{}')\nE", Place::HereDocument),
            ("python3 <<-'E'\n\tprint({})\n\tE\ntrue", Place::HereDocument),
        ] {
            assert_eq!(places(line), [Some(expected)], "{line}");
        }
        assert_eq!(places("echo $((1)) {} '{}' {}"), [None, Some(single), None]);
        assert_eq!(places("cat <<E\n{}\nE\ncat {}"), [Some(Place::HereDocument), None]);
    }

    #[test]
    fn lines_of_several_commands_are_found() {
        for line in
            ["a | b", "a; b", "a\nb", "a & b", "(a; b)", "x $(a | b)", "a |\nb", "if a; then b; fi", "a && b; c"]
        {
            assert!(read(line).has_several_commands, "{line}");
        }
        for line in ["a b > c 2>&1", "a && b", "a || b", "a;", "a\n", "a 'b; c | d'", "a \\\n b", "a # b; c", "a &"] {
            assert!(!read(line).has_several_commands, "{line}");
        }
        assert!(read("a | b").has_pipe && read("$(a|b)").has_pipe && read("a |& b").has_pipe);
        assert!(!read("a || b").has_pipe && !read("a >| b '|'").has_pipe);
    }
}
