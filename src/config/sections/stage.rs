//! The keys of `[stages.NAME]` that the engine reads itself.

use std::fmt;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::field_schema::properties_of;
use crate::config::quantity::parse_size;
use crate::config::spanned::parsed;
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
    /// What a job needs, such as `"2GB"`.
    memory: Option<Memory>,
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

    /// Bytes of memory that a job needs.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.memory.map(|(Memory::Bytes(bytes) | Memory::Size(bytes))| bytes)
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
