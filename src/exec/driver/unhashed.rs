//! Stages with unhashed inputs: their parts run before the keys are known, and report what they read.
//!
//! `src/plan/unhashed.rs` decides which inputs may stay unhashed.

use std::collections::BTreeMap;

use hamflow_stage_api::{Digest, FileDigest, Inputs, Part, Plan, StageError};
use serde_json::Value;

use super::work::{PartsWork, StageWork};
use super::{Driver, SchedulerEvent};
use crate::exec::event::{Lookup, Prepared};
use crate::exec::job;
use crate::graph::StageId;
use crate::lock::LockedStage;
use crate::plan::{StaleReason, canonical};
use crate::store::ActionKey;

impl Driver<'_> {
    /// The lookup of a stage with unhashed inputs; `None` if its key can be computed.
    pub(super) fn unhashed(&self, id: StageId) -> Option<Lookup> {
        // If the parts were built before the key was known, only the key itself is missing.
        let inputs = if self.ahead.contains_key(&id) { Vec::new() } else { self.planner.unhashed(id) };
        if inputs.is_empty() {
            return None;
        }
        let stage = self.setting.graph.stage(id);
        let (kind, revision, params) = (stage.spec.name, stage.spec.revision, Value::Object(stage.keyed_params()));
        let recipe = blake3::hash(format!("{kind} {revision} {}", canonical(&params)).as_bytes());
        let recipe = u64::from_le_bytes(*recipe.as_bytes().first_chunk().expect("a hash has 32 bytes"));
        Some(Lookup::Unhashed { inputs, recipe })
    }

    /// Splits the work of a stage whose key is unknown, if its parts can run anyway; otherwise looks the key up.
    pub(super) fn prepare_unhashed(&mut self, id: StageId) -> SchedulerEvent {
        match self.prepare_parts_unhashed(id) {
            Ok(Some(prepared)) => SchedulerEvent::Prepared(id, Ok(prepared)),
            Ok(None) => SchedulerEvent::LookedUp(id, self.look_up_key(id)),
            Err(error) => SchedulerEvent::LookedUp(id, Err(error)),
        }
    }

    fn prepare_parts_unhashed(&mut self, id: StageId) -> Result<Option<Prepared>, StageError> {
        let plan = self.planner.plan_unhashed(id, &self.results)?;
        let Some((inputs, Plan::Parts(parts))) = plan else { return Ok(None) };
        if parts.is_empty() {
            return Ok(None);
        }
        // The result is known to be missing; whether the stage has also changed is unknown.
        let locked = self.planner.lock().stages.contains_key(self.name(id));
        let reason = if locked { StaleReason::ResultMissing } else { StaleReason::NeverBuilt };
        let device = self.planner.device(id)?;
        self.save_record_soon();
        let parts = PartsWork::new(parts, &inputs);
        let work = StageWork { device, inputs, parts, is_split: true, ..StageWork::new(vec![reason]) };
        let prepared = work.prepared();
        self.stages.insert(id, work);
        Ok(Some(prepared))
    }

    /// Returns the key of a part, computed from what it read. The digests are passed to the planner.
    pub(super) fn key_of_reading(
        &mut self,
        id: StageId,
        read: BTreeMap<String, Vec<Digest>>,
        (part, inputs, device): (Part, Inputs, Option<String>),
    ) -> Result<(ActionKey, Value), StageError> {
        let read = everything_read(&job::digests(&inputs, &part), read, &part)?;
        let key = self.part_key(id, device, &part, read.clone());
        for (port, digests) in read {
            for (file, digest) in inputs.one(&port)?.files.iter().zip(digests) {
                self.planner.learn(id, &port, file, digest);
            }
        }
        Ok(key)
    }

    /// Keeps the parts of a stage, which are all built, until its key is known.
    pub(super) fn keep_parts_ahead(&mut self, id: StageId) {
        let Some(mut work) = self.stages.remove(&id) else { return };
        // Free the file listing: it is large for a million files and is about to be computed again.
        work.inputs = Inputs::default();
        work.parts.parts = Vec::new();
        self.ahead.insert(id, work);
    }

    /// Adds the parts that were built before the key was known.
    pub(super) fn take_parts_ahead(&mut self, id: StageId, work: &mut StageWork) {
        let Some(StageWork { parts, busy, peak_memory, .. }) = self.ahead.remove(&id) else { return };
        work.parts.ahead = parts.made.into_iter().flatten().collect();
        (work.parts.ran, work.parts.ran_amount) = (parts.ran, parts.ran_amount);
        (work.busy, work.peak_memory) = (busy, peak_memory);
    }

    /// Adds the input digests of stages that finished before all of their inputs were hashed to the lock. If an input is still unhashed
    /// because the run was interrupted or failed, the previous lock entry is kept instead: hashing only for the lock would delay the end of
    /// the run.
    pub fn complete_lock(&mut self) {
        for (id, check) in std::mem::take(&mut self.locks.unhashed) {
            let name = &self.setting.graph.stage(id).name;
            let (before, stages) = (&self.locks.before, &mut self.locks.now.stages);
            match (self.planner.read_at_last(id, &check), before.stages.get(name)) {
                (Some(lines), _) => {
                    if let Some(locked) = stages.get_mut(name) {
                        locked.inputs.extend(lines);
                    }
                }
                (None, Some(before)) => drop(stages.insert(name.clone(), LockedStage::clone(before))),
                (None, None) => drop(stages.remove(name)),
            }
        }
    }
}

/// Returns the digests of what a part has read, by port. They must cover all files of these ports.
fn everything_read(
    listed: &BTreeMap<String, Vec<FileDigest>>,
    mut read: BTreeMap<String, Vec<Digest>>,
    part: &Part,
) -> Result<BTreeMap<String, Vec<Digest>>, StageError> {
    let whole = |(port, listed): (&String, &Vec<FileDigest>)| {
        let known: Option<Vec<Digest>> = listed.iter().map(|digest| digest.known()).collect();
        let read = known.or_else(|| read.remove(port)).filter(|read| read.len() == listed.len());
        let silent = || StageError::bug(format!("part `{}` did not report what it read at `{port}`", part.name));
        Ok((port.clone(), read.ok_or_else(silent)?))
    };
    listed.iter().map(whole).collect()
}
