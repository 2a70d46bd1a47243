//! Dispatches pieces of work to workers and handles their results.

use std::cmp::Reverse;

use hamflow_stage_api::{StageError, Threads};

use super::{Job, MAX_PENDING_COMMITS, Queued, RunLoop, Stepped};
use crate::exec::event::{Action, JobId, Piece};
use crate::exec::state::NodeState;
use crate::graph::StageId;

impl RunLoop {
    /// Dispatches queued pieces as long as there are cores and memory for the first in the queue.
    pub(super) fn dispatch(&mut self) {
        // How many parts share the spare cores is only known once everything that is ready is queued.
        while self.stop.is_none()
            && self.looking_up.is_empty()
            && let Some(queued) = self.next_piece()
        {
            let (rank, _, piece) = queued;
            let is_part = matches!(piece, Piece::Part(_));
            let stage = self.ready.at(rank);
            let node = &self.nodes[stage.index()];
            let is_remote = self.is_remote(stage, piece);
            if is_part && !is_remote && self.storing.len() >= MAX_PENDING_COMMITS {
                return;
            }
            let threads = match (node.cpus, node.threads) {
                (cpus, _) if is_remote => cpus.map_or(1, |cpus| cpus.of(usize::from(u16::MAX))),
                (Some(cpus), _) => cpus.of(self.resources.cores()),
                (None, Threads::All) => self.resources.cores(),
                (None, Threads::Spare) if is_part => (self.resources.free_cores() / self.queue.len()).max(1),
                (None, Threads::One | Threads::Spare) => 1,
            };
            let grant = match is_remote {
                true => None,
                false => match self.resources.acquire(threads, node.memory) {
                    Some(grant) => Some(grant),
                    None => return,
                },
            };
            self.queue.remove(&queued);
            let job = self.next_job;
            self.next_job += 1;
            self.jobs.insert(job, Job { stage, piece, grant });
            self.actions.push(Action::Submit { job, stage, piece, threads });
        }
    }

    /// Whether a piece runs elsewhere. Parts are merged on this machine, rather than waiting in a queue once more.
    fn is_remote(&self, stage: StageId, piece: Piece) -> bool {
        self.nodes[stage.index()].is_remote && piece != Piece::Merge
    }

    /// The next piece to dispatch: the first that runs elsewhere, or else the first.
    fn next_piece(&self) -> Option<Queued> {
        let mut next = self.queue.first().copied();
        let mut first = None;
        // Only the first piece of each stage, since a stage may have very many.
        while let Some(queued) = next {
            let (rank, _, piece) = queued;
            let stage = self.ready.at(rank);
            if self.may_run(stage) {
                if self.is_remote(stage, piece) {
                    return Some(queued);
                }
                first = first.or(Some(queued));
            }
            let behind = (rank + 1, Reverse(u64::MAX), Piece::Part(0));
            next = self.queue.range(behind..).next().copied();
        }
        first
    }

    /// Whether all inputs of a stage are available: an upstream stage may have been reopened since the stage started.
    pub(super) fn may_run(&self, stage: StageId) -> bool {
        self.ready.upstream(stage).iter().all(|upstream| self.is_in(*upstream, NodeState::Done))
    }

    pub(super) fn take_job(&mut self, job: JobId) -> Option<Job> {
        let taken = self.jobs.remove(&job)?;
        if let Some(grant) = taken.grant {
            self.resources.release(grant);
        }
        Some(taken)
    }

    pub(super) fn job_done(&mut self, job: JobId) -> Stepped {
        // Ignore jobs of a stage that has started over.
        let Some(Job { stage, piece, .. }) = self.take_job(job) else { return Ok(()) };
        match piece {
            Piece::Part(number) => {
                self.storing.insert(job, (stage, number));
                self.actions.push(Action::StorePart(job));
            }
            Piece::Whole | Piece::Merge if self.is_in(stage, NodeState::Running) => {
                self.set(stage, NodeState::Committing)?;
                // Storing takes a while; do not keep the free worker waiting.
                self.dispatch();
                self.actions.push(Action::Commit(stage, job));
            }
            Piece::Whole | Piece::Merge => {}
        }
        Ok(())
    }

    pub(super) fn job_failed(&mut self, job: JobId, error: StageError) -> Stepped {
        match self.take_job(job) {
            Some(Job { stage, .. }) => self.stage_failed(stage, error),
            None => Ok(()),
        }
    }

    pub(super) fn part_stored(&mut self, job: JobId, outcome: Result<(), StageError>) -> Stepped {
        // A stage that has started over meanwhile finds the part in the store.
        let Some((stage, number)) = self.storing.remove(&job) else { return Ok(()) };
        if let Err(error) = outcome {
            return self.stage_failed(stage, error);
        }
        let Some(work) = self.work.get_mut(&stage).filter(|_| self.states.get(stage) == NodeState::Running) else {
            return Ok(());
        };
        work.parts[number].1 = true;
        work.ran += 1;
        // From the end, which usually is made last.
        if work.parts.iter().rev().any(|(_, made)| !made) {
            return Ok(());
        }
        if work.key.is_some() {
            self.extend(stage);
            return Ok(());
        }
        // All inputs are hashed now, so the key can be computed.
        self.wait(stage)?;
        self.ready.add(stage);
        self.ready.unblock();
        Ok(())
    }
}
