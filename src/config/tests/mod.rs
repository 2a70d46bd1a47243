//! Valid pipelines and the messages for invalid ones.

mod expansion;
mod messages;
pub(crate) mod toy;

use std::fs;

use tempfile::TempDir;

use super::{Overrides, Pipeline, load};

/// A project folder with a `pipeline.toml`.
pub(crate) struct Project {
    pub(crate) folder: TempDir,
}

impl Project {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pipeline.toml"), text).unwrap();
        Self { folder }
    }

    pub(crate) fn load(&self, overrides: &Overrides) -> Result<Pipeline, String> {
        let path = self.folder.path().join("pipeline.toml");
        load(&path, toy::KINDS, overrides).map_err(|diagnostics| {
            let shown: Vec<String> = diagnostics.iter().map(|diagnostic| diagnostic.render()).collect();
            shown.join("\n\n").replace(&path.display().to_string(), "pipeline.toml")
        })
    }
}

/// What `--profile` and `--set` would say.
pub(crate) fn overrides(profile: Option<&str>, set: &[&str]) -> Overrides {
    Overrides { profile: profile.map(str::to_owned), set: set.iter().map(|&text| text.to_owned()).collect() }
}

/// Loads a pipeline that is right.
pub(crate) fn loaded(text: &str) -> Pipeline {
    Project::new(text).load(&Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The messages for a pipeline that is wrong.
pub(crate) fn refused(text: &str) -> String {
    Project::new(text).load(&Overrides::default()).err().expect("the pipeline is wrong")
}
