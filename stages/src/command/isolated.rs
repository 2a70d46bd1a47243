//! The working folder of a program that sees only its declared inputs.

use std::fs;
use std::path::{Path, PathBuf};

use hamflow_process::Isolation;
use hamflow_stage_api::{Job, StageContext, StageError, sys};

use super::environment::Prepared;

/// Files of at most this size are copied to the working folder, so that programs find what is beside a file by its own path; of others
/// and of folders there is a symlink.
const MAX_COPIED: u64 = 64 << 20;

/// A working folder with the declared inputs, at their paths in the project.
pub(super) struct Isolated {
    folder: PathBuf,
    /// The job as the program sees it: its project is the working folder.
    job: Job,
    /// Paths in the project, and where they are in the working folder.
    laid_out: Vec<(PathBuf, PathBuf)>,
    isolation: Isolation,
}

impl Isolated {
    /// Plans the working folder of a job.
    pub fn of(prepared: &Prepared, context: &StageContext<'_>) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = context.scratch_dir().with_file_name("isolated");
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
        Self { folder, job, laid_out, isolation }
    }

    /// The job as the program sees it.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The working folder.
    pub fn folder(&self) -> &Path {
        &self.folder
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
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(error("empty", &self.folder))?;
        }
        fs::create_dir_all(&self.folder).map_err(error("create", &self.folder))?;
        for (source, target) in &self.laid_out {
            // A folder that is declared may hold a file that is, too.
            if target.exists() {
                continue;
            }
            let parent = target.parent().unwrap_or(&self.folder);
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
