//! The keys of `[stages.NAME]` that the engine reads itself.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::executors::parse_time;
use crate::config::field_schema::properties_of;
use crate::config::quantity::parse_size;
use crate::config::spanned::{Spanned, parsed};
use crate::config::value::Table;

/// What every stage takes, whatever its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StageSection {
    /// What the stage does.
    pub(crate) kind: Option<String>,
    /// Instead of the pipeline's seed.
    pub(crate) seed: Option<u64>,
    /// Variables of the environment that are passed and decide the result.
    env: Vec<VariableName>,
    /// Variables that are passed and neither keyed nor stored; their values are hidden in logs and messages, but for lines of fewer than 4 characters.
    secret_env: Vec<VariableName>,
    /// What a job needs; at most as many jobs run at once as there are cores and memory for.
    #[schemars(extend("errorMessage" = "write `resources = { cpus = 4, memory = \"2GB\" }`"))]
    resources: ResourcesSection,
    /// The executor that runs its jobs: a name below `[executors]`, or `"local"`.
    pub(crate) executor: Option<Spanned<String>>,
    /// The same as `memory` in `resources`.
    memory: Option<Memory>,
    /// The values of the file at `params` that the stage depends on, such as `["seed", "train.*"]`; by default all.
    params_used: Option<Vec<String>>,
    /// One stage per file of a declared folder, such as `"inputs.scans/*.csv"`; the file is the stage's input `each`.
    pub(crate) foreach: Option<Spanned<String>>,
    /// One stage per combination of these values.
    #[schemars(extend("errorMessage" = "write `matrix = { lr = [1e-3, 3e-4] }`"))]
    pub(crate) matrix: Option<Table>,
}

impl StageSection {
    /// The names of its keys.
    pub(crate) fn keys() -> &'static [String] {
        static KEYS: LazyLock<Vec<String>> =
            LazyLock::new(|| properties_of::<StageSection>().keys().cloned().collect());
        &KEYS
    }

    /// The variables that are passed and keyed, sorted: their order means nothing, so it must not reach the key.
    pub(crate) fn env(&self) -> Vec<String> {
        sorted(&self.env)
    }

    /// The variables that are passed, never keyed nor stored; sorted.
    pub(crate) fn secret_env(&self) -> Vec<String> {
        sorted(&self.secret_env)
    }

    /// A variable that is listed as both.
    pub(crate) fn twice(&self) -> Option<&str> {
        let mut secret = self.secret_env.iter().map(|VariableName(name)| name.as_str());
        secret.find(|name| self.env.iter().any(|VariableName(other)| other == name))
    }

    /// What a job needs.
    pub(crate) fn needs(&self) -> Needs {
        let memory = self.resources.memory.or(self.memory);
        Needs { cpus: self.resources.cpus, memory: memory.map(|(Memory::Bytes(bytes) | Memory::Size(bytes))| bytes) }
    }

    /// What a job asks of an executor other than this machine.
    pub(crate) fn requests(&self) -> Requests {
        let ResourcesSection { time, gpus, partition, .. } = &self.resources;
        Requests { time: time.map(|Time(time)| time), gpus: *gpus, partition: partition.clone() }
    }

    /// Whether the memory is written in two places.
    pub(crate) fn says_memory_twice(&self) -> bool {
        self.resources.memory.is_some() && self.memory.is_some()
    }
}

/// What a job needs, as far as the stage declares it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The cores.
    pub cpus: Option<Cpus>,
    /// The bytes of memory.
    pub memory: Option<u64>,
}

/// The table `resources` of a stage.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
struct ResourcesSection {
    /// How many cores a job uses: a number, or `"all"`. A program uses one by default.
    cpus: Option<Cpus>,
    /// How much memory a job needs, such as `"2GB"`.
    memory: Option<Memory>,
    /// How long a job may take, such as `"2h"`, for executors that have a limit.
    time: Option<Time>,
    /// How many GPUs a job needs, for executors that assign them.
    gpus: Option<u32>,
    /// The partition of the executor.
    partition: Option<String>,
}

/// What only executors other than this machine take.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Requests {
    /// The time limit.
    pub time: Option<Duration>,
    /// The number of GPUs.
    pub gpus: Option<u32>,
    /// The partition.
    pub partition: Option<String>,
}

/// A time with a unit.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(extend("errorMessage" = "write it as `\"30m\"`, `\"2h\"` or `\"1d\"`"))]
struct Time(#[schemars(with = "String")] Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| parse_time(text).map(Self))
    }
}

/// A number of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline, extend("errorMessage" = "write a number of cores from 1, or `\"all\"`"))]
pub enum Cpus {
    /// All that the run has.
    #[schemars(with = "AllWord")]
    All,
    /// This many, or all if the run has fewer.
    Count(#[schemars(range(min = 1))] usize),
}

/// The word for all cores.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it describes a value that is read by hand")]
enum AllWord {
    #[schemars(rename = "all")]
    All,
}

impl Cpus {
    /// The number of cores of a run that has `available`.
    pub fn of(self, available: usize) -> usize {
        match self {
            Self::All => available,
            Self::Count(count) => count.min(available),
        }
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CpusVisitor)
    }
}

struct CpusVisitor;

impl Visitor<'_> for CpusVisitor {
    type Value = Cpus;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of cores")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cpus, E> {
        if text == "all" { Ok(Cpus::All) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Cpus, E> {
        let positive = usize::try_from(count).ok().filter(|count| *count > 0);
        positive.map(Cpus::Count).ok_or_else(|| E::invalid_value(Unexpected::Signed(count), &self))
    }
}

fn sorted(names: &[VariableName]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|VariableName(name)| name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The name of a variable of the environment.
#[derive(Debug, JsonSchema)]
#[schemars(title = "variable name", extend("errorMessage" = "a variable name has no `=`"))]
struct VariableName(#[schemars(length(min = 1))] String);

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        parsed(deserializer, |name| is_name(name).then(|| Self(name.to_owned())))
    }
}

/// A size with a unit, or bytes.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(untagged, extend("errorMessage" = "write it as `\"2GB\"` or `\"512MiB\"`"))]
enum Memory {
    #[schemars(with = "String")]
    Size(u64),
    Bytes(#[schemars(range(min = 1))] u64),
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemoryVisitor)
    }
}

struct MemoryVisitor;

impl Visitor<'_> for MemoryVisitor {
    type Value = Memory;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Memory, E> {
        parse_size(text).map(Memory::Size).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Memory, E> {
        let positive = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        positive.map(Memory::Bytes).ok_or_else(|| E::invalid_value(Unexpected::Signed(bytes), &self))
    }
}
