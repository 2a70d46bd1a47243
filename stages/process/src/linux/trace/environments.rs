//! Folders of installed software and of caches, which are not data even if they are in the project.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Names of folders that tools make and keep up to date themselves.
const NAMES: [&str; 12] = [
    "__pycache__",
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".cache",
    "site-packages",
    "dist-packages",
];

/// Files and folders that mark a folder with installed software: a virtual environment of Python (PEP 405), one of conda.
const MARKERS: [&str; 2] = ["pyvenv.cfg", "conda-meta"];

/// Folders in the home directory in which installers put software.
const IN_HOME: [&str; 12] =
    [".local", ".pyenv", ".rustup", ".cargo", ".npm", ".nvm", ".conda", ".julia", ".rbenv", ".sdkman", "go", "R"];

/// Knows which folders have installed software.
pub struct Environments {
    roots: Vec<PathBuf>,
    home: Option<PathBuf>,
    known: HashMap<PathBuf, bool>,
}

impl Environments {
    /// Looks at folders below the roots.
    pub fn new(roots: &[PathBuf]) -> Self {
        let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
        Self { roots: roots.to_vec(), home, known: HashMap::new() }
    }

    /// Whether a path is in such a folder.
    pub fn contain(&mut self, path: &Path) -> bool {
        path.parent().is_some_and(|folder| self.is_inside(folder)) || self.is_one(path)
    }

    /// Whether a folder is already known to be in such a folder.
    pub fn know(&self, folder: &Path) -> bool {
        self.known.get(folder) == Some(&true)
    }

    fn is_inside(&mut self, folder: &Path) -> bool {
        if let Some(known) = self.known.get(folder) {
            return *known;
        }
        let is_root = self.roots.iter().any(|root| root == folder);
        let found = self.is_one(folder) || (!is_root && folder.parent().is_some_and(|parent| self.is_inside(parent)));
        self.known.insert(folder.to_owned(), found);
        found
    }

    /// Whether a folder is one of installed software or a cache.
    pub fn is_one(&self, folder: &Path) -> bool {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return false };
        let is_in_home = || self.home.as_deref().is_some_and(|home| folder.parent() == Some(home));
        NAMES.contains(&name)
            || (IN_HOME.contains(&name) && is_in_home())
            || MARKERS.iter().any(|marker| folder.join(marker).exists())
    }
}
