//! The device class of a stage's result: that of this machine, or another one that the kind accepts.

use hamflow_stage_api::StageError;

use super::world::World;
use super::{Check, Planner};
use crate::config::Stage;
use crate::graph::StageId;

impl Planner<'_> {
    /// Returns the check of a stage for the device class in the lock. Returns `None` unless the kind accepts results of other devices and
    /// everything else matches the lock. A result committed from a better machine is then not rebuilt on one without that device.
    pub fn elsewhere(&self, id: StageId, check: &Check) -> Option<Check> {
        let stage = self.graph.stage(id);
        let locked = self.lock.stages.get(&stage.name)?;
        if locked.device == check.fingerprint.device {
            return None;
        }
        let other = check.on(&self.world, stage, locked.device.clone());
        (other.key.hex() == locked.key && stage.kind.accepts_other_devices(&stage.params)).then_some(other)
    }

    /// Returns the check of a stage for the device class of this machine, where it is to run.
    pub fn here(&self, id: StageId, check: Check) -> Result<Check, StageError> {
        let stage = self.graph.stage(id);
        let own = self.world.device_class(stage)?;
        Ok(if own == check.fingerprint.device { check } else { check.on(&self.world, stage, own) })
    }

    /// Describes the device that a stage's result was made on, if this machine would use another one.
    pub fn made_elsewhere(&self, id: StageId, check: &Check) -> Option<String> {
        let own = self.world.device_class(self.graph.stage(id)).ok().flatten();
        let device = &check.fingerprint.device;
        if own == *device {
            return None;
        }
        // What does not depend on the device was made without one.
        let device = device.as_deref().unwrap_or("cpu");
        let here = own.map_or("which this machine has not".to_owned(), |own| format!("this machine has `{own}`"));
        Some(format!("made on `{device}`, {here}"))
    }
}

impl Check {
    /// Returns the same check for another device class.
    fn on(&self, world: &World<'_>, stage: &Stage, device: Option<String>) -> Self {
        let mut other = self.clone();
        other.fingerprint.device = device;
        other.key = other.fingerprint.key();
        (other.result, other.foreign) = world.result(stage, &other.key);
        other
    }
}
