//! The working folder of a program that sees only its declared inputs.
//!
//! It is outside of the project, so that tools which look for a file in all folders above do not find those of the project.

use std::fs;
use std::path::{Path, PathBuf};

use hamflow_process::Isolation;
use hamflow_stage_api::{Job, StageContext, StageError, sys};
use tempfile::TempDir;

use super::environment::Prepared;

/// Files of at most this size are copied to the working folder, so that programs find what is beside a file by its own path; of others
/// and of folders there is a symlink.
const MAX_COPIED: u64 = 64 << 20;

/// The beginning of the names of working folders; the process follows.
const PREFIX: &str = "hamflow-isolated-";

/// Removes the working folders of workers that were killed.
fn remove_abandoned() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !sys::is_running(process)) {
            // Those of other users cannot be removed.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A working folder with the declared inputs, at their paths in the project.
pub(super) struct Isolated {
    /// Removed when this is dropped.
    folder: TempDir,
    /// The job as the program sees it: its project is the working folder.
    job: Job,
    /// Paths in the project, and where they are in the working folder.
    laid_out: Vec<(PathBuf, PathBuf)>,
    isolation: Isolation,
}

impl Isolated {
    /// Plans the working folder of a job.
    pub fn of(prepared: &Prepared, context: &StageContext<'_>) -> Result<Self, StageError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        remove_abandoned();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let created = tempfile::Builder::new().prefix(&prefix).tempdir();
        let created = created.map_err(|source| StageError::io("create", &std::env::temp_dir(), &source))?;
        let folder = real(created.path());
        let mut job = context.job().clone();
        let project = std::mem::replace(&mut job.project_dir, folder.clone());
        let mut laid_out = Vec::new();
        let mut readable = Vec::new();
        let mut place = |path: &mut PathBuf| {
            readable.push(real(path));
            if let Ok(below) = path.strip_prefix(&project)
                && !path.starts_with(context.scratch_dir().parent().unwrap_or(&project))
            {
                let target = folder.join(below);
                laid_out.push((std::mem::replace(path, target.clone()), target));
            }
        };
        for input in job.inputs.0.values_mut().flatten() {
            match &mut input.path {
                Some(path) => place(path),
                None => input.files.iter_mut().for_each(|file| place(&mut file.source)),
            }
        }
        job.params_file.iter_mut().for_each(place);
        readable.extend(prepared.software.iter().map(|path| real(path)));
        let home = std::env::home_dir().map(|home| real(&home)).filter(|home| home.parent().is_some());
        let hidden = [real(&project)].into_iter().chain(home).collect();
        let writable = [&folder, &job.scratch_dir, &job.output_dir].map(|path| real(path)).to_vec();
        let isolation = Isolation { hidden, readable, writable };
        Ok(Self { folder: created, job, laid_out, isolation })
    }

    /// The job as the program sees it.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is hidden.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Makes the working folder anew.
    pub fn lay_out(&self) -> Result<(), StageError> {
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| StageError::io(action, &path, &source)
        };
        let folder = self.folder.path();
        for entry in fs::read_dir(folder).map_err(error("empty", folder))?.flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(error("remove", &path))?;
        }
        for (source, target) in &self.laid_out {
            // A folder that is declared may hold a file that is, too.
            if target.exists() {
                continue;
            }
            let parent = target.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(error("create", parent))?;
            let metadata = fs::metadata(source).map_err(error("read", source))?;
            match metadata.is_file() && metadata.len() <= MAX_COPIED {
                true => fs::copy(source, target).map(|_| ()).map_err(error("copy", source))?,
                false => sys::symlink(source, target).map_err(error("link", target))?,
            }
        }
        Ok(())
    }
}
