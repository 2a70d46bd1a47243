//! What a line for the shell consists of: its words, its quotes and its commands.

use std::iter::Peekable;
use std::str::CharIndices;

/// Where a placeholder must not be, because its value would be read as syntax or changed by the shell, or because
/// another interpreter reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Quotes(char),
    Backslash,
    Backticks,
    HereDocument,
    Arithmetic,
}

impl Place {
    /// The place as the end of a sentence: "is …".
    pub fn describe(self) -> String {
        match self {
            Self::Quotes(quote) => format!("within quotes ({quote})"),
            Self::Backslash => "behind a backslash".to_owned(),
            Self::Backticks => "within backticks".to_owned(),
            Self::HereDocument => "within a here-document".to_owned(),
            Self::Arithmetic => "within `$((…))`".to_owned(),
        }
    }
}

/// The result of reading a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// For each placeholder, in order: its place, if values must not be there.
    pub places: Vec<Option<Place>>,
    /// Whether the line has several commands, of which only the last would decide over success.
    pub has_several_commands: bool,
    /// Whether it has a pipe.
    pub has_pipe: bool,
}

/// What the shell is reading (POSIX.1-2017, XCU 2.2, 2.3, 2.6 and 2.7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// Commands; the number of open parentheses within.
    Commands(usize),
    Single,
    Double,
    Backticks,
    Arithmetic(usize),
}

/// Stands for a placeholder in a line that [`read`] gets.
pub(super) const PLACEHOLDER: char = '\u{fdef}';

/// Reads a line in which [`PLACEHOLDER`] stands for each placeholder.
pub(super) fn read(line: &str) -> Shape {
    let mut reader = Reader { characters: line.char_indices().peekable(), line, ..Reader::default() };
    while let Some((position, character)) = reader.characters.next() {
        reader.step(position, character);
    }
    reader.shape
}

struct Reader<'a> {
    line: &'a str,
    characters: Peekable<CharIndices<'a>>,
    contexts: Vec<Context>,
    shape: Shape,
    /// Whether the character before was part of a word, so that `#` starts no comment.
    in_word: bool,
    /// The delimiters of the here-documents that start behind the next line feed.
    documents: Vec<String>,
    /// Whether a command has ended, so that what follows is another one.
    ended: bool,
}

impl Default for Reader<'_> {
    fn default() -> Self {
        Self {
            line: "",
            characters: "".char_indices().peekable(),
            contexts: Vec::new(),
            shape: Shape::default(),
            in_word: false,
            documents: Vec::new(),
            ended: false,
        }
    }
}

