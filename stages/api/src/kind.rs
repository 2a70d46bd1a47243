//! What a kind of stage tells the engine, and what the engine asks of it.

use serde_json::{Map, Value};

use crate::{Classify, Inputs, Listener, Output, ParamError, PartOutput, Plan, Port, StageContext, StageError};

/// Parameters as JSON values, sorted by name.
pub type Params = Map<String, Value>;

/// How many threads a job of a kind can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One; the engine runs several such jobs at a time.
    One,
    /// One, as long as other jobs wait for theirs; parts that are fewer than the threads share what there is. The job starts those
    /// beyond the first itself, and what it makes does not depend on how many it has.
    Spare,
    /// As many as there are.
    All,
}

/// The unchanging facts about a kind.
#[derive(Debug, Clone)]
pub struct KindSpec {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// Raised whenever equal inputs would give another output.
    pub revision: u32,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// What it takes. For a kind with `dynamic_ports`, the stage's own `inputs` table is added.
    pub ports: Vec<Port>,
    /// Whether `inputs = { name = "reference" }` in the stage declares ports (`command`).
    pub dynamic_ports: bool,
    /// Whether it draws random numbers, so that the seed enters the key.
    pub seeded: bool,
    /// The parameters whose increase continues from a checkpoint (`epochs`).
    pub extendable: &'static [&'static str],
    /// How many threads a job can use.
    pub threads: Threads,
    /// What the files that parts read are called when they are counted.
    pub part_unit: &'static str,
    /// Whether plans and views look at no more than the names of what ports with [`Access::Content`](crate::Access::Content)
    /// take, and every part reads each of its files by [`ReadAhead`](crate::ReadAhead) and says so
    /// ([`StageContext::read`](crate::StageContext::read)). Then files that nobody has hashed yet are hashed by the parts.
    pub reads_once: bool,
}

impl KindSpec {
    /// A kind that takes `ports`, uses all threads and draws no random numbers.
    pub fn new(name: &'static str, revision: u32, summary: &'static str, ports: Vec<Port>) -> Self {
        Self {
            name,
            revision,
            summary,
            ports,
            dynamic_ports: false,
            seeded: false,
            extendable: &[],
            threads: Threads::All,
            part_unit: "files",
            reads_once: false,
        }
    }
}

/// What a stage is planned from. Everything here is known before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Planning<'a> {
    /// The resolved parameters.
    pub params: &'a Params,
    /// The inputs. Planning may read tables in full and of everything else only the listing with its digests,
    /// which may be [unread](crate::Digest::unread) where the kind [reads once](KindSpec::reads_once) or reads names alone.
    pub inputs: &'a Inputs,
    /// The seed, for kinds that declare randomness.
    pub seed: Option<u64>,
}

/// The columns and rows of some inputs that a kind reads, as canonical text.
///
/// One row per line, the row's name first, then a tab, then what is read of it. The engine puts the digest of the text into
/// the key and keeps the text, so that `hamflow why` can name the rows that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What it is, for people: ``image_id, label and split of the training and validation rows``.
    pub name: String,
    /// The rows.
    pub text: String,
}

/// What a stage does.
///
/// An implementation has no state: all it knows comes with the call. `resolve`, `outputs`, `views` and `plan` run in the
/// engine's process and must be quick; `run`, `run_part` and `merge` run in a worker and may be killed at any line.
pub trait Kind: Sync {
    /// The unchanging facts.
    fn spec(&self) -> KindSpec;

    /// The JSON Schema of the parameters: an object schema with one documented property per parameter.
    fn schema(&self) -> Value;

    /// Checks the parameters and fills in the defaults.
    ///
    /// The result has every parameter, so that a default that changes in a later version changes the key.
    fn resolve(&self, params: &Params) -> Result<Params, ParamError>;

    /// What a stage with these (resolved) parameters makes.
    fn outputs(&self, params: &Params) -> Vec<Output>;

    /// The columns that a stage with these parameters reads of the tables at its ports, as port and column: a table that is known to
    /// be without one is refused before anything runs.
    fn columns_read(&self, _params: &Params) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The columns that a table may have which a stage with these parameters makes; `of` says those of the table at a port. None where
    /// only a run can say.
    fn columns_made(
        &self,
        _params: &Params,
        _output: &str,
        _of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        None
    }

    /// The class of device that numbers depend on (`cpu`), for kinds where they do; for the same parameters always there or
    /// always none.
    ///
    /// Fails where the parameters ask for a device that is not there.
    fn device_class(&self, _params: &Params) -> Result<Option<String>, ParamError> {
        Ok(None)
    }

    /// Whether the result of another class of device will do where there is none of this machine's: where the lock names one
    /// that was made from the same.
    fn accepts_other_devices(&self, _params: &Params) -> bool {
        false
    }

    /// The arguments that may name files of the project, which are inputs by themselves (`command`).
    fn candidate_files(&self, _params: &Params) -> Vec<String> {
        Vec::new()
    }

    /// The views that stand in the key for the inputs at ports with [`Access::View`](crate::Access::View).
    ///
    /// Remembered by the digests of the inputs, so it is asked once per content.
    fn views(&self, _planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        Ok(Vec::new())
    }

    /// How the work is split; asked when the stage is ready, and remembered by the digests of the inputs once all are known.
    fn plan(&self, _planning: Planning<'_>) -> Result<Plan, StageError> {
        Ok(Plan::Whole)
    }

    /// A picture (PNG) of what a stage with these parameters does to about `sample` of its inputs, before anything is paid for;
    /// none for a kind that has nothing to show.
    fn preview(&self, _planning: Planning<'_>, _sample: usize) -> Result<Option<Vec<u8>>, StageError> {
        Ok(None)
    }

    /// Classifies images with a model that a stage of this kind made, and tells the answers; false for a kind that makes no model.
    fn classify(&self, _asked: &Classify<'_>, _tell: &mut Listener<'_>) -> Result<bool, StageError> {
        Ok(false)
    }

    /// Does the whole work of a stage that is not split.
    fn run(&self, context: &StageContext<'_>) -> Result<(), StageError>;

    /// Does one part.
    fn run_part(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::bug(format!("the kind of `{}` has no parts", context.stage())))
    }

    /// Makes what is made once from all parts.
    fn merge(&self, context: &StageContext<'_>, _parts: &[PartOutput]) -> Result<(), StageError> {
        Err(StageError::bug(format!("the kind of `{}` has no parts", context.stage())))
    }
}
