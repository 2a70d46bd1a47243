//! Looks stages up and prepares the work of stale ones.

use std::collections::BTreeMap;

use hamflow_stage_api::{Access, Params, Part, Plan, Planning, StageError};
use serde_json::Value;

use super::Driver;
use super::work::{KnownPart, PartsWork, StageWork};
use crate::digest::Digest;
use crate::exec::commit::{is_assembled, part_files};
use crate::exec::event::{Cause, Found, Lookup, Prepared, PreparedPart};
use crate::exec::job;
use crate::graph::StageId;
use crate::lock::LockedStage;
use crate::plan::{Check, PartFingerprint, StaleReason, Verdict};
use crate::store::{ActionKey, ActionResult};

impl Driver<'_> {
    /// Computes the key of a stage and looks it up; returns `Lookup::Unhashed` if the stage has unhashed inputs.
    pub(super) fn look_up(&mut self, id: StageId) -> Result<Lookup, StageError> {
        match self.unhashed(id) {
            Some(unhashed) => Ok(unhashed),
            None => self.look_up_key(id),
        }
    }

    pub(super) fn look_up_key(&mut self, id: StageId) -> Result<Lookup, StageError> {
        let check = self.planner.check(id, &self.results)?;
        if check.foreign && self.seen.foreign.insert(check.key) {
            let message = "the cache has a result under its key with other outputs than the stage declares; \
                it is not used, and whoever wrote it (a bundle, a remote) should not be trusted";
            self.warn(Some(id), message.to_owned());
        }
        let options = self.setting.options;
        if options.locked {
            self.compare_with_lock(id, &check)?;
        }
        let forced = options.force && options.targets.contains(&id);
        // A forced stage is not compared with `out/`, unless an equal key was already executed.
        let verdict = match forced && !self.seen.executed.contains(&check.key) {
            true => Verdict::Stale(vec![StaleReason::Forced]),
            false => self.planner.verdict(id, &check)?,
        };
        let key = check.key;
        let (found, reasons) = match verdict {
            Verdict::Fresh => (Found::Fresh, Vec::new()),
            Verdict::Cached => (Found::Cached, self.planner.reasons(id, &check)),
            Verdict::Stale(reasons) => {
                let elsewhere = self.planner.elsewhere(id, &check).map(|other| other.key);
                (Found::Missing { elsewhere }, reasons)
            }
            Verdict::Pending(_) => return Err(StageError::bug("a ready stage cannot be pending")),
        };
        let mut work = StageWork::of(check, reasons);
        if found == Found::Fresh {
            work.result = work.check()?.result.clone().map(|(result, _)| result);
            self.agree_with_lock(id, &work)?;
        }
        self.stages.insert(id, work);
        Ok(Lookup::Keyed { key, found })
    }

    fn compare_with_lock(&self, id: StageId, check: &Check) -> Result<(), StageError> {
        let locked = self.planner.lock().stages.get(self.name(id));
        if locked.is_some_and(|locked| locked.key == check.key.hex()) {
            return Ok(());
        }
        let reasons: Vec<String> = self.planner.reasons(id, check).iter().map(ToString::to_string).collect();
        let message = format!("it differs from `pipeline.lock`: {}", reasons.join("; "));
        Err(StageError::input(message).hint("run without `--locked` and commit the new lock"))
    }

    /// With `--locked`, checks that a result is the one recorded in the lock.
    pub(super) fn agree_with_lock(&self, id: StageId, work: &StageWork) -> Result<(), StageError> {
        if !self.setting.options.locked {
            return Ok(());
        }
        let locked = self.locked(work)?;
        let expected = self.planner.lock().stages.get(self.name(id));
        let outputs = self.setting.graph.stage(id).outputs.iter();
        let measured: Vec<&str> = outputs.filter(|output| output.measured).map(|output| &output.name[..]).collect();
        if expected.is_some_and(|expected| expected.agrees_with(&locked, &measured)) {
            return Ok(());
        }
        let error = StageError::input("its outputs or inputs differ from `pipeline.lock`");
        Err(error.hint("run without `--locked` and commit the new lock"))
    }

    /// Returns the lock entry of a finished stage.
    pub(super) fn locked(&self, work: &StageWork) -> Result<LockedStage, StageError> {
        let check = work.check()?;
        let result = work.result.as_ref().ok_or_else(|| StageError::bug("a stage that is done has no result"))?;
        Ok(LockedStage {
            key: check.key.hex(),
            device: check.fingerprint.device.clone(),
            inputs: check.locked_inputs(),
            outputs: outputs_by_name(result),
            reads: check.fingerprint.reads.clone(),
        })
    }

    /// Splits the work of a stage and looks its parts up.
    pub(super) fn prepare(&mut self, id: StageId, cause: Cause) -> Result<Prepared, StageError> {
        let known =
            self.stages.remove(&id).ok_or_else(|| StageError::bug("a stage is prepared that was not looked up"))?;
        let reasons = match cause {
            Cause::Missing => known.reasons,
            Cause::Damaged => vec![StaleReason::ResultMissing],
            Cause::Forced => vec![StaleReason::Forced],
        };
        let check = known.check.ok_or_else(|| StageError::bug("a stage is prepared that has no key"))?;
        let check = self.planner.here(id, check)?;
        self.save_record_soon();
        let inputs = check.read_inputs(self.setting.store)?;
        let plan = self.planner.split(id, &check, &inputs)?;
        let mut work = StageWork::of(check, reasons);
        if let Plan::Parts(parts) = plan {
            work.is_split = true;
            work.parts = PartsWork::new(parts, &inputs);
        }
        work.inputs = inputs;
        self.take_parts_ahead(id, &mut work);
        if cause != Cause::Forced {
            self.find_parts(id, &mut work)?;
        }
        let prepared = work.prepared();
        self.stages.insert(id, work);
        Ok(prepared)
    }

    /// Adds the next round to the parts of a stage, all of which are built, and looks the new parts up.
    pub(super) fn extend(&mut self, id: StageId) -> Result<Vec<PreparedPart>, StageError> {
        let missing = || StageError::bug("a stage without work is extended");
        let mut work = self.stages.remove(&id).ok_or_else(missing)?;
        let extended = self.extend_work(id, &mut work);
        self.stages.insert(id, work);
        extended
    }

    fn extend_work(&self, id: StageId, work: &mut StageWork) -> Result<Vec<PreparedPart>, StageError> {
        let stage = self.setting.graph.stage(id);
        let before = work.parts.parts.len();
        let planning = Planning { inputs: &work.inputs, seed: stage.spec.seeded.then_some(stage.seed) };
        let parts = stage.kind.extend(&stage.params, planning, &self.part_outputs(work, id))?;
        work.parts.append(parts, &work.inputs);
        if !work.reasons.contains(&StaleReason::Forced) {
            self.find_parts(id, work)?;
        }
        Ok(work.prepared().parts.unwrap_or_default().split_off(before))
    }

    /// Records which parts of a stage are in the store; returns the keys of the others.
    pub(super) fn find_parts(&self, id: StageId, work: &mut StageWork) -> Result<Vec<ActionKey>, StageError> {
        let mut absent = Vec::new();
        for number in 0..work.parts.parts.len() {
            if work.parts.made[number].is_some() {
                continue;
            }
            let part = &work.parts.parts[number];
            let digests = job::known_digests(&job::part_inputs(&work.inputs, part)?, part)?;
            let (key, _) = self.part_key(id, work.device.clone(), part, digests);
            let made = work.parts.ahead.remove_entry(&key).or_else(|| self.known_part(id, key));
            if made.is_none() {
                absent.push(key);
            }
            work.parts.made[number] = made;
        }
        work.parts.cached = work.parts.made_count().saturating_sub(work.parts.ran);
        Ok(absent)
    }

    /// Returns a part from the cache. Its side files are checked now, because `merge` reads them without their digests.
    fn known_part(&self, id: StageId, key: ActionKey) -> Option<KnownPart> {
        let (store, outputs) = (self.setting.store, &self.setting.graph.stage(id).outputs);
        let files = part_files(store, &store.actions.get(&key)?)?;
        let mut side = files.iter().filter(|(path, _)| !is_assembled(outputs, path));
        let is_whole = side.all(|(_, digest)| store.content.check(digest));
        is_whole.then_some((key, files))
    }

    /// Returns the key and the fingerprint of a part whose files have these digests, by port.
    pub(super) fn part_key(
        &self,
        id: StageId,
        device: Option<String>,
        part: &Part,
        mut files: BTreeMap<String, Vec<Digest>>,
    ) -> (ActionKey, Value) {
        let stage = self.setting.graph.stage(id);
        // The part's own key has what it reads from views.
        let is_view = |name: &str| stage.spec.ports.iter().any(|port| port.name == name && port.access == Access::View);
        files.retain(|port, _| !is_view(port));
        let fingerprint = PartFingerprint {
            kind: stage.spec.name.to_owned(),
            revision: stage.spec.revision,
            params: if stage.kind.parts_key_parameters() { stage.keyed_params() } else { Params::new() },
            part: part.key.clone(),
            files,
            seed: stage.spec.seeded.then_some(stage.seed),
            device,
        };
        (fingerprint.key(), fingerprint.value())
    }

    /// Schedules saving the run record: from now on there is something to record, even if the run is killed.
    pub(super) fn save_record_soon(&mut self) {
        if !self.setting.is_rebuild() {
            self.report.journal.save_soon();
        }
    }
}

/// Returns the digests of a result's artifacts by name.
pub(super) fn outputs_by_name(result: &ActionResult) -> BTreeMap<String, Digest> {
    result.outputs.artifacts().iter().map(|output| (output.name.clone(), output.digest)).collect()
}
