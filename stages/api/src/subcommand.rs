//! Commands that the stages package adds to the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{ArtifactType, Input, StageError};

/// A command besides those of the engine, such as `hamflow NAME …`.
///
/// The engine parses the arguments, adds the options that select a pipeline (`--file`, `--profile`, `--set`), and prints the error.
pub trait Subcommand: Sync {
    /// The name and the arguments.
    fn spec(&self) -> SubcommandSpec;

    /// Runs the command. Returns the exit code: 0, or 1 if some of the work failed and the rest is done.
    fn run(&self, arguments: &Arguments, host: &dyn Host) -> Result<u8, CommandError>;
}

/// The static properties of a command.
#[derive(Debug, Clone)]
pub struct SubcommandSpec {
    /// The name on the command line.
    pub name: &'static str,
    /// One sentence for the help, without a full stop.
    pub summary: &'static str,
    /// The arguments, in the order of the help; positional ones come first.
    pub arguments: Vec<Argument>,
}

/// An argument of a command.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// The name by which the command reads the value; of an option, also its long name without dashes.
    pub name: &'static str,
    /// How it is written.
    pub form: Form,
    /// One sentence for the help, without a full stop.
    pub doc: &'static str,
}

/// How an argument is written. `placeholder` stands for the value in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A required positional text.
    Text { placeholder: &'static str },
    /// One or more positional paths.
    Paths { placeholder: &'static str },
    /// An option with a path as its value.
    PathOption { placeholder: &'static str },
    /// An option without a value.
    Flag,
}

/// The arguments of an invocation. Each method panics if the argument is declared in another form.
#[derive(Debug, Clone, Default)]
pub struct Arguments(BTreeMap<&'static str, Value>);

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Paths(Vec<PathBuf>),
    Flag(bool),
}

impl Arguments {
    /// Sets a [`Form::Text`].
    pub fn set_text(&mut self, name: &'static str, text: String) {
        self.0.insert(name, Value::Text(text));
    }

    /// Sets [`Form::Paths`], or a [`Form::PathOption`] to at most one path.
    pub fn set_paths(&mut self, name: &'static str, paths: Vec<PathBuf>) {
        self.0.insert(name, Value::Paths(paths));
    }

    /// Sets a [`Form::Flag`].
    pub fn set_flag(&mut self, name: &'static str, is_set: bool) {
        self.0.insert(name, Value::Flag(is_set));
    }

    /// The value of a [`Form::Text`].
    pub fn text(&self, name: &str) -> &str {
        let Some(Value::Text(text)) = self.0.get(name) else { panic!("`{name}` is not declared as a text") };
        text
    }

    /// The values of [`Form::Paths`].
    pub fn paths(&self, name: &str) -> &[PathBuf] {
        let Some(Value::Paths(paths)) = self.0.get(name) else { panic!("`{name}` is not declared as paths") };
        paths
    }

    /// The value of a [`Form::PathOption`], if given.
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.paths(name).first().map(PathBuf::as_path)
    }

    /// Whether a [`Form::Flag`] is given.
    pub fn flag(&self, name: &str) -> bool {
        let Some(Value::Flag(is_set)) = self.0.get(name) else { panic!("`{name}` is not declared as a flag") };
        *is_set
    }
}

/// An artifact that a command looks for, with the words for messages about it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The type.
    pub artifact_type: ArtifactType,
    /// The noun, e.g. `summary`; one that takes the article `a`.
    pub noun: &'static str,
    /// The imperative for making it, e.g. `compute`.
    pub verb: &'static str,
}

/// What the engine does for a command.
pub trait Host {
    /// The files of a directory, or the up-to-date artifact of a stage of the selected pipeline. The type must be that of a folder.
    fn artifact(&self, named: &str, wanted: Wanted) -> Result<Input, CommandError>;

    /// The maximum number of threads.
    fn threads(&self) -> usize;

    /// The paths of all files below a directory, relative to it, sorted.
    fn list(&self, folder: &Path) -> Result<Vec<String>, CommandError>;

    /// Creates a directory and its parents.
    fn create_folder(&self, folder: &Path) -> Result<(), CommandError>;

    /// Writes a file that appears whole or not at all, and replaces an older one.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CommandError>;

    /// Prints a line of data to standard output.
    fn print(&self, line: &str);

    /// Prints an error that does not end the command to standard error.
    fn report(&self, error: StageError);
}

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// An error of the command; its category determines the exit code.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An error of the engine, such as one in the pipeline file.
    #[error("{text}")]
    Engine {
        /// The exit code.
        code: u8,
        /// The text for the terminal, with its hint.
        text: String,
    },
}
