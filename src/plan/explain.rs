//! Explains why a stage is stale.

use std::collections::HashMap;

use super::{Check, Fingerprint, FingerprintInput, Planner, StaleReason, reason};
use crate::digest::Digest;
use crate::graph::StageId;
use crate::lock::LockedStage;

impl Planner<'_> {
    /// Returns the reasons why a stage's key differs from the one in the lock.
    pub fn reasons(&self, id: StageId, check: &Check) -> Vec<StaleReason> {
        let stage = &self.graph.pipeline.stages[id.0 as usize];
        let Some(locked) = self.lock.stages.get(&stage.name) else {
            return vec![StaleReason::NeverBuilt];
        };
        self.reasons_since(locked, check)
    }

    /// Returns the reasons why a stage's key differs from the one in `locked`.
    pub fn reasons_since(&self, locked: &LockedStage, check: &Check) -> Vec<StaleReason> {
        if locked.key == check.key.hex() {
            return if check.result.is_none() { vec![StaleReason::ResultMissing] } else { Vec::new() };
        }
        let old = self.world.earlier_result(&locked.key);
        let old = old.and_then(|result| serde_json::from_value::<Fingerprint>(result.fingerprint).ok());
        match old {
            Some(old) => self.difference(&old, check),
            None => reason::difference_from_lock(locked, &check.locked_inputs()),
        }
    }

    /// Returns the differences between an earlier fingerprint and the current one.
    pub fn difference(&self, old: &Fingerprint, check: &Check) -> Vec<StaleReason> {
        // The current listings are not stored before the result is; until then they are taken from the check.
        let texts: HashMap<Digest, String> =
            check.texts().into_iter().map(|text| (Digest::of(text.as_bytes()), text)).collect();
        let read = |digest: &Digest| texts.get(digest).cloned().or_else(|| self.world.text(digest));
        let source_of = |input: &FingerprintInput| {
            let connected = check.inputs.iter().find(|(port, _)| port.name == input.port);
            let source = connected.and_then(|(_, inputs)| inputs.iter().find(|found| found.labels == input.labels));
            source.map(|found| found.source.clone()).unwrap_or_default()
        };
        reason::difference(&read, old, &check.fingerprint, &source_of)
    }
}
