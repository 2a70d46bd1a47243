//! The trait that every kind of stage implements, and the facts that the engine queries.

use serde_json::{Map, Value};

use crate::{Classify, Inputs, Listener, Output, ParamError, PartOutput, Plan, Port, StageContext, StageError};

/// Parameters as JSON values, sorted by name.
pub type Params = Map<String, Value>;

/// The number of threads that a job of a kind can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One. The engine runs several such jobs at a time.
    One,
    /// One while other jobs are waiting. If there are fewer parts than threads, the parts share the spare threads. The job starts the
    /// additional threads itself, and its output must not depend on their number.
    Spare,
    /// All available threads.
    All,
}

/// The static properties of a kind.
#[derive(Debug, Clone)]
pub struct KindSpec {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// The revision; incremented whenever equal inputs produce different outputs.
    pub revision: u32,
    /// One sentence for the reference documentation.
    pub summary: &'static str,
    /// The input ports. With `dynamic_ports`, the stage's own `inputs` table is added.
    pub ports: Vec<Port>,
    /// Whether `inputs = { name = "reference" }` in the stage declares ports (`command`).
    pub dynamic_ports: bool,
    /// Whether it uses random numbers; if so, the seed enters the key.
    pub seeded: bool,
    /// The parameters that can be increased to continue from a checkpoint (`epochs`).
    pub extendable: &'static [&'static str],
    /// The number of threads that a job can use.
    pub threads: Threads,
    /// The unit in which the files read by parts are counted.
    pub part_unit: &'static str,
    /// Whether every part reads each of its files exactly once, with [`ReadAhead`](crate::ReadAhead), and reports the digests
    /// ([`StageContext::read`](crate::StageContext::read)), while plans and views use only the file names of ports with
    /// [`Access::Content`](crate::Access::Content). The engine then leaves hashing of unhashed files to the parts.
    pub reads_once: bool,
}

impl KindSpec {
    /// A kind with the given ports that uses all threads and no random numbers.
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

/// The information that is available before a stage runs.
#[derive(Debug, Clone, Copy)]
pub struct Planning<'a> {
    /// The resolved parameters.
    pub params: &'a Params,
    /// The inputs. Planning may read tables in full, but only the listing and digests of other inputs. The digests may be
    /// [unread](crate::FileDigest::Unread) if the kind [reads once](KindSpec::reads_once) or uses only names.
    pub inputs: &'a Inputs,
    /// The seed, for seeded kinds.
    pub seed: Option<u64>,
}

/// The columns and rows that a kind reads from some inputs, as canonical text.
///
/// Each line holds the row's name, a tab, and the values read. The digest of the text enters the key. The engine also keeps the
/// text, so that `hamflow why` can name the rows that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// A description for people, e.g. ``image_id, label and split of the training and validation rows``.
    pub name: String,
    /// The rows.
    pub text: String,
}

/// The implementation of a kind of stage.
///
/// Implementations are stateless. `resolve`, `outputs`, `views` and `plan` run in the engine's process and must be fast. `run`,
/// `run_part` and `merge` run in a worker, which may be killed at any time.
pub trait Kind: Sync {
    /// The static properties of the kind.
    fn spec(&self) -> KindSpec;

    /// The JSON Schema of the parameters: an object schema with one documented property per parameter.
    fn schema(&self) -> Value;

    /// Validates the parameters and fills in the defaults.
    ///
    /// The result contains every parameter, so that a default that changes in a later version changes the key.
    fn resolve(&self, params: &Params) -> Result<Params, ParamError>;

    /// The outputs of a stage with these resolved parameters.
    fn outputs(&self, params: &Params) -> Vec<Output>;

    /// The columns that a stage with these parameters reads, as pairs of port and column. A table that is known to lack one is
    /// rejected before anything runs.
    fn columns_read(&self, _params: &Params) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The columns of the table `output` of a stage with these parameters; `None` if they are only known after a run. `of` returns the
    /// columns of the table at a port.
    fn columns_made(
        &self,
        _params: &Params,
        _output: &str,
        _of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        None
    }

    /// The device class that the results depend on (e.g. `cpu`), or `None` if they do not depend on it. Deterministic: equal
    /// parameters always return `None` or always a class.
    ///
    /// Fails if the requested device is not available.
    fn device_class(&self, _params: &Params) -> Result<Option<String>, ParamError> {
        Ok(None)
    }

    /// Whether a result that the lock file records for the same inputs on another device class may be used if there is none for this
    /// machine's class.
    fn accepts_other_devices(&self, _params: &Params) -> bool {
        false
    }

    /// The arguments that may name files of the project. Those files are implicit inputs (`command`).
    fn candidate_files(&self, _params: &Params) -> Vec<String> {
        Vec::new()
    }

    /// The views that enter the key in place of the inputs at ports with [`Access::View`](crate::Access::View).
    ///
    /// The result is cached by the digests of the inputs.
    fn views(&self, _planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        Ok(Vec::new())
    }

    /// Splits the work into parts. Called when the stage is ready; the result is cached by the digests of the inputs once all are known.
    fn plan(&self, _planning: Planning<'_>) -> Result<Plan, StageError> {
        Ok(Plan::Whole)
    }

    /// A PNG that shows the effect of these parameters on about `sample` inputs without running the stage; `None` if the kind has no
    /// preview.
    fn preview(&self, _planning: Planning<'_>, _sample: usize) -> Result<Option<Vec<u8>>, StageError> {
        Ok(None)
    }

    /// Classifies images with a model of this kind and reports each answer to `tell`; `false` if the kind makes no model.
    fn classify(&self, _asked: &Classify<'_>, _tell: &mut Listener<'_>) -> Result<bool, StageError> {
        Ok(false)
    }

    /// Runs a stage that is not split into parts.
    fn run(&self, context: &StageContext<'_>) -> Result<(), StageError>;

    /// Runs one part.
    fn run_part(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::bug(format!("the kind of `{}` does not split work into parts", context.stage())))
    }

    /// Produces the outputs that are made once from all parts.
    fn merge(&self, context: &StageContext<'_>, _parts: &[PartOutput]) -> Result<(), StageError> {
        Err(StageError::bug(format!("the kind of `{}` does not split work into parts", context.stage())))
    }
}
