//! Runs one stage again from nothing, in a scratch place, and compares what it makes with what the store has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use hamflow_stage_api::{Inputs, JobEvent, JobPart, Part, PartOutput, Plan, StageError, Threads};

use super::commit::{self, Finished, FinishedPart, StagedPart, disk_error};
use super::job::{self, Places};
use super::scheduler::available_memory;
use super::secrets::Secrets;
use super::{Executor, Heard, RunEvent};
use crate::config::Stage;
use crate::digest::Digest;
use crate::fs::{self, RelativePath};
use crate::graph::StageId;
use crate::plan::{Check, Files, Planner, Results, expected_files};
use crate::store::{ActionKey, Store, StoreError};

/// Which stage is to run again.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// The stage.
    pub id: StageId,
    /// The results of all stages before it.
    pub results: &'a Results,
    /// How many threads all jobs together may use.
    pub threads: usize,
}

/// How a stage that ran again compares with its stored result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The number of files that were compared.
    pub files: usize,
    /// The bytes of the stored ones.
    pub bytes: u64,
    /// Milliseconds that it took now.
    pub wall_ms: u64,
    /// What differs, by path.
    pub differences: Vec<Difference>,
    /// Where the differing files of this time lie, if there are any.
    pub kept: Option<PathBuf>,
}

/// A file that did not come out the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Below the stage's output directory.
    pub path: RelativePath,
    /// The stored one; none where it is new.
    pub before: Option<Digest>,
    /// The one of this time; none where it was not made.
    pub after: Option<Digest>,
}

/// Runs a stage in a scratch store and compares; none where the user ended it. Checkpoints and stored parts are not
/// looked at. The lock, `out/` and the store stay as they are.
///
/// The caller holds the run lock. `heard` is the other end of the executor's channel.
pub fn rebuild(
    planner: &mut Planner<'_>,
    asked: Again<'_>,
    executor: &mut dyn Executor,
    heard: &Receiver<Heard>,
    events: &mut dyn FnMut(RunEvent),
) -> Result<Option<Rebuilt>, StageError> {
    let Again { id, results, threads } = asked;
    let started = Instant::now();
    let (graph, store) = (planner.graph(), planner.store());
    let stage = graph.stage(id);
    let check = planner.check(id, results)?;
    let Some((_, before)) = &check.result else {
        let error = StageError::input(format!("`{}` has no stored result to compare with", stage.name));
        return Err(error.hint(format!("`hamflow run {}` makes one", stage.name)));
    };
    if let Some(elsewhere) = planner.made_elsewhere(id, &check) {
        let error = StageError::input(format!("`{}` was {elsewhere}: the bytes would not be the same", stage.name));
        return Err(error.hint(format!("`hamflow run --force {}` makes it here", stage.name)));
    }
    let scratch = Scratch::new(store)?;
    let inputs = check.read_inputs(store)?;
    let plan = planner.split(id, &check, &inputs)?;
    let mut again = Work {
        stage,
        store,
        project: &graph.pipeline.root,
        scratch: &scratch,
        inputs,
        threads,
        executor,
        heard,
        events,
        secrets: Secrets::of(&graph.pipeline.stages),
        jobs: 0,
        is_split: matches!(plan, Plan::Parts(_)),
        interrupted: false,
    };
    let made = again.everything(plan);
    if again.interrupted {
        return Ok(None);
    }
    let (folder, parts) = made?;
    planner.check_unchanged(id, &check)?;
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let after = scratch.finish(stage, &check, &folder, &parts, wall_ms)?;
    let paths: BTreeSet<&RelativePath> = before.keys().chain(after.keys()).collect();
    let pairs = paths.iter().map(|path| ((*path).clone(), before.get(*path).copied(), after.get(*path).copied()));
    let differences: Vec<Difference> = pairs
        .filter(|(_, before, after)| before != after)
        .map(|(path, before, after)| Difference { path, before, after })
        .collect();
    let kept = if differences.is_empty() { None } else { Some(scratch.keep(store, stage, &differences)?) };
    let bytes = before.values().map(Digest::size).sum();
    Ok(Some(Rebuilt { files: paths.len(), bytes, wall_ms, differences, kept }))
}

/// Where a stage runs again; what a killed process left there is litter.
pub fn scratch_dir(store: &Store) -> PathBuf {
    store.root().join("rebuild")
}

/// A store beside the store, which is gone afterwards.
struct Scratch {
    store: Store,
}

