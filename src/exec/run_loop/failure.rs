//! Stages that do not finish: failed, restarted after damage, skipped, interrupted.

use hamflow_stage_api::{ErrorCategory, StageError};

use super::{RunLoop, Stepped, Stop};
use crate::exec::event::{Action, JobId};
use crate::exec::state::NodeState;
use crate::graph::StageId;

impl RunLoop {
    /// Fails a stage. If its inputs may be the cause, they are checked once before the failure counts.
    pub(super) fn stage_failed(&mut self, stage: StageId, error: StageError) -> Stepped {
        if self.states.get(stage).is_final() {
            return Ok(());
        }
        let by_bytes = matches!(error.category, ErrorCategory::InputChanged | ErrorCategory::Input);
        match self.inspected.get_mut(&stage) {
            None if by_bytes => {
                self.inspected.insert(stage, Some(error));
                self.actions.push(Action::Inspect(stage));
                Ok(())
            }
            // Another job of the stage failed during the inspection.
            Some(Some(_)) => Ok(()),
            _ => self.fail(stage, error),
        }
    }

    pub(super) fn inspected(&mut self, stage: StageId, damaged: &[StageId], remade: bool) -> Stepped {
        let Some(error) = self.inspected.get_mut(&stage).and_then(Option::take) else { return Ok(()) };
        let damaged: Vec<StageId> =
            damaged.iter().copied().filter(|stage| self.is_in(*stage, NodeState::Done)).collect();
        if damaged.is_empty() && !remade {
            return self.fail(stage, error);
        }
        for upstream in damaged {
            self.set(upstream, NodeState::Waiting)?;
            self.ready.add(upstream);
            // The remote may have an intact copy.
            self.keys.asked.retain(|(asked, _)| *asked != upstream);
            self.actions.push(Action::Reopen(upstream));
        }
        let jobs: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.stage == stage).map(|(job, _)| *job).collect();
        for job in jobs {
            self.take_job(job);
        }
        self.storing.retain(|_, (storing, _)| *storing != stage);
        self.actions.push(Action::Abandon(stage));
        self.wait(stage)?;
        self.ready.add(stage);
        Ok(())
    }

    pub(super) fn fail(&mut self, stage: StageId, error: StageError) -> Stepped {
        self.set(stage, NodeState::Failed)?;
        self.forget_work(stage);
        self.ready.ended(stage);
        self.actions.push(Action::Fail(stage, error));
        if !self.policy.keep_going && self.stop.is_none() {
            self.stop = Some(Stop::Failure);
            self.queue.clear();
            self.actions.push(Action::StopCopying);
        }
        Ok(())
    }

    pub(super) fn interrupted(&mut self) {
        self.actions.push(Action::StopWorkers);
        for (_, job) in std::mem::take(&mut self.jobs) {
            job.grant.into_iter().for_each(|grant| self.resources.release(grant));
        }
        self.stop = Some(Stop::Interrupt);
        self.queue.clear();
        self.actions.push(Action::StopCopying);
    }

    pub(super) fn skip(&mut self, stage: StageId) -> Stepped {
        self.set(stage, NodeState::Skipped)?;
        self.forget_work(stage);
        self.ready.ended(stage);
        self.actions.push(Action::Skip(stage));
        Ok(())
    }

    /// Ends the run once nothing is in progress: unfinished stages are downstream of a failure, or the run was stopped.
    pub(super) fn end(&mut self) -> Stepped {
        for index in 0..self.nodes.len() {
            let stage = StageId::from_index(index);
            match self.states.get(stage) {
                NodeState::Running | NodeState::Committing if self.stop == Some(Stop::Interrupt) => {
                    self.set(stage, NodeState::Interrupted)?;
                    self.work.remove(&stage);
                    self.actions.push(Action::Interrupt(stage));
                }
                state if !state.is_final() => self.skip(stage)?,
                _ => {}
            }
        }
        while self.ready.pop().is_some() {}
        Ok(())
    }
}
