//! What happens when all jobs of a stage are done: its result is stored and laid out.

use std::path::Path;
use std::sync::Arc;

use hamflow_stage_api::{ErrorCategory, StageError};

use super::{Scheduler, milliseconds};
use crate::exec::RunEvent;
use crate::exec::commit::{self, Finished, disk_error};
use crate::exec::materialise::{Laying, Materialised, check_out_dir};
use crate::exec::record::Outcome;
use crate::fs;
use crate::graph::StageId;
use crate::plan::{Check, Files, expected_files, laid_out_by};
use crate::store::ActionResult;

impl Scheduler<'_> {
    /// All jobs of a stage are done: stores its result and lays it out.
    pub(super) fn complete(&mut self, id: StageId, output: &Path, flaws: &[String]) -> Result<(), StageError> {
        let Some(active) = self.active.get(&id) else { return Ok(()) };
        let check = active.check()?.clone();
        self.planner.check_unchanged(id, &check)?;
        let parts: Vec<_> = active.made.iter().flatten().cloned().collect();
        let stage = &self.graph.pipeline.stages[id.index()];
        let result = commit::stage(
            self.store,
            &Finished {
                key: &check.key,
                fingerprint: check.fingerprint.value(),
                outputs: &stage.outputs,
                folder: output,
                parts: &parts,
                texts: &check.texts(),
                flaws,
                cost_ms: milliseconds(active.started),
            },
        )?;
        if let Some(uploads) = &self.uploads {
            uploads.add(&result);
        }
        let active = self.active.remove(&id).expect("it was there a moment ago");
        let files = expected_files(self.store, &result)
            .ok_or_else(|| StageError::bug("a result that was just stored is not whole"))?;
        let result = Arc::new(result);
        if self.lay_out(id, &check, &result, &files)? == Materialised::Damaged {
            let message = "what was just stored cannot be read back from the cache".to_owned();
            return Err(StageError { category: ErrorCategory::Disk, message, place: None, hint: None });
        }
        let only_merged = !active.parts.is_empty() && active.ran == 0;
        let outcome = if only_merged { Outcome::Cached } else { Outcome::Ran };
        let reasons = active.reasons.clone();
        self.finish(id, &check, result, outcome, reasons, Some(&active));
        Ok(())
    }

    /// How the record of what lies in `out/` calls this run's lock.
    pub(super) fn lock_name(&self) -> String {
        let (own, cache) = (&self.options.lock_path, self.store.root());
        own.strip_prefix(cache).unwrap_or_else(|_| Path::new(own.file_name().unwrap_or_default())).display().to_string()
    }

    /// Removes from `out/` what stages made that the pipeline no longer has, unless somebody changed it.
    pub(super) fn clear_dropped(&mut self) -> Result<(), StageError> {
        let lock = self.lock_name();
        let graph = self.graph;
        for (name, key) in self.planner.laid().take_dropped(&lock, |name| graph.find(name).is_some()) {
            let folder = self.graph.pipeline.root.join("out").join(&name);
            // What is no folder any more, or lies behind a symlink, is somebody's.
            if !folder.is_dir() || check_out_dir(&self.graph.pipeline.root, &folder).is_err() {
                continue;
            }
            let files = laid_out_by(self.store, &key);
            let found = self.planner.index().usual_folder(&folder, 1).map_err(|error| disk_error(&error))?;
            for known in found.iter().filter(|known| files.get(known.path.as_str()) == Some(&known.digest)) {
                let path = folder.join(&known.path);
                fs::remove(&path).map_err(|error| disk_error(&error))?;
                // Folders that are empty then go too.
                for parent in path.ancestors().skip(1).take_while(|parent| parent.starts_with(&folder)) {
                    if std::fs::remove_dir(parent).is_err() {
                        break;
                    }
                }
            }
            self.planner.index().forget(&folder);
        }
        Ok(())
    }

    pub(super) fn lay_out(
        &mut self,
        id: StageId,
        check: &Check,
        result: &ActionResult,
        files: &Files,
    ) -> Result<Materialised, StageError> {
        let stage = &self.graph.pipeline.stages[id.index()];
        let folder = self.planner.out_dir(stage);
        check_out_dir(&self.graph.pipeline.root, &folder)?;
        let same = self.planner.lock().stages.get(&stage.name).is_some_and(|locked| locked.key == check.key.hex());
        let differences = self.planner.compare_out(id, check.key, result, files)?;
        if let Some(first) = differences.other.first() {
            let (count, name) = (differences.other.len(), &stage.name);
            let message = match same {
                true => format!("{count} edited file(s) in `out/{name}` restored, such as `{first}`"),
                false => {
                    format!("{count} file(s) in `out/{name}` made way that the cache does not have, such as `{first}`")
                }
            };
            (self.events)(RunEvent::Warning { stage: Some(stage.name.clone()), message });
        }
        let copies = self.copies.take(id);
        let laid = Laying {
            store: self.store,
            project: &self.graph.pipeline.root,
            folder: &folder,
            expected: files,
            copies: &copies,
        };
        let laid = laid.materialise(&differences, self.graph.pipeline.cache.link)?;
        if let Materialised::Whole(Some((listed, when))) = &laid {
            self.planner.index().record_written(&folder, listed, *when, files);
        }
        Ok(laid)
    }
}