impl Scratch {
    fn new(beside: &Store) -> Result<Self, StageError> {
        let root = scratch_dir(beside);
        fs::remove(&root).map_err(|error| disk_error(&error))?;
        let store = Store::open(&root).map_err(|error| StageError::bug(error.to_string()))?;
        store.create().map_err(|error| match error {
            StoreError::Fs(error) => disk_error(&error),
            other => StageError::bug(other.to_string()),
        })?;
        Ok(Self { store })
    }

    /// Stores what was made and returns its files.
    fn finish(
        &self,
        stage: &Stage,
        check: &Check,
        folder: &Path,
        parts: &[KnownPart],
        cost_ms: u64,
    ) -> Result<Files, StageError> {
        let finished = Finished {
            key: &check.key,
            fingerprint: check.fingerprint.value(),
            outputs: &stage.outputs,
            folder,
            parts,
            texts: &[],
            flaws: &[],
            cost_ms,
        };
        let result = commit::stage(&self.store, &finished)?;
        expected_files(&self.store, &result).ok_or_else(|| StageError::bug("what was just stored is not whole"))
    }

    /// Lays out the files that differ, for whoever wants to know how.
    fn keep(&self, beside: &Store, stage: &Stage, differences: &[Difference]) -> Result<PathBuf, StageError> {
        let folder = beside.root().join("rebuilt").join(&stage.name);
        fs::remove(&folder).map_err(|error| disk_error(&error))?;
        fs::create_dir(&folder).map_err(|error| disk_error(&error))?;
        for Difference { path, after, .. } in differences {
            if let Some(digest) = after {
                let copied = self.store.content.copy(digest, &folder.join(path));
                copied.map_err(|error| disk_error(&error))?;
            }
        }
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove(self.store.root());
    }
}

type KnownPart = (ActionKey, Files);

/// A stage that runs again.
struct Work<'a> {
    stage: &'a Stage,
    store: &'a Store,
    project: &'a Path,
    scratch: &'a Scratch,
    inputs: Inputs,
    threads: usize,
    executor: &'a mut dyn Executor,
    heard: &'a Receiver<Heard>,
    events: &'a mut dyn FnMut(RunEvent),
    secrets: Secrets,
    jobs: u64,
    is_split: bool,
    interrupted: bool,
}

