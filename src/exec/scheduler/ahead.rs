//! Parts that are made ahead of their keys, because nobody has hashed what they read.

use std::collections::BTreeMap;

use hamflow_stage_api::{Digest, Inputs, Part, Plan, StageError};
use serde_json::Value;

use super::{Active, Running, Scheduler, State};
use crate::exec::job;
use crate::graph::StageId;
use crate::lock::LockedStage;
use crate::plan::StaleReason;
use crate::store::ActionKey;

impl Scheduler<'_> {
    /// Starts a stage whose inputs nobody has hashed, where its parts can do that; true if it is started, or waits for another that
    /// reads the same.
    pub(super) fn begin_ahead(&mut self, id: StageId) -> Result<bool, StageError> {
        // What was made ahead waits for nothing more than its key.
        if self.ahead.contains_key(&id) {
            return Ok(false);
        }
        let unread = self.planner.unread(id);
        if unread.is_empty() {
            return Ok(false);
        }
        let stage = self.graph.stage(id);
        let read_now = |other: StageId| {
            let of = self.graph.stage(other);
            let alike =
                (of.spec.name, of.spec.revision, &of.params) == (stage.spec.name, stage.spec.revision, &stage.params);
            alike || self.planner.unread(other).iter().any(|input| unread.contains(input))
        };
        if self.active.iter().any(|(other, active)| active.check.is_none() && read_now(*other)) {
            self.twins.insert(self.rank[id.index()]);
            return Ok(true);
        }
        let plan = self.planner.plan_ahead(id, &self.results)?;
        let Some((inputs, Plan::Parts(parts))) = plan else { return Ok(false) };
        if parts.is_empty() {
            return Ok(false);
        }
        // That its result is not there is known; whether it would also have changed is not.
        let locked = self.planner.lock().stages.contains_key(self.name(id));
        let reason = if locked { StaleReason::ResultMissing } else { StaleReason::NeverBuilt };
        let device = self.planner.device(id)?;
        self.journal.save_soon();
        self.launch(id, Active { device, ..Active::new(vec![reason], inputs, parts) });
        Ok(true)
    }

    /// The key of a part that was made: the one that it was made under, or that of what it has read.
    pub(super) fn key_of_made(&mut self, running: &mut Running) -> Result<(ActionKey, Value), StageError> {
        if let Some(key) = running.part.take() {
            return Ok(key);
        }
        let id = running.stage;
        let (part, inputs, device) =
            running.ahead.take().ok_or_else(|| StageError::bug("a part has neither a key nor files"))?;
        let read = whole_reading(&job::digests(&inputs, &part), std::mem::take(&mut running.read), &part)?;
        let key = self.part_key(id, device, &part, read.clone());
        for (port, digests) in read {
            for (file, digest) in inputs.one(&port)?.files.iter().zip(digests) {
                self.planner.learn(id, &port, file, digest);
            }
        }
        Ok(key)
    }

    /// All parts of a stage are made ahead of its key, which can now be made: its inputs are read.
    pub(super) fn end_ahead(&mut self, id: StageId) {
        let Some(active) = self.active.remove(&id) else { return };
        // Of a million files the listing is large, and is about to be made again.
        self.ahead.insert(id, Active { inputs: Inputs::default(), parts: Vec::new(), ..active });
        self.states[id.index()] = State::Waiting;
        self.candidates.insert(self.rank[id.index()]);
        self.candidates.append(&mut self.twins);
    }

    /// Gives a stage that has its key what was made ahead of it.
    pub(super) fn go_on(&mut self, id: StageId, active: &mut Active) {
        let Some(before) = self.ahead.remove(&id) else { return };
        let Active { made, ran, ran_amount, started, peak_memory, .. } = before;
        active.ahead = made.into_iter().flatten().collect();
        (active.ran, active.ran_amount) = (ran, ran_amount);
        (active.started, active.peak_memory) = (started, peak_memory);
    }

    /// Says in the lock what those stages read that were done before somebody had read all of it. Where nobody has, because the run
    /// was ended or failed, the lock knows no more of them than before: nobody shall wait for that alone.
    pub(super) fn complete_lock(&mut self) {
        for (id, check) in std::mem::take(&mut self.unlocked) {
            let name = self.name(id);
            match (self.planner.read_at_last(id, &check), self.lock_before.stages.get(name)) {
                (Some(lines), _) => {
                    if let Some(locked) = self.lock.stages.get_mut(name) {
                        locked.inputs.extend(lines);
                    }
                }
                (None, Some(before)) => drop(self.lock.stages.insert(name.to_owned(), LockedStage::clone(before))),
                (None, None) => drop(self.lock.stages.remove(name)),
            }
        }
    }
}

/// What a part has read, by the ports that it was to read; it must be all of their files.
fn whole_reading(
    listed: &BTreeMap<String, Vec<Digest>>,
    mut read: BTreeMap<String, Vec<Digest>>,
    part: &Part,
) -> Result<BTreeMap<String, Vec<Digest>>, StageError> {
    let whole = |(port, listed): (&String, &Vec<Digest>)| {
        let read = if listed.iter().any(Digest::is_unread) { read.remove(port) } else { Some(listed.clone()) };
        let read = read.filter(|read| read.len() == listed.len() && !read.iter().any(Digest::is_unread));
        let silent = || StageError::bug(format!("part `{}` did not say what it read at `{port}`", part.name));
        Ok((port.clone(), read.ok_or_else(silent)?))
    };
    listed.iter().map(whole).collect()
}
