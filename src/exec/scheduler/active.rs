//! What a stage and a job are while they are at work.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use hamflow_stage_api::{Inputs, Part, StageError};
use serde_json::Value;

use super::throughput::Amount;
use crate::digest::Digest;
use crate::graph::StageId;
use crate::plan::{Check, Files, StaleReason};
use crate::store::ActionKey;

/// Which piece of a stage; the order is the order in which pieces are given to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Part(usize),
    Whole,
    Merge,
}

/// A piece that waits for a worker, after its stage's place in the graph's order and the bytes that it reads: of a stage's
/// parts the largest go first, so that in the end no worker waits long for another.
pub(super) type Queued = (usize, Reverse<u64>, Piece);

/// The key of a part and its files.
pub(super) type KnownPart = (ActionKey, Files);

/// A stage at work.
pub(super) struct Active {
    /// None while its parts are made ahead of its key.
    pub(super) check: Option<Check>,
    /// The class of device that it is made on.
    pub(super) device: Option<String>,
    pub(super) reasons: Vec<StaleReason>,
    pub(super) inputs: Inputs,
    /// Whether it is not split into parts.
    pub(super) whole: bool,
    pub(super) parts: Vec<Part>,
    /// What is known of each part: its key and files.
    pub(super) made: Vec<Option<KnownPart>>,
    /// What was made of its parts ahead of its key.
    pub(super) ahead: BTreeMap<ActionKey, Files>,
    /// What each part reads.
    pub(super) amounts: Vec<Amount>,
    pub(super) ran: usize,
    /// What the parts that ran have read.
    pub(super) ran_amount: Amount,
    pub(super) cached: usize,
    pub(super) started: Instant,
    pub(super) peak_memory: u64,
}

impl Active {
    pub(super) fn new(reasons: Vec<StaleReason>, inputs: Inputs, parts: Vec<Part>) -> Self {
        Self {
            check: None,
            device: None,
            reasons,
            whole: false,
            made: vec![None; parts.len()],
            ahead: BTreeMap::new(),
            amounts: parts.iter().map(|part| Amount::of(part, &inputs)).collect(),
            parts,
            inputs,
            ran: 0,
            ran_amount: Amount::default(),
            cached: 0,
            started: Instant::now(),
            peak_memory: 0,
        }
    }

    pub(super) fn check(&self) -> Result<&Check, StageError> {
        self.check.as_ref().ok_or_else(|| StageError::bug("a stage without a key is not made ahead of it"))
    }
}

/// A job at work.
pub(super) struct Running {
    pub(super) stage: StageId,
    pub(super) piece: Piece,
    /// The part's key, where it is known before the part is made.
    pub(super) part: Option<(ActionKey, Value)>,
    /// The part, with its files and the class of device, where its key is to be made of what it reads.
    pub(super) ahead: Option<(Part, Inputs, Option<String>)>,
    /// What the part said that it read, by port.
    pub(super) read: BTreeMap<String, Vec<Digest>>,
    pub(super) started: Instant,
    pub(super) threads: usize,
    pub(super) memory: u64,
    /// What it said is not as it should be.
    pub(super) flaws: Vec<String>,
}
