//! The trait that every kind of stage implements.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::parameters;
use crate::{
    Columns, Curves, Devices, Files, Output, Pairs, ParamError, Parts, Plots, Port, Preview, StageContext, StageError,
    Tools, Views,
};

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
    /// Whether it runs a program whose uses of files can be [reported](crate::StageContext::undeclared), so that they become part of the
    /// key; [`Kind::observes`] tells whether they are.
    pub observed: bool,
    /// The parameters that have no influence on outputs and so are not part of the key (`timeout`).
    pub unkeyed: &'static [&'static str],
    /// The parameters that can be increased to continue from a checkpoint (`epochs`).
    pub extendable: &'static [&'static str],
    /// The number of threads that a job can use.
    pub threads: Threads,
    /// Whether it gets the [lineage](crate::Lineage) of its inputs, which then enters the key.
    pub lineage: bool,
    /// The unit in which the work of parts is counted: their files, or [`Part::amount`](crate::Part::amount).
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
            observed: false,
            unkeyed: &[],
            extendable: &[],
            threads: Threads::All,
            lineage: false,
            part_unit: "files",
            reads_once: false,
        }
    }
}

/// The implementation of a kind of stage.
///
/// Implementations are stateless. The parameters are deserialised once, into [`Kind::Params`], and every method gets them in that
/// form. What only some kinds can do is a trait of its own, which the kind returns from a method such as [`Kind::parts`].
///
/// `resolve` and `outputs` run in the engine's process and must be fast. `run` runs in a worker, which may be killed at any time.
pub trait Kind: Sync {
    /// The parameters: a struct that derives `Serialize`, `Deserialize` and `JsonSchema`, with
    /// `#[serde(default, deny_unknown_fields)]` and a documented default per field.
    ///
    /// Serialising and deserialising them again must give the same parameters: a worker gets them as JSON.
    type Params: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// The static properties of the kind.
    fn spec(&self) -> KindSpec;

    /// The JSON Schema of the parameters: an object schema with one documented property per parameter.
    fn schema(&self) -> Value {
        parameters::schema::<Self::Params>()
    }

    /// Deserialises the parameters, fills in the defaults and validates the result with [`Kind::check`].
    ///
    /// Every parameter of the result enters the key, so that a default that changes in a later version changes the key.
    fn resolve(&self, params: &Params) -> Result<Self::Params, ParamError> {
        let parsed = parameters::parse(params)?;
        self.check(&parsed)?;
        Ok(parsed)
    }

    /// Validates what types and declared ranges leave open, such as parameters that exclude each other.
    ///
    /// The range of a number is declared at its field, with `#[schemars(range(min = 1, max = 10))]`, and enforced from there.
    fn check(&self, _params: &Self::Params) -> Result<(), ParamError> {
        Ok(())
    }

    /// The outputs of a stage with these parameters.
    fn outputs(&self, params: &Self::Params) -> Vec<Output>;

    /// Runs a stage that is not split into parts.
    fn run(&self, params: &Self::Params, context: &StageContext<'_>) -> Result<(), StageError>;

    /// How the work is split, for a kind that works in parts.
    fn parts(&self) -> Option<&dyn Parts<Self::Params>> {
        None
    }

    /// What enters the key in place of some inputs, for a kind with ports of [`Access::View`](crate::Access::View).
    fn views(&self) -> Option<&dyn Views<Self::Params>> {
        None
    }

    /// The devices that results depend on, if they do.
    fn devices(&self) -> Option<&dyn Devices<Self::Params>> {
        None
    }

    /// The installed software that results depend on, if they do.
    fn tools(&self) -> Option<&dyn Tools<Self::Params>> {
        None
    }

    /// The columns of tables, for a kind that reads or makes known ones.
    fn columns(&self) -> Option<&dyn Columns<Self::Params>> {
        None
    }

    /// The files of the project that parameters name, if they may name any.
    fn files(&self) -> Option<&dyn Files<Self::Params>> {
        None
    }

    /// Whether the uses of files of the program would be observed on this machine.
    fn observes(&self, _params: &Self::Params) -> bool {
        false
    }

    /// The curves of what a stage measures while it works, if it measures anything.
    fn curves(&self) -> Option<&dyn Curves> {
        None
    }

    /// The figures of outputs, if parameters declare any.
    fn plots(&self) -> Option<&dyn Plots<Self::Params>> {
        None
    }

    /// The paired comparison of two results of a stage, if it measures rows.
    fn pairs(&self) -> Option<&dyn Pairs> {
        None
    }

    /// The preview of a stage, if there is one.
    fn preview(&self) -> Option<&dyn Preview<Self::Params>> {
        None
    }
}
