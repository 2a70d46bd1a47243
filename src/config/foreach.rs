//! One stage per file of a declared folder: `foreach = "inputs.scans/*.csv"`.

use std::path::Path;

use glob::Pattern;
use hamflow_stage_api::{Digest, KindSpec, near_miss::did_you_mean};

use super::axis::{Axis, AxisValue, Role, is_label};
use super::diagnostic::{Mistake, Mistakes};
use super::matched_files::{MatchedFiles, matched_names};
use super::port_reader::declared_port;
use super::sections::InputDeclaration;
use super::spanned::Spanned;
use super::value::{Node, Value};

/// The axis, and the input that is the file.
pub(crate) const EACH: &str = "each";

/// A `foreach` and its stage.
pub(crate) struct Site<'a> {
    pub(crate) place: &'a str,
    pub(crate) spec: &'a KindSpec,
    /// Whether the stage has an input or axis `each` of its own.
    pub(crate) is_taken: bool,
    pub(crate) pattern: &'a Spanned<String>,
}

/// Finds the files of declared folders, and declares each.
pub(crate) struct Folders<'a> {
    root: &'a Path,
    inputs: &'a [InputDeclaration],
    /// The inputs that the files are.
    pub(crate) declarations: Vec<InputDeclaration>,
    /// What was looked for.
    pub(crate) matched: Vec<MatchedFiles>,
}

impl<'a> Folders<'a> {
    pub(crate) fn new(root: &'a Path, inputs: &'a [InputDeclaration]) -> Self {
        Self { root, inputs, declarations: Vec::new(), matched: Vec::new() }
    }

    /// The axis of a stage whose values are the files.
    pub(crate) fn axis(&mut self, site: Site<'_>, mistakes: &mut Mistakes) -> Option<Axis> {
        let span = site.pattern.span;
        self.read(&site).map_err(|mistake| mistakes.push(mistake)).ok().map(|files| {
            let value =
                |(name, reference)| AxisValue { label: name, node: Node { value: Value::String(reference), span } };
            let values = files.into_iter().map(value).collect();
            Axis { name: EACH.to_owned(), span, role: Role::Port(declared_port(EACH, false)), values }
        })
    }

    /// The names and the references of the files.
    fn read(&mut self, site: &Site<'_>) -> Result<Vec<(String, String)>, Mistake> {
        let Site { place, spec, is_taken, pattern: Spanned { span, value: text } } = site;
        let mistake = |message: String| Mistake::new(*span, format!("{place}: {message}"));
        if !spec.dynamic_ports {
            let hint =
                format!("use a matrix over an input: `matrix = {{ {} = [\"inputs.a\", \"inputs.b\"] }}`", port(spec));
            return Err(mistake(format!(
                "`foreach` is for stages that declare their inputs, and `{}` does not",
                spec.name
            ))
            .hint(hint));
        }
        if *is_taken {
            return Err(mistake(format!("`foreach` makes an input `{EACH}`, but the stage has one"))
                .hint("give the other input or axis another name".to_owned()));
        }
        let shape = || "write a declared folder and a pattern, such as `\"inputs.scans/*.csv\"`".to_owned();
        let split = text.strip_prefix("inputs.").and_then(|rest| rest.split_once('/'));
        let (input, path) = split.ok_or_else(|| mistake(format!("`foreach` cannot be `{text}`")).hint(shape()))?;
        let (below, pattern) = path.rsplit_once('/').unwrap_or(("", path));
        let is_wild = |text: &str| text.contains(['*', '?', '[']);
        if is_wild(below) || below.split('/').any(|step| step == "..") {
            return Err(mistake(format!("the folder `{below}` in `foreach` cannot have wildcards or `..`"))
                .hint("declare each folder under `[inputs]`".to_owned()));
        }
        if pattern.is_empty() || Pattern::new(pattern).is_err() {
            return Err(mistake(format!("`{pattern}` in `foreach` is not a pattern")).hint(shape()));
        }
        let Some(declaration) = self.inputs.iter().find(|declared| declared.name == input) else {
            let hint = did_you_mean(input, self.inputs.iter().map(|declared| &declared.name[..]));
            let declare = || Some(format!("declare it: `[inputs] {input} = \"PATH\"`"));
            return Err(mistake(format!("no input `{input}`")).hint(hint.or_else(declare)));
        };
        let [folder] = &declaration.paths[..] else {
            return Err(mistake(format!("`inputs.{input}` is a list of folders, and `foreach` takes one"))
                .hint("declare each folder separately".to_owned()));
        };
        let folder = if below.is_empty() { folder.clone() } else { folder.join(below) };
        let full = self.root.join(&folder);
        let names = matched_names(&full, pattern)
            .map_err(|error| mistake(format!("cannot list the folder `{}`: {error}", folder.display())))?;
        if names.is_empty() {
            return Err(mistake(format!("no file in `{}` matches `{pattern}`", folder.display())));
        }
        if let Some(name) = names.lines().find(|name| !is_label(name)) {
            return Err(mistake(format!("the file name `{name}` cannot be part of a stage's name"))
                .hint("it must not contain `[`, `]`, `,`, `=` or `\\`".to_owned()));
        }
        self.matched.push(MatchedFiles {
            folder: full,
            pattern: pattern.to_owned(),
            names: Digest::of(names.as_bytes()),
        });
        let files = names.lines().map(|name| {
            let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let declared = InputDeclaration {
                name: format!("{input}/{below}"),
                paths: vec![folder.join(name)],
                ..declaration.clone()
            };
            if !self.declarations.iter().any(|other| other.name == declared.name) {
                self.declarations.push(declared);
            }
            (name.to_owned(), format!("inputs.{input}/{below}"))
        });
        Ok(files.collect())
    }
}

/// An input of a kind, for a hint.
fn port(spec: &KindSpec) -> &str {
    spec.ports.first().map_or("input", |port| &port.name)
}
