//! Arguments with placeholders, and their substitution.

use std::fmt;
use std::path::Path;

use hamflow_stage_api::{Input, StageContext, StageError, near_miss};
use serde_json::Value;

use super::shell::{self, Place, Shape};
use super::{CommandParams, Run, interpreter, programs};

/// A placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placeholder {
    Input(String),
    Output(String),
    Param(String),
    /// A file of the project, which is an input.
    File(String),
    Threads,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(Placeholder),
}

/// A text with placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Parses the placeholders; the error is a complete message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(position) = rest.find(['{', '}']) {
            plain.push_str(&rest[..position]);
            let brace = &rest[position..];
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if brace.starts_with('}') {
                return Err(format!("unmatched `}}` in `run` after `{plain}`"));
            } else {
                let end = brace.find('}').ok_or_else(|| format!("unclosed `{{` in `run`: `{brace}`"))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Placeholder(placeholder(&brace[1..end])?));
                rest = &brace[end + 1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Reads the template as a line for the shell: its shape, and its placeholders.
    pub fn read_as_line(&self) -> (Shape, Vec<&Placeholder>) {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(&text.replace(shell::PLACEHOLDER, "?")),
                Piece::Placeholder(_) => line.push(shell::PLACEHOLDER),
            }
        }
        let (shape, placeholders): (_, Vec<_>) = (shell::read(&line), self.placeholders().collect());
        // With a place too few, the later placeholders would be judged by the places of others.
        assert_eq!(shape.places.len(), placeholders.len(), "every placeholder has a place");
        (shape, placeholders)
    }

    /// The first placeholder of a line that is where its value must not be. Numbers and truth values are safe everywhere.
    pub fn misplaced(&self, parameters: &CommandParams) -> Option<(&Placeholder, Place)> {
        let (shape, placeholders) = self.read_as_line();
        let mut placed = placeholders.into_iter().zip(shape.places);
        placed.find_map(|(placeholder, place)| Some((placeholder, place.filter(|_| placeholder.is_text(parameters))?)))
    }

    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder(placeholder) => Some(placeholder),
            Piece::Text(_) => None,
        })
    }
}

impl Placeholder {
    /// Whether its values may be any text, rather than a number or a truth value.
    pub fn is_text(&self, parameters: &CommandParams) -> bool {
        match self {
            Self::Threads => false,
            Self::Param(name) => parameters.value(name).is_none_or(Value::is_string),
            Self::Input(_) | Self::Output(_) | Self::File(_) => true,
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(name) => write!(f, "{{inputs.{name}}}"),
            Self::Output(name) => write!(f, "{{outputs.{name}}}"),
            Self::Param(name) => write!(f, "{{params.{name}}}"),
            Self::File(path) => write!(f, "{{file:{path}}}"),
            Self::Threads => f.write_str("{threads}"),
        }
    }
}

fn placeholder(text: &str) -> Result<Placeholder, String> {
    if let Some(path) = text.strip_prefix("file:") {
        return Ok(Placeholder::File(path.to_owned()));
    }
    match text.split_once('.') {
        Some(("inputs", name)) => Ok(Placeholder::Input(name.to_owned())),
        Some(("outputs", name)) => Ok(Placeholder::Output(name.to_owned())),
        Some(("params", name)) => Ok(Placeholder::Param(name.to_owned())),
        None if text == "threads" => Ok(Placeholder::Threads),
        _ => Err(format!(
            "unknown placeholder `{{{text}}}`; expected `{{inputs.…}}`, `{{outputs.…}}`, `{{params.…}}`, `{{file:…}}` or `{{threads}}`"
        )),
    }
}

/// The length in bytes from which a script is not passed as an argument; Linux takes 128 KiB (execve(2)).
const MAX_ARGUMENT: usize = 120 * 1024;

/// The files that a text names with `{file:PATH}`.
pub(super) fn files(text: &str) -> Vec<String> {
    let template = Template::parse(text).unwrap_or_default();
    let file = |placeholder: &Placeholder| match placeholder {
        Placeholder::File(path) => Some(path.clone()),
        _ => None,
    };
    template.placeholders().filter_map(file).collect()
}

