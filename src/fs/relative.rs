//! Paths that cannot leave the folder that they are relative to.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that Linux and macOS file systems take (`NAME_MAX`), in bytes.
pub const MAX_NAME: usize = 255;

/// Longer paths cannot be opened (`PATH_MAX` is 4,096 with the folder in front).
const MAX_PATH: usize = 3072;

/// A file below some folder: relative, normalised, with `/` between its steps.
///
/// Paths in results, trees, bundles and run records say where hamflow writes. All of them are parsed into this type, which cannot
/// hold an absolute path, `..`, `.`, an empty step, a NUL or a line break, nor a name that no file system takes. Whether a folder on
/// the way is a symlink is checked when the file is written ([`Folder`](super::Folder)).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

/// Why a text is not a [`RelativePath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelativePathError {
    /// The text.
    pub path: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for RelativePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid path {:?}: {}", self.path, self.problem)
    }
}

impl std::error::Error for RelativePathError {}

impl RelativePath {
    /// Checks a path.
    pub fn new(path: impl Into<String>) -> Result<Self, RelativePathError> {
        let path = path.into();
        match problem(&path) {
            None => Ok(Self(path)),
            Some(problem) => Err(RelativePathError { path, problem }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last step: the file's own name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folders above the file, outermost first.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.rsplit_once('/').map(|(folders, _)| folders.split('/')).into_iter().flatten()
    }

    /// This path below a folder.
    pub fn below(&self, folder: &Self) -> Self {
        Self(format!("{folder}/{self}"))
    }

    /// The path relative to `folder`; `None` if it is not below `folder`.
    pub fn relative_to(&self, folder: &str) -> Option<Self> {
        self.0.strip_prefix(folder)?.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }
}

fn problem(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it is empty");
    }
    if path.len() > MAX_PATH {
        return Some("it is too long");
    }
    if path.bytes().any(|byte| byte == 0 || byte == b'\n') {
        return Some("it contains a NUL or a line break");
    }
    path.split('/').find_map(|step| match step {
        "" => Some("it has an empty step or is absolute"),
        "." | ".." => Some("it has a `.` or `..`"),
        _ if step.len() > MAX_NAME => Some("a name in it is longer than 255 bytes"),
        _ => None,
    })
}

impl Deref for RelativePath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RelativePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl PartialEq<str> for RelativePath {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for RelativePath {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for RelativePath {
    type Err = RelativePathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Self::new(path)
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_could_leave_its_folder_or_cannot_exist_is_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(2000) + "x";
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "a\nb", &long, &deep] {
            assert!(RelativePath::new(path).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "...", "..a/b..", "a\\b", "ü x\r", ".hidden", "C:"] {
            assert_eq!(RelativePath::new(path).unwrap(), path);
        }
    }

    #[test]
    fn folders_and_name_are_the_steps_of_a_path() {
        let path = RelativePath::new("a/b/c.txt").unwrap();
        assert_eq!((path.folders().collect::<Vec<_>>(), path.name()), (vec!["a", "b"], "c.txt"));
        assert_eq!(RelativePath::new("c").unwrap().folders().count(), 0);
        assert_eq!(path.relative_to("a").unwrap(), "b/c.txt");
        assert_eq!((path.relative_to("a/b/c.txt"), path.relative_to("a/bb"), path.relative_to("")), (None, None, None));
    }

    proptest! {
        /// Whatever is accepted, joined to a folder, stays below that folder lexically.
        #[test]
        fn accepted_paths_stay_inside(path in "[a./\\\\\0\n~ ]{0,12}|.*") {
            if let Ok(path) = RelativePath::new(path) {
                let joined = Path::new("/root/folder").join(&path);
                prop_assert!(joined.starts_with("/root/folder"));
                let plain = |component| matches!(component, std::path::Component::Normal(_));
                prop_assert!(Path::new(path.as_str()).components().all(plain));
                prop_assert_eq!(path.folders().chain([path.name()]).collect::<Vec<_>>().join("/"), path.as_str());
            }
        }
    }
}
