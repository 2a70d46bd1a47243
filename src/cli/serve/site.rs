//! What the site knows: the project, its cache and its runs.

use std::collections::BTreeMap;

use super::runs::RunIndex;
use crate::cli::project::{self, Project};
use crate::cli::{CliError, Common};
use crate::config::Kinds;
use crate::digest::Digest;
use crate::fs::{self, Symlinks};
use crate::store::Store;

/// The project whose runs are shown.
pub struct Site {
    common: Common,
    kinds: Kinds,
    /// The cache.
    pub store: Store,
    /// The records of the runs.
    pub runs: RunIndex,
    projects: Projects,
}

/// The projects of one state of the pipeline file.
#[derive(Default)]
struct Projects {
    /// The digest of the file.
    file: Option<Digest>,
    /// The projects by the profile of their runs; the error is one for the user.
    by_profile: BTreeMap<Option<String>, Result<Project, String>>,
}

impl Site {
    /// The site of the pipeline that `common` selects. The pipeline may have errors: the page shows them.
    pub fn new(common: Common, kinds: Kinds) -> Result<Self, CliError> {
        let store = match project::open(&common, kinds) {
            Ok(opened) => opened.store,
            Err(error) if !project::pipeline_file(&common).exists() => return Err(error),
            Err(_) => project::store_of(&common)?,
        };
        let runs = RunIndex::new(&store);
        Ok(Self { common, kinds, store, runs, projects: Projects::default() })
    }

    /// The project that the command line selects.
    pub fn selected(&mut self) -> Result<&Project, String> {
        let profile = self.common.profile.clone();
        self.project(profile.as_deref())
    }

    /// The project with the profile of a run, or without one, read again whenever the pipeline file has changed. The error is one for the
    /// user.
    pub fn project(&mut self, profile: Option<&str>) -> Result<&Project, String> {
        let text = fs::read_text(&project::pipeline_file(&self.common), Symlinks::Follow).unwrap_or_default();
        let digest = Some(Digest::of(text.as_bytes()));
        if self.projects.file != digest {
            self.projects = Projects { file: digest, ..Projects::default() };
        }
        let (common, kinds) = (&self.common, self.kinds);
        let profile = profile.map(str::to_owned);
        let opened = self.projects.by_profile.entry(profile).or_insert_with_key(|profile| {
            let common = Common { profile: profile.clone(), ..common.clone() };
            project::open(&common, kinds).map_err(|error| error.to_string())
        });
        opened.as_ref().map_err(Clone::clone)
    }
}
