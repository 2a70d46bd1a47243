//! Finds out whether the nodes have the cache and the same hamflow, before anything is submitted: by a small job, once for each partition
//! and version.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use hamflow_stage_api::{StageError, Symlinks, read_regular};

use super::remote::Awaited;
use super::setup::{Known, Setup, program};
use super::system::{BatchSystem, Meaning, NO_FOLDER, NO_PROGRAM, NO_REMOTE, Submission};
use super::tasks::{self, TaskEvent};
use crate::exec::executor::Placement;
use crate::fs;
use crate::sys;

/// The version of hamflow.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A probe, before or after it is submitted.
pub struct Probe {
    /// What it is about: version, program, folder and partition.
    subject: String,
    placement: Placement,
    name: String,
    folder: PathBuf,
    id: Option<String>,
    /// Since when the batch system has it no more.
    gone: Option<Instant>,
}

/// What a probe for a placement is about: the version and the place of hamflow, the partition and the transport.
pub fn subject_of(setup: &Setup, placement: &Placement) -> String {
    let partition = placement.requests.partition.as_ref().or(setup.options.partition.as_ref());
    let program = program().map(|path| path.display().to_string()).unwrap_or_default();
    let transport = if setup.remote.is_some() { "\tremote" } else { "" };
    format!("{VERSION}\t{program}\t{}{transport}", partition.map_or("", String::as_str))
}

/// What is known of the nodes.
pub enum Probed {
    /// Nothing yet.
    Waiting(Probe),
    /// They have what they need.
    Good,
    /// They do not.
    Bad(StageError),
}

impl Probe {
    /// A probe of where jobs with a placement run, with its number in the run.
    pub fn new(setup: &Setup, placement: &Placement, number: usize) -> Self {
        let name = format!("probe-{number}");
        Self {
            subject: subject_of(setup, placement),
            placement: placement.clone(),
            folder: setup.folder.join(&setup.run).join(&name),
            name,
            id: None,
            gone: None,
        }
    }

    /// Where its record is, if that is in a remote.
    pub fn awaited(&self, setup: &Setup) -> Option<Awaited> {
        let place = setup.remote.as_ref()?.below(&self.name);
        Some(Awaited { id: self.id.clone()?, place, folder: self.folder.clone(), task: 0 })
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its id in the batch system.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Takes note of what the batch system says.
    pub fn asked(&mut self, Known { ids, states }: &Known, system: &dyn BatchSystem) {
        let Some(id) = self.id.as_ref().filter(|id| ids.contains(*id)) else { return };
        let is_present = states.get(id).is_some_and(|state| system.meaning(state) == Meaning::Present);
        self.gone = if is_present { None } else { self.gone.or_else(|| Some(Instant::now())) };
    }

    /// Looks for its record, or submits it.
    pub fn check(mut self, setup: &Setup) -> Probed {
        let known = setup.folder.join("probed");
        let text = read_regular(&known, Symlinks::Refuse).unwrap_or_default();
        if String::from_utf8_lossy(&text).lines().any(|line| line == self.subject) {
            return Probed::Good;
        }
        let Some(id) = self.id.clone() else {
            return match self.submit(setup) {
                Ok(()) => Probed::Waiting(self),
                Err(error) => Probed::Bad(error),
            };
        };
        let began = tasks::read_events(&tasks::events_file(&self.folder, 0), &mut 0).into_iter();
        let mut theirs = began.filter_map(|event| match event {
            TaskEvent::Began { version, .. } => Some(version),
            _ => None,
        });
        match theirs.next_back() {
            Some(version) if version == VERSION => {
                let line = format!("{}\n", self.subject);
                let _ = sys::append_private(&known).and_then(|mut file| file.write_all(line.as_bytes()));
                Probed::Good
            }
            Some(version) => Probed::Bad(tasks::other_version(&version, VERSION)),
            None if self.gone.is_some_and(|gone| gone.elapsed() >= setup.options.record_wait) => {
                Probed::Bad(self.problem(setup, setup.system.exit_status(&id)))
            }
            None => Probed::Waiting(self),
        }
    }

    fn submit(&mut self, setup: &Setup) -> Result<(), StageError> {
        let failed = |source: &std::io::Error| StageError::io("write", &self.folder, source);
        fs::create_dir(&self.folder).map_err(|error| failed(&std::io::Error::other(error)))?;
        tasks::write(&self.folder, 0, std::iter::empty()).map_err(|source| failed(&source))?;
        let written = tasks::task_file(&self.folder, 0);
        fs::sync_files(std::iter::once(&*written)).map_err(|error| failed(&error.source))?;
        let remote = setup.remote.as_ref().map(|place| place.below(&self.name));
        if let Some(place) = &remote {
            setup.transport.send(place, &[&[]])?;
        }
        let submission = Submission {
            name: format!("hamflow-{}-{}", setup.run, self.name),
            threads: 1,
            placement: Placement { memory: None, ..self.placement.clone() },
            folder: self.folder.clone(),
            program: program()?,
            is_probe: true,
            avoided: Vec::new(),
            remote,
        };
        self.id = setup.system.submit(&submission, &[0])?.into_iter().next();
        Ok(())
    }

    /// Why there is no record.
    fn problem(&self, setup: &Setup, status: Option<i32>) -> StageError {
        let (folder, name) = (setup.folder.display(), &setup.name);
        let program = program().map(|path| path.display().to_string()).unwrap_or_default();
        let message = match status {
            Some(NO_FOLDER) => format!("a node of `{name}` does not see the cache: `{folder}` does not exist there"),
            Some(NO_PROGRAM) => format!("a node of `{name}` does not have hamflow at `{program}`"),
            Some(status) if status == i32::from(NO_REMOTE) => format!("a node of `{name}` cannot use the remote"),
            _ if setup.remote.is_some() => {
                let id = self.id.as_deref().unwrap_or_default();
                format!(
                    "a node of `{name}` has left no record in the remote: it may not reach it, or not have hamflow at `{program}` (job {id})"
                )
            }
            _ => {
                let id = self.id.as_deref().unwrap_or_default();
                format!(
                    "a node of `{name}` has left no record in `{folder}`: it may not see the cache, or not have hamflow at \
                     `{program}` (job {id})"
                )
            }
        };
        let hint = match setup.remote {
            None => {
                "project, cache and hamflow must be at the same paths on this machine and on the nodes; `[cache] dir` names another \
                 place, and `transport = \"remote\"` of the executor needs no common file system"
            }
            Some(_) => {
                "the nodes need hamflow at the same path, and the network and the variables to read and write the remote"
            }
        };
        StageError::input(message).hint(hint)
    }
}