/// The program and its arguments with all placeholders substituted.
pub(super) fn fill(parameters: &CommandParams, context: &StageContext<'_>) -> Result<Vec<String>, StageError> {
    match &parameters.run {
        Run::Arguments(arguments) => {
            let scripts = programs::scripts(arguments);
            let mut filled = Vec::new();
            for (index, argument) in arguments.iter().enumerate() {
                if scripts.contains(&index) {
                    filled.push(Script::fill(argument, parameters, context)?.with_quoted_values());
                } else {
                    filled.extend(fill_argument(argument, parameters, context)?);
                }
            }
            Ok(filled)
        }
        Run::Line(line) => {
            let shape = parse(line)?.read_as_line().0;
            let mut command_line = interpreter::of(&shape, parameters.strict, parameters.shell.as_deref())?;
            command_line.extend(Script::fill(line, parameters, context)?.with_arguments(context)?);
            Ok(command_line)
        }
    }
}

/// A script in which variables stand for the values, so that no value is ever part of the shell's syntax.
struct Script {
    text: String,
    values: Vec<String>,
}

impl Script {
    fn fill(line: &str, parameters: &CommandParams, context: &StageContext<'_>) -> Result<Self, StageError> {
        let template = parse(line)?;
        let (shape, _) = template.read_as_line();
        let mut places = shape.places.into_iter();
        let mut script = Self { text: String::new(), values: Vec::new() };
        let mut pieces = template.0.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            let placeholder = match piece {
                Piece::Text(text) => {
                    script.text.push_str(&text);
                    continue;
                }
                Piece::Placeholder(placeholder) => placeholder,
            };
            let values = values(&placeholder, parameters, context)?;
            // A number may be within quotes or arithmetic, where a variable would not be replaced or not be one word.
            if places.next().flatten().is_some() {
                script.text.push_str(&values.join(" "));
                continue;
            }
            let next = match pieces.peek() {
                Some(Piece::Text(text)) => text.chars().next(),
                Some(Piece::Placeholder(_)) => Some('{'),
                None => None,
            };
            let ends_word = |character: char| character.is_whitespace() || "|&;()<>".contains(character);
            let is_word = script.text.chars().next_back().is_none_or(ends_word) && next.is_none_or(ends_word);
            if values.len() != 1 && !is_word {
                let count = values.len();
                let message = format!("`{placeholder}` has {count} values, but is part of a word in `run`");
                return Err(StageError::input(message).hint("put a space in front of it and after it"));
            }
            for (number, value) in values.into_iter().enumerate() {
                script.text.push_str(if number > 0 { " " } else { "" });
                script.values.push(value);
                script.text.push_str(&format!("\"${{hamflow_{}}}\"", script.values.len()));
            }
        }
        Ok(script)
    }

    /// The arguments of the shell: it gets the values as arguments and copies them to variables. Then it forgets its
    /// arguments, so that the script sees none. A script that is too long for an argument is a file.
    fn with_arguments(self, context: &StageContext<'_>) -> Result<Vec<String>, StageError> {
        let Self { text, values } = self;
        let script = with_assignments(text, values.len());
        if script.len() < MAX_ARGUMENT {
            let name = Some("sh".to_owned()).filter(|_| !values.is_empty());
            return Ok(["-c".to_owned(), script].into_iter().chain(name).chain(values).collect());
        }
        let path = context.scratch_dir().join("line.sh");
        std::fs::write(&path, script).map_err(|source| StageError::io("write", &path, &source))?;
        Ok([path.display().to_string()].into_iter().chain(values).collect())
    }

    /// The script with quoted values in front, for a shell whose arguments are the user's.
    fn with_quoted_values(self) -> String {
        let quoted = |value: &str| value.replace('\'', r"'\''");
        let assign = |(number, value): (usize, &String)| format!("hamflow_{}='{}';", number + 1, quoted(value));
        let assignments: String = self.values.iter().enumerate().map(assign).collect();
        format!("{assignments}{}", self.text)
    }
}