impl Reader<'_> {
    fn next_is(&mut self, wanted: char) -> bool {
        self.characters.next_if(|(_, character)| *character == wanted).is_some()
    }

    fn step(&mut self, position: usize, character: char) {
        match self.contexts.last().copied().unwrap_or(Context::Commands(0)) {
            Context::Commands(_) => self.command(position, character),
            Context::Single => self.single(character),
            Context::Double => self.double(character),
            Context::Backticks => self.within(character, '`', Place::Backticks),
            Context::Arithmetic(_) => self.arithmetic(character),
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
            '$' if self.next_is('(') => self.substitution(),
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

    /// Behind `$(`.
    fn substitution(&mut self) {
        let context = if self.next_is('(') { Context::Arithmetic(2) } else { Context::Commands(0) };
        self.contexts.push(context);
        (self.in_word, self.ended) = (false, false);
    }

    fn arithmetic(&mut self, character: char) {
        let Some(Context::Arithmetic(open)) = self.contexts.last_mut() else { return };
        match character {
            '(' => *open += 1,
            ')' => *open -= 1,
            PLACEHOLDER => self.placeholder(Some(Place::Arithmetic)),
            _ => {}
        }
        if self.contexts.last() == Some(&Context::Arithmetic(0)) {
            self.contexts.pop();
        }
    }

    fn command(&mut self, position: usize, character: char) {
        let was_in_word = std::mem::replace(&mut self.in_word, true);
        if self.ended && !character.is_whitespace() && !")#".contains(character) {
            self.shape.has_several_commands = true;
        }
        match character {
            '\'' => self.contexts.push(Context::Single),
            '"' => self.contexts.push(Context::Double),
            '`' => self.contexts.push(Context::Backticks),
            '\\' => {
                if let Some((_, PLACEHOLDER)) = self.characters.next() {
                    self.placeholder(Some(Place::Backslash));
                }
            }
            '$' if self.next_is('(') => self.substitution(),
            '#' if !was_in_word => self.skip_comment(),
            '<' if self.next_is('<') => self.here_document(),
            '\n' => self.line_feed(position),
            PLACEHOLDER => self.placeholder(None),
            _ => self.operator(character),
        }
    }

    /// Blanks, operators, and characters of words.
    fn operator(&mut self, character: char) {
        let is_operator = character.is_whitespace() || "|&;()<>".contains(character);
        self.in_word &= !is_operator;
        match character {
            '|' if !self.next_is('|') => {
                self.next_is('&');
                self.shape.has_pipe = true;
                self.shape.has_several_commands = true;
            }
            ';' => self.ended = true,
            // `&&` needs no care: the shell stops at the first command that fails. `&` is part of `>&2`, too.
            '>' | '<' => drop(self.next_is('&') || self.next_is('|')),
            '&' if !self.next_is('&') => self.ended = true,
            '(' => self.parenthesis(1),
            ')' => self.parenthesis(-1),
            _ => {}
        }
    }

    fn parenthesis(&mut self, change: isize) {
        let Some(Context::Commands(open)) = self.contexts.last_mut() else { return };
        match open.checked_add_signed(change) {
            Some(now) => *open = now,
            None => {
                self.contexts.pop();
                self.in_word = true;
            }
        }
    }

    fn skip_comment(&mut self) {
        while let Some((_, character)) = self.characters.next_if(|(_, character)| *character != '\n') {
            if character == PLACEHOLDER {
                self.placeholder(None);
            }
        }
    }

    /// Behind `<<`: takes the delimiter.
    fn here_document(&mut self) {
        self.next_is('-');
        while self.characters.next_if(|(_, c)| *c == ' ' || *c == '\t').is_some() {}
        let mut delimiter = String::new();
        while let Some((_, c)) = self.characters.next_if(|(_, c)| !c.is_whitespace() && !"|&;()<>".contains(*c)) {
            match c {
                '\'' | '"' | '\\' => {}
                PLACEHOLDER => self.placeholder(Some(Place::HereDocument)),
                _ => delimiter.push(c),
            }
        }
        self.documents.push(delimiter);
    }

    fn line_feed(&mut self, position: usize) {
        (self.in_word, self.ended) = (false, true);
        let mut rest = &self.line[position + 1..];
        for delimiter in std::mem::take(&mut self.documents) {
            while !rest.is_empty() {
                let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
                rest = behind;
                if line.trim_start_matches('\t') == delimiter {
                    break;
                }
                self.shape.places.extend(line.matches(PLACEHOLDER).map(|_| Some(Place::HereDocument)));
            }
        }
        let next = self.line.len() - rest.len();
        while self.characters.next_if(|(at, _)| *at < next).is_some() {}
    }
}

/// Names of shells, without their folder.
const SHELLS: [&str; 6] = ["ash", "bash", "dash", "ksh", "sh", "zsh"];

/// Programs that run an argument as code, with the options in front of it.
const INTERPRETERS: [(&str, &[&str]); 8] = [
    ("python", &["-c"]),
    ("perl", &["-e", "-E", "-ne", "-pe", "-i.bak"]),
    ("ruby", &["-e", "-ne", "-pe"]),
    ("node", &["-e", "-p", "--eval", "--print"]),
    ("Rscript", &["-e"]),
    ("R", &["-e"]),
    ("julia", &["-e", "-E"]),
    ("php", &["-r"]),
];

fn base_name(argument: &str) -> &str {
    argument.rsplit('/').next().unwrap_or_default()
}

/// The index of the shell script among the arguments: the first non-option after a shell's name and `-c`.
pub(super) fn script(arguments: &[String]) -> Option<usize> {
    let is_c = |argument: &String| argument.starts_with('-') && !argument.starts_with("--") && argument.contains('c');
    let shell = arguments.iter().position(|argument| SHELLS.contains(&base_name(argument)))?;
    let option = shell + arguments[shell..].iter().position(is_c)?;
    let script = arguments[option + 1..].iter().position(|argument| !argument.starts_with('-'))?;
    Some(option + 1 + script)
}

/// The index of the argument that an interpreter such as Python runs as code.
pub(super) fn code(arguments: &[String]) -> Option<usize> {
    let interpreter = |argument: &String| {
        let name = base_name(argument).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        INTERPRETERS.iter().find(|(known, _)| *known == name).map(|(_, options)| *options)
    };
    let (program, options) = arguments.iter().enumerate().find_map(|(at, it)| Some((at, interpreter(it)?)))?;
    let option = arguments[program..].iter().position(|argument| options.contains(&&argument[..]))?;
    Some(program + option + 1)
}

/// The words of a shell line (POSIX.1-2017, 2.2 and 2.3), except redirection targets (`> log.txt`). For a quoted word
/// with spaces, also the words within, because it may be a file name or a line for another shell.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_target) = (String::new(), None, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            // A backslash before a line feed continues the line.
            (None | Some('"'), '\\') => word.extend(characters.next().filter(|next| *next != '\n')),
            (Some(_), _) => word.push(character),
            (None, _) if character.is_whitespace() || "|<>;&()`".contains(character) => {
                if !word.is_empty() {
                    let done = std::mem::take(&mut word);
                    if !std::mem::take(&mut is_target) {
                        words.push(done);
                    }
                }
                match character {
                    '>' => is_target = true,
                    '<' | ';' | '(' | ')' => is_target = false,
                    // After `>`, these belong to the operator, as in `>&2` and `>|`.
                    _ => {}
                }
            }
            (None, _) => word.push(character),
        }
    }
    if !word.is_empty() && !is_target {
        words.push(word);
    }
    let with_spaces = words.iter().filter(|word| word.contains(char::is_whitespace));
    let within: Vec<String> = with_spaces.flat_map(|word| self::words(word)).collect();
    words.extend(within);
    words
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
        for line in ["a | b", "a; b", "a\nb", "a & b", "(a; b)", "x $(a | b)", "a |\nb", "if a; then b; fi"] {
            assert!(read(line).has_several_commands, "{line}");
        }
        for line in ["a b > c 2>&1", "a && b", "a || b", "a;", "a\n", "a 'b; c | d'", "a \\\n b", "a # b; c", "a &"] {
            assert!(!read(line).has_several_commands, "{line}");
        }
        assert!(read("a | b").has_pipe && read("$(a|b)").has_pipe && read("a |& b").has_pipe);
        assert!(!read("a || b").has_pipe && !read("a >| b '|'").has_pipe);
    }

    #[test]
    fn arguments_that_are_code_are_found() {
        let find = |search: fn(&[String]) -> Option<usize>, line: &str| {
            search(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(find(script, "env X=1 /bin/bash -e -c SCRIPT a"), Some(5));
        assert_eq!(find(script, "bash -ec SCRIPT"), Some(2));
        assert_eq!(find(script, "bash script.sh -c"), None);
        assert_eq!(find(script, "python3 -c X"), None);
        assert_eq!(find(code, "/usr/bin/python3.11 -u -c CODE x"), Some(3));
        assert_eq!(find(code, "perl -ne CODE"), Some(2));
        assert_eq!(find(code, "python3 a.py x"), None);
    }
}
