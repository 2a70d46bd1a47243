//! The stages that the inputs of a stage come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Params;

/// The stages upstream of a stage, and the stage itself.
///
/// It has no names of stages, so that renaming one changes no output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The stages, each after those that it reads; the last one is the stage that asks.
    pub stages: Vec<LineageStage>,
}

/// A stage of a lineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineageStage {
    /// The kind; of several stages of a kind, the second one is `KIND 2`.
    pub label: String,
    /// The kind.
    pub kind: String,
    /// The resolved parameters; none of a kind that runs programs, whose lines may name what is private.
    pub params: Params,
    /// The seed, for seeded kinds.
    pub seed: Option<u64>,
    /// What it reads, in order of the ports.
    pub inputs: Vec<LineageInput>,
}

/// An edge of a lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageInput {
    /// The port.
    pub port: String,
    /// Where it comes from.
    pub from: LineageSource,
}

/// What an edge of a lineage starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageSource {
    /// The stage at this place in [`Lineage::stages`].
    Stage(usize),
    /// An input from outside the pipeline; equal numbers are the same input.
    Outside(usize),
}

impl Lineage {
    /// The lineage as rows for a [`View`](crate::View): each parameter, and what each stage reads.
    pub fn text(&self) -> String {
        let mut rows = BTreeMap::new();
        let upstream = self.stages.len().saturating_sub(1);
        for (place, stage) in self.stages.iter().enumerate() {
            let reads = stage.inputs.iter().map(|input| match input.from {
                LineageSource::Stage(from) => format!("{}={}", input.port, self.stages[from].label),
                LineageSource::Outside(number) => format!("{}=input {}", input.port, number + 1),
            });
            rows.insert(format!("{} reads", stage.label), reads.collect::<Vec<_>>().join(", "));
            // The own parameters are in the key anyway.
            if place < upstream {
                rows.extend(
                    stage.params.iter().map(|(name, value)| (format!("{}.{name}", stage.label), value.to_string())),
                );
                rows.extend(stage.seed.map(|seed| (format!("{}.seed", stage.label), seed.to_string())));
            }
        }
        rows.into_iter().map(|(name, value)| format!("{name}\t{value}\n")).collect()
    }
}
