//! Which class of device a stage's numbers are of: this machine's, or that of a result that will do as well.

use hamflow_stage_api::StageError;

use super::world::World;
use super::{Check, Planner};
use crate::config::Stage;
use crate::graph::StageId;

impl Planner<'_> {
    /// The look at a stage with the class of device that the lock names, where its kind takes results of others and everything
    /// else is as the lock says: what a machine with a better device made and committed needs not be made again by one without.
    pub fn elsewhere(&self, id: StageId, check: &Check) -> Option<Check> {
        let stage = self.graph.stage(id);
        let locked = self.lock.stages.get(&stage.name)?;
        let device = locked.device.as_ref().filter(|device| check.fingerprint.device.as_ref() != Some(*device))?;
        let other = check.on(&self.world, stage, Some(device.clone()));
        (other.key.hex() == locked.key && stage.kind.accepts_other_devices(&stage.params)).then_some(other)
    }

    /// The look at a stage that is to be made on this machine, which may have another class of device.
    pub fn here(&self, id: StageId, check: Check) -> Result<Check, StageError> {
        let stage = self.graph.stage(id);
        let own = self.world.device_class(stage)?;
        Ok(if own == check.fingerprint.device { check } else { check.on(&self.world, stage, own) })
    }

    /// On what a stage's result was made, in words, if that is not what this machine would make it on.
    pub fn made_elsewhere(&self, id: StageId, check: &Check) -> Option<String> {
        let own = self.world.device_class(self.graph.stage(id)).ok().flatten();
        let device = check.fingerprint.device.as_ref().filter(|device| own.as_ref() != Some(*device))?;
        let here = own.map_or("which this machine has not".to_owned(), |own| format!("this machine has `{own}`"));
        Some(format!("made on `{device}`, {here}"))
    }
}

impl Check {
    /// The same look with another class of device.
    fn on(&self, world: &World<'_>, stage: &Stage, device: Option<String>) -> Self {
        let mut other = self.clone();
        other.fingerprint.device = device;
        other.key = other.fingerprint.key();
        (other.result, other.foreign) = world.result(stage, &other.key);
        other
    }
}
