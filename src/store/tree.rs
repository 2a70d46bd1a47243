//! The sorted manifest of a directory.

use std::fmt;

use crate::digest::Digest;

const HEADER: &str = "hamflow-tree 1\n";

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path below the folder, with `/`.
    pub path: String,
    /// The file's bytes.
    pub digest: Digest,
}

/// The files of a folder, sorted by path. Its digest is the digest of [`Tree::text`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<TreeEntry>,
}

/// Says why a text is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeError {
    /// The line at fault.
    pub line: String,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a tree: `{}`", self.line)
    }
}

impl std::error::Error for TreeError {}

impl Tree {
    /// Sorts the entries; of two with one path the last counts.
    pub fn new(mut entries: Vec<TreeEntry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.reverse();
        entries.dedup_by(|a, b| a.path == b.path);
        entries.reverse();
        Self { entries }
    }

    /// The files, sorted by path.
    pub fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    /// The manifest: a header, then `hash:size <tab> path` per line.
    pub fn text(&self) -> String {
        Self::write(self.entries.iter().map(|entry| ("", &entry.path[..], entry.digest)))
    }

    /// The manifest of files that come sorted by path, each path in two pieces.
    pub fn write<'a>(files: impl Iterator<Item = (&'a str, &'a str, Digest)>) -> String {
        let mut text = String::with_capacity(HEADER.len() + files.size_hint().0 * 96);
        text.push_str(HEADER);
        for (prefix, path, digest) in files {
            text.push_str(blake3::Hash::from_bytes(*digest.hash()).to_hex().as_str());
            text.push(':');
            text.push_str(&digest.size().to_string());
            text.push('\t');
            text.push_str(prefix);
            text.push_str(path);
            text.push('\n');
        }
        text
    }

    /// The digest that names the tree.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Whether a text begins as a manifest does.
    pub fn is_tree(text: &str) -> bool {
        text.starts_with(HEADER)
    }

    /// Reads a manifest; refuses paths that would leave the folder.
    pub fn parse(text: &str) -> Result<Self, TreeError> {
        let error = |line: &str| TreeError { line: line.to_owned() };
        let body = text.strip_prefix(HEADER).ok_or_else(|| error(text.lines().next().unwrap_or_default()))?;
        let mut entries = Vec::new();
        // Not `lines`: a name may end with a carriage return.
        for line in body.split_terminator('\n') {
            let (digest, path) = line.split_once('\t').ok_or_else(|| error(line))?;
            let inside =
                !path.is_empty() && path.split('/').all(|step| !step.is_empty() && step != "." && step != "..");
            if !inside {
                return Err(error(line));
            }
            entries.push(TreeEntry { path: path.to_owned(), digest: digest.parse().map_err(|_| error(line))? });
        }
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            return Err(error("entries are not sorted"));
        }
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        Tree::new(
            paths.iter().map(|path| TreeEntry { path: (*path).into(), digest: Digest::of(path.as_bytes()) }).collect(),
        )
    }

    #[test]
    fn a_tree_is_read_back_as_it_was_written() {
        let tree = tree(&["b", "a/ü x", "a.b", "a.b\r"]);
        assert_eq!(Tree::parse(&tree.text()).unwrap(), tree);
        assert_eq!(
            tree.entries().iter().map(|entry| &entry.path[..]).collect::<Vec<_>>(),
            ["a.b", "a.b\r", "a/ü x", "b"]
        );
    }

    #[test]
    fn a_path_that_leaves_the_folder_is_refused() {
        for path in ["../x", "/etc/passwd", "a/../../x", "a//b", ""] {
            assert!(Tree::parse(&tree(&[path]).text()).is_err(), "{path}");
        }
    }
}
