//! `[inputs]`.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use crate::config::diagnostic::{Mistake, Mistakes, Origin, Sources, Span};
use crate::config::spanned::{Named, Spanned, parsed};

/// The pattern of [`is_name`].
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9_-]+$";

/// Whether a stage or an input may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A file or folders from outside, declared once.
#[derive(Debug, Clone)]
pub struct InputDeclaration {
    /// The name below `[inputs]`.
    pub name: String,
    /// As written: relative to the project's root, or absolute.
    pub paths: Vec<PathBuf>,
    /// Whether it was written as a list of folders.
    pub list: bool,
    /// Where its value comes from; a recorded digest of another origin's value does not apply to it.
    pub origin: Origin,
    /// Where it is written.
    pub span: Span,
}

/// Files and folders from outside, relative to this file or absolute.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[schemars(extend("propertyNames" = { "pattern": NAME_PATTERN }))]
pub(crate) struct InputsSection(Named<Spanned<InputPaths>>);

/// A path, or a list of folders that are read as one.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, extend("errorMessage" = "write a path such as `\"data/images\"`, or a list of folders"))]
enum InputPaths {
    One(InputPath),
    List(#[schemars(length(min = 1), extend("uniqueItems" = true))] Vec<Spanned<InputPath>>),
}

/// As written: relative to the project's root, or absolute.
#[derive(Debug, JsonSchema)]
#[schemars(title = "path")]
struct InputPath(#[schemars(length(min = 1))] String);

impl<'de> Deserialize<'de> for InputPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| (!text.is_empty()).then(|| Self(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for InputPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputPathsVisitor)
    }
}

struct InputPathsVisitor;

impl<'de> Visitor<'de> for InputPathsVisitor {
    type Value = InputPaths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path or a list of folders")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<InputPaths, E> {
        match text {
            "" => Err(E::invalid_value(Unexpected::Str(text), &self)),
            path => Ok(InputPaths::One(InputPath(path.to_owned()))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<InputPaths, A::Error> {
        let mut paths = Vec::new();
        while let Some(path) = sequence.next_element()? {
            paths.push(path);
        }
        if paths.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(InputPaths::List(paths)) }
    }
}

impl InputsSection {
    /// Rejects invalid names and folders that are listed twice.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let Self(Named(inputs)) = self;
        for (name, paths) in inputs {
            if !is_name(&name.value) {
                let message = format!("`{}` cannot be the name of an input", name.value);
                mistakes.push(Mistake::new(name.span, message).hint("use letters, digits, `_` and `-`".to_owned()));
            }
            let InputPaths::List(paths) = &paths.value else { continue };
            for (index, path) in paths.iter().enumerate() {
                let same = |other: &Spanned<InputPath>| normal(&other.value.0) == normal(&path.value.0);
                if paths[..index].iter().any(same) {
                    let message = format!("inputs: `{}` lists the folder `{}` twice", name.value, path.value.0);
                    mistakes.push(Mistake::new(path.span, message));
                }
            }
        }
    }

    /// The inputs, sorted by name.
    pub(crate) fn into_declarations(self, sources: &Sources) -> Vec<InputDeclaration> {
        let Self(Named(inputs)) = self;
        let mut inputs: Vec<InputDeclaration> = inputs
            .into_iter()
            .map(|(name, Spanned { span, value })| {
                let (paths, list) = match value {
                    InputPaths::One(InputPath(path)) => (vec![path.into()], false),
                    InputPaths::List(paths) => (paths.into_iter().map(|path| path.value.0.into()).collect(), true),
                };
                InputDeclaration { name: name.value, paths, list, origin: sources.origin(span), span }
            })
            .collect();
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        inputs
    }
}

/// The path without `.` and with `..` taken back, as far as its text allows.
pub(super) fn normal(path: impl AsRef<Path>) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.as_ref().components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalised_by_its_text() {
        assert_eq!(normal("./a/../b/./c"), Path::new("b/c"));
        assert_eq!(normal("../a"), Path::new("../a"));
        assert_eq!(normal("/a/../../b"), Path::new("/../b"));
    }
}
