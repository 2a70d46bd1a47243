//! The kind `split`: assigns rows to training, validation and test without leakage.
//!
//! Rows of one group (a lesion) stay together, and so do groups that share a byte-identical image. Each class is divided
//! in the requested fractions. The same seed gives the same split, regardless of the order of the rows.

mod assign;
mod balance;
mod groups;
#[cfg(test)]
mod tests;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Digest, Kind, KindSpec, Output, ParamError, Port, Random, StageContext, StageError,
    Threads,
};
use polars::prelude::{Column, DataFrame};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::dataset::SPLITS;
use crate::image_names::ImageNames;
use crate::{json, table};
use assign::assign;
use balance::Balance;
use groups::Groups;

/// The index of the test split in [`SPLITS`].
const TEST: usize = 2;

/// The parameters of `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SplitParams {
    /// The fraction of each class per split; they sum to 1.
    pub fractions: Fractions,
    /// If 2 or more, the column `fold` assigns the rows outside the test split to that many folds, numbered from 0; 0
    /// for none.
    #[schemars(range(max = 1000))]
    pub folds: u32,
    /// The column that defines the groups. Rows with equal values are in the same split.
    pub group: String,
    /// The column with the classes, which are divided evenly over the splits.
    pub stratify: String,
}

impl Default for SplitParams {
    fn default() -> Self {
        Self { fractions: Fractions::default(), folds: 0, group: "lesion_id".to_owned(), stratify: "dx".to_owned() }
    }
}

/// The fraction of each class per split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    /// The training fraction; greater than 0.
    pub train: f64,
    /// The validation fraction; may be 0.
    pub validation: f64,
    /// The test fraction; may be 0.
    pub test: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { train: 0.72, validation: 0.08, test: 0.2 }
    }
}

impl Fractions {
    fn in_order(&self) -> [f64; 3] {
        [self.train, self.validation, self.test]
    }
}

/// The kind `split`.
pub struct Split;

/// Incremented whenever equal inputs produce a different split or balance.
///
/// 2: the balance counts the rows without a group.
/// 1: first revision.
const REVISION: u32 = 2;

impl Kind for Split {
    type Params = SplitParams;

    fn spec(&self) -> KindSpec {
        let table = Port::new("table", ArtifactType::TABLE, "The table to split.");
        let images = Port::new("images", artifact::IMAGES, "The images; byte-identical ones are in the same split.");
        let ports = vec![table, images.or_external().optional().access(Access::Content)];
        let summary = "Splits by group, evenly over the classes, identical images together, and proves it.";
        KindSpec { seeded: true, threads: Threads::One, ..KindSpec::new("split", REVISION, summary, ports) }
    }

    fn check(&self, params: &SplitParams) -> Result<(), ParamError> {
        check(params)
    }