/// A script that begins with copying its arguments to variables.
fn with_assignments(text: String, count: usize) -> String {
    if count == 0 {
        return text;
    }
    let assign = |number: usize| format!("hamflow_{number}=${{{number}}};");
    let assignments: String = (1..=count).map(assign).collect();
    format!("{assignments}set --;{text}")
}

fn parse(text: &str) -> Result<Template, StageError> {
    Template::parse(text).map_err(StageError::bug)
}

/// Substitutes one argument. Gives several if the argument is just a placeholder with several values.
fn fill_argument(
    argument: &str,
    parameters: &CommandParams,
    context: &StageContext<'_>,
) -> Result<Vec<String>, StageError> {
    let pieces = parse(argument)?.0;
    if let [Piece::Placeholder(placeholder)] = &pieces[..] {
        return values(placeholder, parameters, context);
    }
    let mut filled = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(&text),
            Piece::Placeholder(placeholder) => match &values(&placeholder, parameters, context)?[..] {
                [value] => filled.push_str(value),
                several => {
                    let message =
                        format!("`{argument}` needs a single path, but its placeholder has {}", several.len());
                    return Err(StageError::input(message).hint("pass the placeholder as a separate argument"));
                }
            },
        }
    }
    Ok(vec![filled])
}

fn values(
    placeholder: &Placeholder,
    parameters: &CommandParams,
    context: &StageContext<'_>,
) -> Result<Vec<String>, StageError> {
    match placeholder {
        Placeholder::Input(name) => {
            let inputs = context.inputs().all(name);
            if inputs.is_empty() {
                let message = format!("`run` names `{{inputs.{name}}}`, but `inputs` has no `{name}`");
                let known = context.inputs().0.keys().map(String::as_str).filter(|known| !known.contains(':'));
                let error = StageError::input(message);
                return Err(match near_miss::hint(name, known) {
                    Some(hint) => error.hint(hint),
                    None => error.hint(format!("declare it: `inputs = {{ {name} = \"…\" }}`")),
                });
            }
            inputs.iter().map(input_path).collect()
        }
        Placeholder::Output(name) => {
            let declared = parameters.outputs.get(name);
            let declared = declared.ok_or_else(|| StageError::bug(format!("no output `{name}`")))?;
            Ok(vec![text(&context.job().output_dir.join(declared.path(name)))?])
        }
        Placeholder::Param(name) => match parameters.value(name) {
            Some(value) => Ok(vec![plain(value)]),
            None => Err(StageError::bug(format!("no parameter `{name}`"))),
        },
        Placeholder::File(path) => {
            if !context.job().project_dir.join(path).is_file() {
                let message = format!("`run` names `{{file:{path}}}`, but there is no file `{path}`");
                return Err(StageError::input(message).hint("the path is relative to the folder of `pipeline.toml`"));
            }
            Ok(vec![path.clone()])
        }
        Placeholder::Threads => Ok(vec![context.threads().to_string()]),
    }
}

/// A parameter as passed to the program.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn input_path(input: &Input) -> Result<String, StageError> {
    let path = input.path.as_deref().ok_or_else(|| {
        StageError::input(format!("`{}` is a list of folders, which has no single path", input.name))
            .hint("declare each folder as a separate entry of `[inputs]`")
    })?;
    text(path)
}

fn text(path: &Path) -> Result<String, StageError> {
    let text = path.to_str();
    let text = text.ok_or_else(|| StageError::input(format!("the path `{}` is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_doubled_braces_are_distinguished() {
        let template = Template::parse("awk '{{print $1}}' {inputs.x}>{outputs.y}").unwrap();
        let names = [Placeholder::Input("x".to_owned()), Placeholder::Output("y".to_owned())];
        assert!(template.placeholders().eq(&names));
        assert_eq!(template.0[0], Piece::Text("awk '{print $1}' ".to_owned()));
        assert_eq!(Template::parse("{threads}").unwrap().0, [Piece::Placeholder(Placeholder::Threads)]);
    }

    #[test]
    fn invalid_placeholders_are_rejected() {
        for text in ["{print $1}", "{", "a } b", "{input.x}", "{inputs.x", "{}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
