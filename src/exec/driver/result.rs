//! Stores stage results, restores cached results, and checks the inputs of failed stages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hamflow_stage_api::{ErrorCategory, ReadKind, StageError, UndeclaredRead};

use super::Driver;
use crate::exec::RunEvent;
use crate::exec::commit::{self, Finished};
use crate::exec::event::{JobId, SchedulerEvent};
use crate::fs::{self, disk_error};
use crate::graph::{Source, StageId};
use crate::out::{self, Restore, Restored};
use crate::store::{ActionResult, Files};

impl Driver<'_> {
    /// Stores the output of the last job of a stage and writes it to `out/`.
    pub(super) fn commit(&mut self, id: StageId, job: JobId) -> Result<(), StageError> {
        let ended = self.jobs.remove(&job).ok_or_else(|| StageError::bug("a result of no job"))?;
        let work = self.stages.get(&id).ok_or_else(|| StageError::bug("a result of a stage without work"))?;
        let check = work.check()?.clone();
        self.planner.check_unchanged(id, &check)?;
        let (check, new) = match self.setting.graph.stage(id).spec.observed {
            true => self.planner.with_reads(id, &check, ended.undeclared.as_deref())?,
            false => (check, Vec::new()),
        };
        let parts: Vec<_> = work.parts.made.iter().flatten().cloned().collect();
        let finished = Finished {
            key: &check.key,
            fingerprint: check.fingerprint.value(),
            outputs: &self.setting.graph.stage(id).outputs,
            folder: &ended.folder.join("output"),
            parts: &parts,
            texts: &check.texts(),
            flaws: &ended.flaws,
            cost_ms: work.busy.milliseconds(),
        };
        let result = Arc::new(commit::stage(self.setting.target, &finished)?);
        if !self.setting.is_rebuild() {
            self.sharing.upload(&result);
            let files = self.setting.store.files(&result);
            let files = files.ok_or_else(|| StageError::bug("a result that was just stored is incomplete"))?;
            if self.restore(id, &result, &files)? == Restored::Damaged {
                let message = "what was just stored cannot be read back from the cache".to_owned();
                return Err(StageError { category: ErrorCategory::Disk, message, place: None, hint: None });
            }
        }
        if !self.setting.is_rebuild() {
            self.tell_of_undeclared(id, ended.undeclared.as_deref().unwrap_or_default(), &new, ended.warns);
        }
        let work = self.stages.get_mut(&id).ok_or_else(|| StageError::bug("a result of a stage without work"))?;
        (work.result, work.is_committed) = (Some(result), true);
        work.check = Some(check);
        self.agree_with_lock(id, &self.stages[&id])?;
        fs::remove(&ended.folder).map_err(|error| disk_error(&error))
    }

    /// Says which files a program used without a declaration, if they were not known before or are to be warned of, and how to declare one.
    fn tell_of_undeclared(&mut self, id: StageId, reads: &[UndeclaredRead], new: &[String], warns: bool) {
        const SHOWN: usize = 3;
        let is_told = |read: &&UndeclaredRead| {
            let is_read = !read.was_absent && matches!(read.kind, ReadKind::Content | ReadKind::Names);
            is_read && !read.is_named && (warns || new.contains(&read.path))
        };
        let told: Vec<&str> = reads.iter().filter(is_told).map(|read| &read.path[..]).collect();
        let Some(first) = told.first() else { return };
        let more = if told.len() > SHOWN { format!(" and {} more", told.len() - SHOWN) } else { String::new() };
        let shown = told.iter().take(SHOWN).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        let (is, counts) = if told.len() == 1 { ("is", "counts as an input") } else { ("are", "count as inputs") };
        let message = format!(
            "the program reads {shown}{more}, which {is} not declared and {counts} from now on; to declare the first, write `x = \"{first}\"` \
             under `[inputs]` and `inputs = {{ x = \"inputs.x\" }}` in the stage"
        );
        if warns {
            self.warn(Some(id), message);
        } else {
            let stage = self.name(id).to_owned();
            (self.report.events)(RunEvent::Note { stage, message });
        }
    }

    /// Writes the cached result of a stage to `out/`; returns false if its bytes are damaged.
    pub(super) fn restore_cached(&mut self, id: StageId) -> Result<bool, StageError> {
        let work = self.stages.get(&id).ok_or_else(|| StageError::bug("a stage is restored that was not looked up"))?;
        let check = work.check()?.clone();
        let (result, files) = check.result.clone().ok_or_else(|| StageError::bug("a cached stage has no result"))?;
        let started = Instant::now();
        if self.restore(id, &result, &files)? == Restored::Damaged {
            return Ok(false);
        }
        self.tell_of_device(id, &check);
        if let Some(work) = self.stages.get_mut(&id) {
            work.busy.add(Instant::now(), started.elapsed());
            work.result = Some(result);
        }
        self.agree_with_lock(id, &self.stages[&id]).map(|()| true)
    }

    fn restore(&mut self, id: StageId, result: &ActionResult, files: &Files) -> Result<Restored, StageError> {
        let pipeline = &self.setting.graph.pipeline;
        let name = &self.setting.graph.stage(id).name;
        let folder = self.planner.out().of_stage(name);
        out::check(&pipeline.root, &folder)?;
        let same = self.planner.lock().stages.get(name).is_some_and(|locked| locked.key == result.key.hex());
        let differences = self.planner.compare_out(id, result, files)?;
        if let Some(first) = differences.other.first() {
            let message = match (differences.other.len(), same) {
                (1, true) => format!("restored 1 edited file in `out/{name}`: `{first}`"),
                (1, false) => format!("overwrote 1 file in `out/{name}` that is not in the cache: `{first}`"),
                (count, true) => format!("restored {count} edited files in `out/{name}`, such as `{first}`"),
                (count, false) => {
                    format!("overwrote {count} files in `out/{name}` that are not in the cache, such as `{first}`")
                }
            };
            self.warn(Some(id), message);
        }
        let copies = self.copies.take(id.index());
        let restore = Restore {
            store: self.setting.store,
            project: &pipeline.root,
            folder: &folder,
            expected: files,
            copies: &copies,
        };
        let restored = restore.run(&differences, pipeline.cache.link)?;
        if let Restored::Whole(Some((listed, when))) = &restored {
            self.planner.index().record_written(&folder, listed, *when, files);
        }
        Ok(restored)
    }

    /// Checks the blobs that a stage reads for damage.
    pub(super) fn inspect(&mut self, id: StageId) -> SchedulerEvent {
        let mut damaged = BTreeSet::new();
        let mut remade = false;
        let bindings = self.setting.graph.bindings(id);
        for source in bindings.iter().flat_map(|binding| &binding.sources) {
            let Source::Artifact { stage, .. } = source else { continue };
            // Another downstream stage may have detected the damage first.
            remade |= self.seen.remade.contains(stage);
            let Some(result) = self.results.get(stage) else { continue };
            let store = self.setting.store;
            // Read every blob, so that all damaged ones are dropped at once.
            let is_damaged = |files: Files| files.values().filter(|digest| !store.content.check(digest)).count() > 0;
            if store.files(result).is_none_or(is_damaged) && !self.setting.is_rebuild() {
                damaged.insert(*stage);
            }
        }
        SchedulerEvent::Inspected { stage: id, damaged: damaged.into_iter().collect(), remade }
    }
}