    fn outputs(&self, _params: &SplitParams) -> Vec<Output> {
        vec![
            Output::new("table", ArtifactType::TABLE, "table.parquet"),
            Output::new("balance", artifact::BALANCE, "balance.json"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<SplitParams>> {
        Some(self)
    }

    fn run(&self, params: &SplitParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut frame = table::read(context.input("table")?.file()?, None)?;
        if frame.height() == 0 {
            return Err(StageError::input("the table has no rows to split"));
        }
        let ids = table::required_strings(&frame, "image_id")?;
        let table::Groups { names, unnamed, alone } = table::groups(&frame, &params.group, &ids)?;
        if alone == ids.len() {
            context.warn(format!(
                "no row has a `{}`: whether images of one lesion or patient are in different splits cannot be checked",
                params.group
            ));
        } else if let Some(warning) = table::warning_of_lone_rows(unnamed, &params.group) {
            context.warn(warning);
        }
        let classes = required_labels(&frame, &params.stratify)?;
        let digests = match context.inputs().optional("images") {
            Some(images) => Some(digests(&ImageNames::new(images)?, &ids)?),
            None => None,
        };

        let groups = Groups::new(&names, &classes, digests.as_deref());
        let splits = assign(&groups, None, &params.fractions.in_order(), &mut context.random("split")?);
        let folds = folds(&groups, &splits, params.folds, &mut context.random("fold")?);

        let per_row = groups.per_row(&splits);
        let balance = Balance {
            params,
            ids: &ids,
            names: &names,
            alone,
            images_checked: digests.is_some(),
            groups: &groups,
            splits: &per_row,
            folds: folds.as_deref(),
        }
        .to_json();
        for empty in balance::empty_sides(&balance) {
            context.warn(empty);
        }
        add_columns(&mut frame, &per_row, folds)?;
        context.write("balance.json", &json::write(&balance)?)?;
        context.write("table.parquet", &table::write(&frame)?)
    }
}

impl Columns<SplitParams> for Split {
    fn read(&self, params: &SplitParams) -> Vec<(&'static str, String)> {
        ["image_id", &params.group, &params.stratify].map(|column| ("table", column.to_owned())).to_vec()
    }

    fn made(
        &self,
        params: &SplitParams,
        output: &str,
        of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        let columns = of("table").filter(|_| output == "table")?;
        let fold = (params.folds > 0).then(|| "fold".to_owned());
        Some(columns.into_iter().chain(["split".to_owned()]).chain(fold).collect())
    }
}

fn add_columns(frame: &mut DataFrame, splits: &[usize], folds: Option<Vec<Option<i64>>>) -> Result<(), StageError> {
    let names: Vec<&str> = splits.iter().map(|&split| SPLITS[split]).collect();
    table::with_column(frame, Column::new("split".into(), names))?;
    match folds {
        Some(folds) => table::with_column(frame, Column::new("fold".into(), folds)),
        None => Ok(()),
    }
}

/// The fold of each row; `None` for test rows.
fn folds(groups: &Groups<'_>, splits: &[usize], folds: u32, random: &mut Random) -> Option<Vec<Option<i64>>> {
    if folds == 0 {
        return None;
    }
    let open: Vec<bool> = splits.iter().map(|&split| split != TEST).collect();
    let fractions = vec![1.0 / f64::from(folds); folds as usize];
    let folds = assign(groups, Some(&open), &fractions, random);
    let per_row = groups.per_row(&folds).into_iter().zip(groups.per_row(&open));
    Some(per_row.map(|(fold, open)| open.then_some(fold as i64)).collect())
}

fn required_labels(frame: &DataFrame, column: &str) -> Result<Vec<String>, StageError> {
    let mut labels = Vec::with_capacity(frame.height());
    for (row, label) in table::labels(frame, column)?.into_iter().enumerate() {
        labels.push(label.ok_or_else(|| {
            StageError::input(format!("column `{column}` has no value in row {} of the table", row + 1))
        })?);
    }
    Ok(labels)
}

/// The digest of each row's image.
fn digests(images: &ImageNames<'_>, ids: &[String]) -> Result<Vec<Digest>, StageError> {
    let files = ids.iter().map(|id| images.find(id)).collect::<Result<Vec<_>, _>>()?;
    let missing: Vec<&str> =
        ids.iter().zip(&files).filter(|(_, file)| file.is_none()).map(|(id, _)| id.as_str()).collect();
    if missing.is_empty() {
        files.into_iter().flatten().map(|file| file.known_digest()).collect()
    } else {
        Err(images.missing(missing.into_iter()))
    }
}

fn check(params: &SplitParams) -> Result<(), ParamError> {
    let fractions = params.fractions.in_order();
    for (name, fraction) in SPLITS.iter().zip(fractions) {
        let path = format!("fractions.{name}");
        if !(0.0..=1.0).contains(&fraction) {
            return Err(ParamError::new(&path, format!("`{path}` must be between 0 and 1, not {fraction}")));
        }
    }
    if params.fractions.train == 0.0 {
        return Err(ParamError::new("fractions.train", "`fractions.train` must be greater than 0"));
    }
    let sum: f64 = fractions.iter().sum();
    if (sum - 1.0).abs() > 1e-9 {
        return Err(ParamError::new("fractions", format!("`fractions` must sum to 1, not {sum}")));
    }
    if params.folds == 1 {
        return Err(ParamError::new("folds", "`folds` must be 0 or at least 2, not 1"));
    }
    if params.folds > 1000 {
        return Err(ParamError::new("folds", format!("`folds` must be at most 1000, not {}", params.folds)));
    }
    for (name, column) in [("group", &params.group), ("stratify", &params.stratify)] {
        if column.is_empty() {
            return Err(ParamError::new(name, format!("`{name}` must not be empty")));
        }
        if ["split", "fold"].contains(&column.as_str()) {
            return Err(ParamError::new(name, format!("`{name}` cannot be `{column}`, a column that this stage adds")));
        }
    }
    Ok(())
}
