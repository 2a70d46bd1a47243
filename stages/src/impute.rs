//! The kind `impute`: fills in the missing values of one column.

mod fill;
#[cfg(test)]
mod tests;

use hamflow_stage_api::{
    ArtifactType, Columns, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError, Threads,
};
use polars::prelude::{BooleanChunked, Column, DataFrame, NewChunkedArray};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::artifact;
use crate::{json, table};
use fill::Fit;

/// The parameters of `impute`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImputeParams {
    /// The numeric column whose missing values are filled in.
    pub column: String,
    /// Replacement for missing values: `mean`, `median`, `group-mean`, `constant`, or `drop` (drops the rows).
    pub strategy: Strategy,
    /// With `strategy = "group-mean"`: the column that defines the groups. A group without any value uses the overall mean.
    pub group: Option<String>,
    /// With `strategy = "constant"`: the replacement.
    pub value: Option<f64>,
    /// The rows from which means and medians are computed: `all`, or `train` (rows whose `split` is `train`).
    pub fit: FitRows,
}

impl Default for ImputeParams {
    fn default() -> Self {
        Self { column: "age".to_owned(), strategy: Strategy::Mean, group: None, value: None, fit: FitRows::All }
    }
}

/// The replacement for missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The mean of the known values.
    Mean,
    /// The median of the known values.
    Median,
    /// The mean of the known values in the row's group.
    GroupMean,
    /// The parameter `value`.
    Constant,
    /// Drop the rows.
    Drop,
}

/// The rows from which means and medians are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FitRows {
    /// All rows including test rows, as in the notebook.
    All,
    /// Only training rows.
    Train,
}

/// The kind `impute`.
pub struct Impute;

impl Kind for Impute {
    type Params = ImputeParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![Port::new("table", ArtifactType::TABLE, "The table with the column to fill.")];
        let summary = "Fills in the missing values of one column and marks them in `<column>_imputed`.";
        KindSpec { threads: Threads::One, ..KindSpec::new("impute", 2, summary, ports) }
    }

    fn check(&self, params: &ImputeParams) -> Result<(), ParamError> {
        check(params)
    }

    fn outputs(&self, _params: &ImputeParams) -> Vec<Output> {
        vec![
            Output::new("table", ArtifactType::TABLE, "table.parquet"),
            Output::new("summary", artifact::SUMMARY, "summary.json"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<ImputeParams>> {
        Some(self)
    }

    fn run(&self, params: &ImputeParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut frame = table::read(context.input("table")?.file()?, None)?;
        let values = table::floats(&frame, &params.column)?;
        let missing: Vec<bool> = values.iter().map(Option::is_none).collect();
        let n_missing = missing.iter().filter(|missing| **missing).count();
        let is_fitted = !matches!(params.strategy, Strategy::Constant | Strategy::Drop);
        let is_absent = is_fitted && !values.is_empty() && n_missing == values.len();
        if is_absent {
            context.warn(format!("column `{}` has no values, so none are filled in", params.column));
        }
        let fit = match is_absent {
            true => Fit::default(),
            false => Fit::new(&frame, &values, params)?,
        };
        let filled = fit.fill(&values);

        let (column, marks) = (params.column.as_str(), format!("{}_imputed", params.column));
        table::with_column(&mut frame, Column::new(column.into(), filled))?;
        let is_drop = params.strategy == Strategy::Drop;
        let is_filled = !is_drop && !is_absent;
        // Values that an earlier stage filled in stay marked.
        let before = filled_before(&frame, &marks, missing.len());
        let marked: Vec<bool> = missing
            .iter()
            .zip(before)
            .map(|(missing, before)| (*missing && is_filled) || before == Some(true))
            .collect();
        table::with_column(&mut frame, Column::new(marks.as_str().into(), marked))?;
        if is_drop {
            let keep = BooleanChunked::from_iter_values("keep".into(), missing.iter().map(|missing| !missing));
            frame = frame.filter(&keep).map_err(|error| StageError::bug(format!("cannot drop rows: {error}")))?;
        }
        let filled = if is_filled { n_missing } else { 0 };
        let dropped = if is_drop { n_missing } else { 0 };
        let summary = json!({
            "column": column,
            "strategy": params.strategy,
            "fit": params.fit,
            "group": params.group,
            "rows": frame.height(),
            "filled": filled,
            "dropped": dropped,
            "values": fit.to_json(),
        });
        context.write("summary.json", &json::write(&summary)?)?;
        context.write("table.parquet", &table::write(&frame)?)
    }
}

impl Columns<ImputeParams> for Impute {
    fn read(&self, params: &ImputeParams) -> Vec<(&'static str, String)> {
        let ImputeParams { column, strategy, group, fit, value: _ } = params;
        let group = group.clone().filter(|_| *strategy == Strategy::GroupMean);
        let is_fitted = matches!(strategy, Strategy::Mean | Strategy::Median | Strategy::GroupMean);
        let split = (is_fitted && *fit == FitRows::Train).then(|| "split".to_owned());
        [Some(column.clone()), group, split].into_iter().flatten().map(|column| ("table", column)).collect()
    }

    fn made(
        &self,
        params: &ImputeParams,
        output: &str,
        of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        let columns = of("table").filter(|_| output == "table")?;
        Some(columns.into_iter().chain([format!("{}_imputed", params.column)]).collect())
    }
}

fn check(params: &ImputeParams) -> Result<(), ParamError> {
    let ImputeParams { column, strategy, group, value, fit: _ } = params;
    if column.is_empty() {
        return Err(ParamError::new("column", "`column` must not be empty"));
    }
    match (strategy, group, value) {
        (Strategy::GroupMean, None, _) => Err(ParamError::new("group", "`strategy = \"group-mean\"` needs `group`")
            .hint("set the column that defines the groups, e.g. `group = \"sex\"`")),
        (Strategy::Constant, _, None) => Err(ParamError::new("value", "`strategy = \"constant\"` needs `value`")),
        (Strategy::GroupMean, Some(_), None) | (Strategy::Constant, None, Some(_)) | (_, None, None) => Ok(()),
        // A parameter without effect is an error: the user probably meant another strategy.
        (_, Some(_), _) if *strategy != Strategy::GroupMean => {
            Err(ParamError::new("group", "`group` requires `strategy = \"group-mean\"`"))
        }
        _ => Err(ParamError::new("value", "`value` requires `strategy = \"constant\"`")),
    }
}

/// Whether an earlier stage marked each row as filled in, as a boolean or a number.
fn filled_before(frame: &DataFrame, marks: &str, rows: usize) -> Vec<Option<bool>> {
    let numbers = || table::integers(frame, marks).map(|marks| marks.iter().map(|mark| Some((*mark)? != 0)).collect());
    table::booleans(frame, marks).or_else(|_| numbers()).unwrap_or_else(|_| vec![None; rows])
}
