//! What the driver knows of stages and jobs that are at work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hamflow_stage_api::{Inputs, Part, StageError};
use serde_json::Value;

use crate::digest::Digest;
use crate::exec::event::{Piece, Prepared, PreparedPart};
use crate::exec::throughput::Amount;
use crate::graph::StageId;
use crate::plan::{Check, StaleReason};
use crate::store::{ActionKey, ActionResult, Files};

/// The key of a part and its files.
pub type KnownPart = (ActionKey, Files);

/// A stage between its look-up and its end.
#[derive(Debug)]
pub struct StageWork {
    /// None while its parts run before its key is known.
    pub check: Option<Check>,
    /// The class of device that it is made on.
    pub device: Option<String>,
    /// Why it has work.
    pub reasons: Vec<StaleReason>,
    /// What it reads.
    pub inputs: Inputs,
    /// Its parts; empty for a stage that is not split.
    pub parts: PartsWork,
    /// Whether it is split into parts.
    pub is_split: bool,
    /// When its work began.
    pub started: Instant,
    /// The largest resident size of a worker that did a job of it, in bytes.
    pub peak_memory: u64,
    /// Its result, once it is stored or found.
    pub result: Option<Arc<ActionResult>>,
    /// Whether its result was made in this run.
    pub is_committed: bool,
}

/// The parts of a stage, and what is known of them.
#[derive(Debug, Default)]
pub struct PartsWork {
    /// In the order of the plan.
    pub parts: Vec<Part>,
    /// The key and the files of each that is made.
    pub made: Vec<Option<KnownPart>>,
    /// What each reads.
    pub amounts: Vec<Amount>,
    /// How many jobs of them ended well.
    pub ran: usize,
    /// What those have read.
    pub ran_amount: Amount,
    /// How many the cache had.
    pub cached: usize,
    /// What was made before the key of the stage was known.
    pub ahead: BTreeMap<ActionKey, Files>,
}

impl PartsWork {
    /// Parts of which nothing is known.
    pub fn new(parts: Vec<Part>, inputs: &Inputs) -> Self {
        Self {
            made: vec![None; parts.len()],
            amounts: parts.iter().map(|part| Amount::of(part, inputs)).collect(),
            parts,
            ..Self::default()
        }
    }

    /// How many are made.
    pub fn made_count(&self) -> usize {
        self.made.iter().flatten().count()
    }
}

impl StageWork {
    /// A stage that was looked up.
    pub fn of(check: Check, reasons: Vec<StaleReason>) -> Self {
        Self { device: check.fingerprint.device.clone(), check: Some(check), ..Self::new(reasons) }
    }

    /// A stage without a key.
    pub fn new(reasons: Vec<StaleReason>) -> Self {
        Self {
            check: None,
            device: None,
            reasons,
            inputs: Inputs::default(),
            parts: PartsWork::default(),
            is_split: false,
            started: Instant::now(),
            peak_memory: 0,
            result: None,
            is_committed: false,
        }
    }

    /// What its key is made of.
    pub fn check(&self) -> Result<&Check, StageError> {
        self.check.as_ref().ok_or_else(|| StageError::bug("a stage without a key is to be stored"))
    }

    /// Its work as the run loop sees it.
    pub fn prepared(&self) -> Prepared {
        let parts = self.parts.made.iter().zip(&self.parts.amounts);
        let parts = parts.map(|(made, amount)| PreparedPart { bytes: amount.bytes, made: made.is_some() });
        Prepared {
            key: self.check.as_ref().map(|check| check.key),
            parts: self.is_split.then(|| parts.collect()),
            ran: self.parts.ran,
        }
    }
}

/// A job that was submitted.
#[derive(Debug)]
pub struct JobWork {
    /// The stage.
    pub stage: StageId,
    /// Which piece of it.
    pub piece: Piece,
    /// How the key of a part is made.
    pub part_key: PartKey,
    /// The digests that the part said it has read, by port.
    pub read: BTreeMap<String, Vec<Digest>>,
    /// What it said is not as it should be.
    pub flaws: Vec<String>,
    /// When it was submitted.
    pub started: Instant,
    /// Its folder.
    pub folder: PathBuf,
}

/// How the key of what a job makes is made.
#[derive(Debug)]
pub enum PartKey {
    /// It is no part.
    None,
    /// It is known, with the fingerprint.
    Known(ActionKey, Value),
    /// It is made of what the part reads: the part, its files and the class of device.
    OfReading(Box<(Part, Inputs, Option<String>)>),
}
