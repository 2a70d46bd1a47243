//! The replacement values, and the rows from which they are computed.

use std::collections::BTreeMap;

use hamflow_stage_api::StageError;
use polars::prelude::DataFrame;
use serde_json::{Value, json};

use super::{FitRows, ImputeParams, Strategy};
use crate::table::statistics::{mean, median};
use crate::table::{has_column, labels, required_strings};

/// A replacement per group, and a default.
#[derive(Default)]
pub struct Fit {
    all: Option<f64>,
    groups: BTreeMap<String, Option<f64>>,
    of_row: Vec<Option<String>>,
}

impl Fit {
    /// Computes the replacements from `values`, one per row of `frame`.
    pub fn new(frame: &DataFrame, values: &[Option<f64>], params: &ImputeParams) -> Result<Self, StageError> {
        let learned = match params.fit {
            FitRows::All => values.to_vec(),
            FitRows::Train => of_training_rows(frame, values)?,
        };
        let mut fit = Self { all: None, groups: BTreeMap::new(), of_row: Vec::new() };
        fit.all = match params.strategy {
            Strategy::Mean | Strategy::GroupMean => mean(&learned),
            Strategy::Median => median(&learned),
            Strategy::Constant => params.value,
            Strategy::Drop => None,
        };
        if fit.all.is_none() && params.strategy != Strategy::Drop && values.contains(&None) {
            let rows = if params.fit == FitRows::Train { "training row" } else { "row" };
            return Err(StageError::input(format!("no {rows} has a value in column `{}`", params.column))
                .hint("`strategy = \"constant\"` does not need known values"));
        }
        if let (Strategy::GroupMean, Some(group)) = (params.strategy, &params.group) {
            fit.of_row = labels(frame, group)?;
            let mut members: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
            for (group, value) in fit.of_row.iter().zip(&learned) {
                if let Some(group) = group {
                    members.entry(group).or_default().push(*value);
                }
            }
            fit.groups = members.into_iter().map(|(group, values)| (group.to_owned(), mean(&values))).collect();
        }
        Ok(fit)
    }

    /// The values with missing ones replaced.
    pub fn fill(&self, values: &[Option<f64>]) -> Vec<Option<f64>> {
        let group_of = |row: usize| self.of_row.get(row).and_then(Option::as_ref);
        let fill = |row: usize| group_of(row).and_then(|group| self.groups.get(group).copied().flatten()).or(self.all);
        values.iter().enumerate().map(|(row, value)| value.or_else(|| fill(row))).collect()
    }

    /// The replacement values, by group if there are groups.
    pub fn to_json(&self) -> Value {
        json!({"all": self.all, "groups": self.groups})
    }
}

fn of_training_rows(frame: &DataFrame, values: &[Option<f64>]) -> Result<Vec<Option<f64>>, StageError> {
    if !has_column(frame, "split") {
        return Err(StageError::input("`fit = \"train\"` needs a table with a column `split`")
            .hint("run the stage after `split`: `table = \"split\"`"));
    }
    let splits = required_strings(frame, "split")?;
    // Rows of the other splits count as missing.
    Ok(values.iter().zip(splits).map(|(value, split)| value.filter(|_| split == "train")).collect())
}
