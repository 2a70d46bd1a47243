//! The lifecycle of a stage within one run.
//!
//! ```text
//!                 ┌──────────────── reopened: its stored bytes were damaged ───────────────┐
//!                 ▼                                                                        │
//! NotRequested  Waiting ⇄ LookingUp ─┬─────────────────────────── fresh ───────────────▶ Done
//!                 │        ▲   │     ├─▶ Restoring ─── from the cache to `out/` ─────────▶ │
//!                 │        │   │     │       │ damaged: like a miss                        │
//!                 │        ├─ Fetching ◀─────┤                                             │
//!                 │        │   │             ▼                                             │
//!                 │        └─ Running ─▶ Committing ─── stored and restored ─────────────▶ │
//!                 │             ⇅ Fetching: the parts of a further round
//!                 ▼
//!               Skipped          Failed: from every state with work in it; Interrupted: from Running and Committing;
//!                                back to Waiting after damage: from Fetching, Restoring, Running and Committing
//! ```
//!
//! [`States::set`] is the only writer. It rejects transitions that [`NodeState::may_become`] does not allow, in debug and release builds alike: a stage in a
//! wrong state would lose work or wait forever.

use crate::graph::StageId;

/// The state of a stage in its lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// The stage is not part of the run.
    NotRequested,
    /// Waiting for upstream stages, or for another stage with the same key.
    Waiting,
    /// The key is being computed and looked up, and the work is being split.
    LookingUp,
    /// The result or the parts are being fetched from the remote.
    Fetching,
    /// The cached result is being written to `out/`.
    Restoring,
    /// Jobs of the stage are queued or running.
    Running,
    /// The result is being stored and written to `out/`.
    Committing,
    /// The result is known and in `out/`.
    Done,
    /// The stage failed.
    Failed,
    /// The run ended first, or an upstream stage failed.
    Skipped,
    /// The user interrupted the run while the stage had work.
    Interrupted,
}

impl NodeState {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::NotRequested,
        Self::Waiting,
        Self::LookingUp,
        Self::Fetching,
        Self::Restoring,
        Self::Running,
        Self::Committing,
        Self::Done,
        Self::Failed,
        Self::Skipped,
        Self::Interrupted,
    ];

    /// Whether the state is final for the run.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::NotRequested | Self::Done | Self::Failed | Self::Skipped | Self::Interrupted)
    }

    /// Whether a stage may transition from this state to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        use NodeState as S;
        match self {
            S::NotRequested | S::Failed | S::Skipped | S::Interrupted => false,
            S::Waiting => matches!(next, S::LookingUp | S::Skipped),
            S::LookingUp => {
                matches!(next, S::Waiting | S::Fetching | S::Restoring | S::Running | S::Done | S::Failed | S::Skipped)
            }
            S::Fetching => matches!(next, S::Waiting | S::Running | S::Failed | S::Skipped),
            S::Restoring => matches!(next, S::Waiting | S::LookingUp | S::Fetching | S::Done | S::Failed | S::Skipped),
            S::Running => {
                matches!(next, S::Waiting | S::Fetching | S::Committing | S::Failed | S::Skipped | S::Interrupted)
            }
            S::Committing => matches!(next, S::Waiting | S::Done | S::Failed | S::Skipped | S::Interrupted),
            S::Done => matches!(next, S::Waiting),
        }
    }
}

/// An illegal state transition: an internal error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("internal error: stage {} cannot go from {from:?} to {to:?}", stage.index())]
pub struct IllegalTransition {
    /// The stage.
    pub stage: StageId,
    /// The current state.
    pub from: NodeState,
    /// The requested state.
    pub to: NodeState,
}

/// The states of all stages, and the number of stages in each state.
#[derive(Debug, Clone)]
pub struct States {
    states: Vec<NodeState>,
    counts: [usize; NodeState::ALL.len()],
}

impl States {
    /// Creates the initial states: requested stages are waiting.
    pub fn new(requested: impl Iterator<Item = bool>) -> Self {
        let state = |requested| if requested { NodeState::Waiting } else { NodeState::NotRequested };
        let states: Vec<NodeState> = requested.map(state).collect();
        let counts = NodeState::ALL.map(|state| states.iter().filter(|found| **found == state).count());
        Self { states, counts }
    }

    /// Returns the state of a stage.
    pub fn get(&self, stage: StageId) -> NodeState {
        self.states[stage.index()]
    }

    /// Returns the number of stages in a state.
    pub fn count(&self, state: NodeState) -> usize {
        self.counts[state as usize]
    }

    /// Changes the state of a stage. An illegal transition is an error and changes nothing.
    pub fn set(&mut self, stage: StageId, to: NodeState) -> Result<(), IllegalTransition> {
        let from = self.get(stage);
        if !from.may_become(to) {
            return Err(IllegalTransition { stage, from, to });
        }
        self.states[stage.index()] = to;
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_that_there_is_not_is_refused_and_changes_nothing() {
        let stage = StageId::from_index(0);
        let mut states = States::new([true, false].into_iter());
        let refused = states.set(stage, NodeState::Done).unwrap_err();
        assert_eq!(refused.to_string(), "internal error: stage 0 cannot go from Waiting to Done");
        assert_eq!((states.get(stage), states.count(NodeState::Waiting)), (NodeState::Waiting, 1));
        states.set(stage, NodeState::LookingUp).unwrap();
        states.set(stage, NodeState::Done).unwrap();
        assert_eq!((states.count(NodeState::Waiting), states.count(NodeState::Done)), (0, 1));
        assert_eq!(states.count(NodeState::NotRequested), 1);
    }

    #[test]
    fn only_a_done_stage_leaves_a_final_state() {
        for from in NodeState::ALL {
            assert_eq!(from as usize, NodeState::ALL.iter().position(|state| *state == from).unwrap());
            let leaves = NodeState::ALL.into_iter().any(|to| from.may_become(to));
            assert_eq!(leaves, !from.is_final() || from == NodeState::Done, "{from:?}");
        }
    }
}