impl Work<'_> {
    /// Runs all of the stage's work; returns where it, or its merge, wrote, and its parts.
    fn everything(&mut self, plan: Plan) -> Result<(PathBuf, Vec<KnownPart>), StageError> {
        let parts = match plan {
            Plan::Whole => None,
            Plan::Parts(parts) => Some(parts),
        };
        (self.events)(RunEvent::StageStarted {
            stage: self.stage.name.clone(),
            reasons: Vec::new(),
            parts: parts.as_ref().map_or(0, Vec::len),
            parts_cached: 0,
        });
        let Some(parts) = parts else {
            let job = self.submit(JobPart::Whole, self.inputs.clone())?;
            self.wait_for_one()?;
            return Ok((self.output(job), Vec::new()));
        };
        let made = self.parts(&parts)?;
        let outputs = parts.iter().zip(&made).map(|(part, (_, files))| self.part_output(part, files)).collect();
        let job = self.submit(JobPart::Merge { parts: outputs }, self.inputs.clone())?;
        self.wait_for_one()?;
        Ok((self.output(job), made))
    }

    /// Runs the parts, as many at the same time as there are threads for.
    fn parts(&mut self, parts: &[Part]) -> Result<Vec<KnownPart>, StageError> {
        let room = self
            .stage
            .memory
            .map_or(usize::MAX, |memory| usize::try_from(available_memory() / memory.max(1)).unwrap_or(usize::MAX));
        let at_once = if self.stage.spec.threads == Threads::All { 1 } else { self.threads.min(room).max(1) };
        let mut made: Vec<Option<KnownPart>> = vec![None; parts.len()];
        let mut running: BTreeMap<u64, usize> = BTreeMap::new();
        let mut waiting = 0..parts.len();
        loop {
            while running.len() < at_once
                && let Some(number) = waiting.next()
            {
                let Part { name, key, data, .. } = parts[number].clone();
                let inputs = job::part_inputs(&self.inputs, &parts[number])?;
                running.insert(self.submit(JobPart::Part { name, key, data }, inputs)?, number);
            }
            if running.is_empty() {
                break;
            }
            let finished = self.wait_for_one()?;
            let Some(number) = running.remove(&finished) else { continue };
            // The name is as good a key as any: nobody else looks here.
            let key = ActionKey::of(&parts[number].name);
            let (fingerprint, flaws, work) = (serde_json::Value::Null, Vec::new(), self.work(finished));
            let part = StagedPart::new(FinishedPart {
                job: finished,
                key,
                fingerprint,
                work,
                copies: None,
                flaws,
                cost_ms: 0,
            })?;
            commit::parts(&self.scratch.store, &[&part])?;
            made[number] = Some((key, part.files));
            let done = made.iter().flatten().count() as u64;
            (self.events)(RunEvent::Progress {
                stage: self.stage.name.clone(),
                done,
                total: parts.len() as u64,
                unit: "parts".to_owned(),
                message: String::new(),
            });
        }
        Ok(made.into_iter().flatten().collect())
    }

    fn part_output(&self, part: &Part, files: &Files) -> PartOutput {
        let (assembled, side): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| commit::is_assembled(&self.stage.outputs, path));
        let content = &self.scratch.store.content;
        PartOutput {
            name: part.name.clone(),
            side: side.into_iter().map(|(path, digest)| (path.to_string(), content.path(digest))).collect(),
            assembled: assembled.into_iter().map(|(path, digest)| (path.to_string(), digest.size())).collect(),
        }
    }

    fn work(&self, job: u64) -> PathBuf {
        job::work_dir(&self.scratch.store.tmp_dir(), job)
    }

    fn output(&self, job: u64) -> PathBuf {
        self.work(job).join("output")
    }

    fn submit(&mut self, part: JobPart, inputs: Inputs) -> Result<u64, StageError> {
        let number = self.jobs;
        self.jobs += 1;
        // A checkpoint of its own, and an empty one: the result must not hang on what was kept.
        let root = self.scratch.store.root();
        let checkpoint = root.join("checkpoint");
        let places = Places {
            store: self.store,
            tmp: &self.scratch.store.tmp_dir(),
            project: self.project,
            side: &root.join("side"),
            checkpoint: (!self.stage.spec.extendable.is_empty()).then_some(&*checkpoint),
        };
        let threads = if self.stage.spec.threads == Threads::All { self.threads } else { 1 };
        let job = job::make(number, self.stage, part, inputs, threads, &places)?;
        let refused = |error| StageError::failed(format!("no worker can be started: {error}"));
        self.executor.submit(&job).map_err(refused)?;
        Ok(number)
    }

    /// Waits until a job has ended well, and returns which.
    fn wait_for_one(&mut self) -> Result<u64, StageError> {
        loop {
            // The executor keeps a sender, so the channel cannot close.
            let heard = self.heard.recv().map_err(|_| StageError::bug("nobody speaks any more"))?;
            match heard {
                Heard::Interrupted => {
                    self.executor.stop();
                    self.interrupted = true;
                    return Err(StageError::failed("it was ended"));
                }
                Heard::Died { worker, last_words } => {
                    let job = self.executor.job_of(worker);
                    let how = self.executor.bury(worker);
                    if job.is_some() {
                        let words = self.secrets.hide(last_words);
                        return Err(StageError::failed(
                            format!("its worker died: {how}\n{words}").trim_end().to_owned(),
                        ));
                    }
                }
                Heard::Fetched { .. } | Heard::Committed { .. } => {}
                Heard::Event { worker, event } => {
                    let Some(job) = self.executor.job_of(worker) else { continue };
                    if let JobEvent::Finished(result) = event {
                        self.executor.done(worker);
                        return match result.error {
                            Some(error) => Err(self.secrets.hide_in_error(error)),
                            None => Ok(job),
                        };
                    }
                    self.say(event);
                }
            }
        }
    }

    fn say(&mut self, event: JobEvent) {
        let stage = self.stage.name.clone();
        match event {
            // Of a split stage the parts are what counts.
            JobEvent::Progress { done, total, unit, message } if !self.is_split => {
                let message = self.secrets.hide(message);
                (self.events)(RunEvent::Progress { stage, done, total, unit, message });
            }
            JobEvent::Warning { message } => {
                let message = self.secrets.hide(message);
                (self.events)(RunEvent::Warning { stage: Some(stage), message });
            }
            JobEvent::Progress { .. }
            | JobEvent::Note { .. }
            | JobEvent::Log { .. }
            | JobEvent::Flaw { .. }
            | JobEvent::Read { .. }
            | JobEvent::Finished(_) => {}
        }
    }
}

impl Rebuilt {
    /// Whether every byte came out as it is stored.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}
