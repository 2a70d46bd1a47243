//! Trees: the sorted manifest of a directory.

use crate::digest::Digest;
use crate::fs::RelativePath;

const HEADER: &str = "hamflow-tree 1\n";

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path within the directory.
    pub path: RelativePath,
    /// The digest of the file.
    pub digest: Digest,
}

/// The files of a directory, sorted by path. Its digest is that of [`Tree::text`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<TreeEntry>,
}

/// A string that is not a valid tree manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a tree: `{line}`")]
pub struct TreeError {
    /// The invalid line.
    pub line: String,
}

impl Tree {
    /// Creates a tree from entries in any order. If a path occurs twice, the last entry wins.
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

    /// The manifest: a header, then one `hash:size <tab> path` per line.
    pub fn text(&self) -> String {
        Self::write(self.entries.iter().map(|entry| ("", &entry.path[..], entry.digest)))
    }

    /// Formats the manifest of files that are sorted by path, each path given in two pieces.
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

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Whether `text` starts like a manifest.
    pub fn is_tree(text: &str) -> bool {
        text.starts_with(HEADER)
    }

    /// Parses a manifest. Rejects paths outside of the directory.
    pub fn parse(text: &str) -> Result<Self, TreeError> {
        let error = |line: &str| TreeError { line: line.to_owned() };
        let body = text.strip_prefix(HEADER).ok_or_else(|| error(text.lines().next().unwrap_or_default()))?;
        let mut entries = Vec::new();
        // Not `lines()`: file names may end with a carriage return.
        for line in body.split_terminator('\n') {
            let (digest, path) = line.split_once('\t').ok_or_else(|| error(line))?;
            let path = RelativePath::new(path).map_err(|_| error(line))?;
            if !is_canonical(digest) {
                return Err(error(line));
            }
            entries.push(TreeEntry { path, digest: digest.parse().map_err(|_| error(line))? });
        }
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            return Err(error("entries are not sorted"));
        }
        if let Some(path) = file_below_file(&entries) {
            return Err(error(path));
        }
        Ok(Self { entries })
    }
}

/// Whether a digest is written as hamflow writes it, without uppercase letters, plus sign and leading zeros: a tree has only one manifest.
fn is_canonical(digest: &str) -> bool {
    let size = digest.split_once(':').map_or("", |(_, size)| size);
    let is_plain = !digest.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+');
    is_plain && (size == "0" || !size.starts_with('0'))
}

/// Finds a path whose parent is itself a file, in sorted entries.
fn file_below_file(entries: &[TreeEntry]) -> Option<&str> {
    // All paths that start with the same prefix are adjacent.
    let mut beginnings: Vec<&str> = Vec::new();
    for TreeEntry { path, .. } in entries {
        while beginnings.last().is_some_and(|beginning| !path.starts_with(beginning)) {
            beginnings.pop();
        }
        if beginnings.iter().any(|file| path.as_bytes()[file.len()] == b'/') {
            return Some(path);
        }
        beginnings.push(path);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let entry =
            |path: &&str| TreeEntry { path: RelativePath::new(*path).unwrap(), digest: Digest::of(path.as_bytes()) };
        Tree::new(paths.iter().map(entry).collect())
    }

    /// The manifest of paths that [`Tree`] itself would reject.
    fn text(paths: &[&str]) -> String {
        let line = |path: &&str| format!("{}\t{path}\n", Digest::of(path.as_bytes()));
        format!("{HEADER}{}", paths.iter().map(line).collect::<String>())
    }

    #[test]
    fn a_manifest_is_parsed_again() {
        let tree = tree(&["b", "a/ü x", "a.b", "a.b\r"]);
        assert_eq!(Tree::parse(&tree.text()).unwrap(), tree);
        assert_eq!(
            tree.entries().iter().map(|entry| &entry.path[..]).collect::<Vec<_>>(),
            ["a.b", "a.b\r", "a/ü x", "b"]
        );
    }

    #[test]
    fn paths_outside_of_the_directory_are_rejected() {
        for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\0"] {
            assert!(Tree::parse(&text(&[path])).is_err(), "{path}");
        }
        assert!(Tree::parse(&text(&["a"])).is_ok());
    }

    #[test]
    fn a_path_cannot_be_both_file_and_directory() {
        for paths in [&["a", "a/b"][..], &["a", "a.b", "a/b"], &["a/b", "a/b.c", "a/b/c/d"]] {
            assert!(Tree::parse(&text(paths)).is_err(), "{paths:?}");
        }
        assert!(Tree::parse(&text(&["a", "a.b", "a.b.c", "ab/c", "ab/d", "b"])).is_ok());
    }

    #[test]
    fn digests_have_only_one_spelling() {
        let hash = "0a".repeat(32);
        let manifest = |digest: String| format!("{HEADER}{digest}\ta\n");
        assert!(
            Tree::parse(&manifest(format!("{hash}:10"))).is_ok() && Tree::parse(&manifest(format!("{hash}:0"))).is_ok()
        );
        for digest in
            [format!("{hash}:010"), format!("{hash}:00"), format!("{hash}:+1"), format!("{}:1", hash.to_uppercase())]
        {
            assert!(Tree::parse(&manifest(digest.clone())).is_err(), "{digest}");
        }
    }

    proptest! {
        /// A string is either rejected or equal to the manifest of the parsed tree.
        #[test]
        fn parsing_never_panics_and_round_trips(lines in prop::collection::vec("(0{62}[0-9a-f]{2}:[0-9]{1,3}\t)?[ab./\\\0]{0,6}", 0..8)) {
            let text = format!("{HEADER}{}\n", lines.join("\n"));
            if let Ok(tree) = Tree::parse(&text) {
                prop_assert_eq!(tree.text().parse::<String>().unwrap(), text.replace("1\n\n", "1\n"));
            }
        }
    }
}
