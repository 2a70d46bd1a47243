//! What a program may see.

use std::path::PathBuf;

/// Which files a program sees, where the system can hide files. All paths are absolute and without symlinks.
#[derive(Debug, Clone, Default)]
pub struct Isolation {
    /// Folders that are hidden but for installed software in them and the following paths.
    pub hidden: Vec<PathBuf>,
    /// What may be read and executed.
    pub readable: Vec<PathBuf>,
    /// What may be read and written.
    pub writable: Vec<PathBuf>,
}
