//! The driver's state of stages and jobs in progress.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hamflow_stage_api::{Inputs, Part, StageError, UndeclaredRead};
use serde_json::Value;

use crate::digest::Digest;
use crate::exec::busy_time::BusyTime;
use crate::exec::event::{Piece, Prepared, PreparedPart};
use crate::exec::throughput::Amount;
use crate::graph::StageId;
use crate::plan::{Check, StaleReason};
use crate::store::{ActionKey, ActionResult, Files};

/// The key of a part and its files.
pub type KnownPart = (ActionKey, Files);

/// A stage between its lookup and its end.
#[derive(Debug)]
pub struct StageWork {
    /// `None` while the parts run before the key is known.
    pub check: Option<Check>,
    /// The device class that the stage runs on.
    pub device: Option<String>,
    /// Why the stage is stale.
    pub reasons: Vec<StaleReason>,
    /// The inputs of the stage.
    pub inputs: Inputs,
    /// The parts; empty if the stage is not split.
    pub parts: PartsWork,
    /// Whether the stage is split into parts.
    pub is_split: bool,
    /// The time of its jobs, or of restoring its result.
    pub busy: BusyTime,
    /// The time of all its jobs together.
    pub work_time: Duration,
    /// The peak resident size of any worker that ran a job of the stage, in bytes.
    pub peak_memory: u64,
    /// The result, once stored or found.
    pub result: Option<Arc<ActionResult>>,
    /// Whether the result was built in this run.
    pub is_committed: bool,
}

/// The parts of a stage and their progress.
#[derive(Debug, Default)]
pub struct PartsWork {
    /// The parts, in plan order.
    pub parts: Vec<Part>,
    /// The key and files of each part; `None` if the part is not built yet.
    pub made: Vec<Option<KnownPart>>,
    /// The amount of input of each part.
    pub amounts: Vec<Amount>,
    /// The number of part jobs that succeeded.
    pub ran: usize,
    /// The total input of those jobs.
    pub ran_amount: Amount,
    /// The number of parts found in the cache.
    pub cached: usize,
    /// Parts that were built before the key of the stage was known, by key.
    pub ahead: BTreeMap<ActionKey, Files>,
}

impl PartsWork {
    /// Creates the state of parts that are not looked up yet.
    pub fn new(parts: Vec<Part>, inputs: &Inputs) -> Self {
        Self {
            made: vec![None; parts.len()],
            amounts: parts.iter().map(|part| Amount::of(part, inputs)).collect(),
            parts,
            ..Self::default()
        }
    }

    /// Adds parts that are not looked up yet.
    pub fn append(&mut self, parts: Vec<Part>, inputs: &Inputs) {
        self.made.resize(self.parts.len() + parts.len(), None);
        self.amounts.extend(parts.iter().map(|part| Amount::of(part, inputs)));
        self.parts.extend(parts);
    }

    /// Returns the number of parts that are built.
    pub fn made_count(&self) -> usize {
        self.made.iter().flatten().count()
    }
}

impl StageWork {
    /// Creates the work of a stage that was looked up.
    pub fn of(check: Check, reasons: Vec<StaleReason>) -> Self {
        Self { device: check.fingerprint.device.clone(), check: Some(check), ..Self::new(reasons) }
    }

    /// Creates the work of a stage without a key.
    pub fn new(reasons: Vec<StaleReason>) -> Self {
        Self {
            check: None,
            device: None,
            reasons,
            inputs: Inputs::default(),
            parts: PartsWork::default(),
            is_split: false,
            busy: BusyTime::default(),
            work_time: Duration::ZERO,
            peak_memory: 0,
            result: None,
            is_committed: false,
        }
    }

    /// Returns the components of the key. A missing key is an internal error.
    pub fn check(&self) -> Result<&Check, StageError> {
        self.check.as_ref().ok_or_else(|| StageError::bug("a stage without a key is to be stored"))
    }

    /// Returns the work as the run loop sees it.
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

/// A submitted job.
#[derive(Debug)]
pub struct JobWork {
    /// The stage of the job.
    pub stage: StageId,
    /// Which piece of the stage the job is.
    pub piece: Piece,
    /// How the key of a part is computed.
    pub part_key: PartKey,
    /// The digests that the part reported to have read, by port.
    pub read: BTreeMap<String, Vec<Digest>>,
    /// The files that the job used without a declaration; `None` if that was not observed.
    pub undeclared: Option<Vec<UndeclaredRead>>,
    /// Whether to warn of those files each time.
    pub warns: bool,
    /// The flaws that the job reported.
    pub flaws: Vec<String>,
    /// When the job was submitted.
    pub started: Instant,
    /// The time that it took, once it has ended.
    pub took: Option<Duration>,
    /// The working directory of the job.
    pub folder: PathBuf,
    /// Whether it runs elsewhere.
    pub is_remote: bool,
    /// The side outputs of an earlier run that submitted the job.
    pub side: Option<PathBuf>,
}

/// How the key of a job's part is computed.
#[derive(Debug)]
pub enum PartKey {
    /// The job is not a part.
    None,
    /// The key is known; with its fingerprint.
    Known(ActionKey, Value),
    /// The key is computed from what the part reads: the part, its inputs and the device class.
    OfReading(Box<(Part, Inputs, Option<String>)>),
}
