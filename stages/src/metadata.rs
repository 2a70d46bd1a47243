//! The kind `metadata`: reads the dataset's CSV, validates every row and finds its image.

mod classes;
#[cfg(test)]
pub(crate) mod real;
mod rows;
mod summary;
#[cfg(test)]
mod tests;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError, Threads,
};
use polars::prelude::{Column, DataFrame};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::dataset::Class;
use crate::image_names::ImageNames;
use crate::table::Csv;
use crate::{json, table};
use rows::Rows;

/// The parameters of `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataParams {
    /// The classes: `label` is the code in column `dx`, `name` the display name. Classes are indexed in alphabetical
    /// order of the names.
    pub classes: Vec<Class>,
    /// What to do with a row without an image: `error`, or `drop` (drops and counts it).
    pub missing_images: MissingImages,
}

impl Default for MetadataParams {
    fn default() -> Self {
        Self { classes: classes::ham10000(), missing_images: MissingImages::Error }
    }
}

/// What to do with a row without an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingImages {
    /// Fail the stage and list the first few.
    Error,
    /// Drop and count the row.
    Drop,
}

/// The kind `metadata`.
pub struct Metadata;

/// Incremented whenever equal inputs produce a different table or summary.
///
/// 3: words for unknown values are missing values, in every column; a row without a lesion is a lesion of its own.
/// 2: the column `dataset` is kept. It determines whether the data is synthetic, not the stage that made the CSV.
/// 1: first revision.
const REVISION: u32 = 3;

impl Kind for Metadata {
    type Params = MetadataParams;

    fn spec(&self) -> KindSpec {
        let csv = Port::new("csv", artifact::CSV, "The dataset's CSV, with the columns of `HAM10000_metadata.csv`.");
        let images = Port::new("images", artifact::IMAGES, "The image folders; only the file names are read.");
        let ports = vec![csv.or_external(), images.or_external().access(Access::Names)];
        let summary = "Reads the CSV, validates every row, finds every image and assigns class indices.";
        KindSpec { threads: Threads::One, ..KindSpec::new("metadata", REVISION, summary, ports) }
    }

    fn check(&self, params: &MetadataParams) -> Result<(), ParamError> {
        classes::check(&params.classes)
    }

    fn outputs(&self, _params: &MetadataParams) -> Vec<Output> {
        vec![
            Output::new("table", ArtifactType::TABLE, "table.parquet"),
            Output::new("summary", artifact::SUMMARY, "summary.json"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<MetadataParams>> {
        Some(self)
    }

    fn run(&self, params: &MetadataParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let classes = classes::in_index_order(params.classes.clone());
        let input = context.input("csv")?;
        let images = ImageNames::new(context.input("images")?)?;

        let file = input.file()?;
        // For a user's file, show its location; a file made by a stage is stored by digest and only has a name.
        let with_location = |mut error: StageError| {
            if let (Some(place), false) = (&mut error.place, input.is_artifact) {
                place.path = file.source.display().to_string();
            }
            error
        };
        let csv = Csv::parse(&file.path, &file.read()?).map_err(with_location)?;
        let rows = Rows::read(&csv, &classes).map_err(with_location)?;
        if csv.separator != ',' {
            context.log(format!("the fields of `{}` are separated by {:?}", file.path, csv.separator));
        }
        if csv.comments > 0 {
            let lines = if csv.comments == 1 { "1 line".to_owned() } else { format!("{} lines", csv.comments) };
            context.warn(format!("skipped {lines} of `{}` that start with `#`", file.path));
        }
        for column in rows::unused_columns(&csv).filter(|column| !column.is_empty()) {
            context.log(format!("column `{column}` of `{}` is not used", file.path));
        }
        let (rows, dropped) = rows.join(&images, params.missing_images)?;
        if let Some(warning) = table::warning_of_lone_rows(rows.without_lesion(), "lesion_id") {
            context.warn(warning);
        }
        if dropped > 0 {
            let rows = if dropped == 1 { "row" } else { "rows" };
            context.warn(format!("dropped {dropped} {rows} without an image"));
        }
        let summary = summary::Summary {
            rows: &rows,
            classes: &classes,
            rows_dropped: dropped,
            images_without_rows: images.count().saturating_sub(rows.len()),
        };
        context.write("summary.json", &json::write(&summary.to_json())?)?;
        context.write("table.parquet", &table::write(&frame(rows, &classes)?)?)
    }
}

impl Columns<MetadataParams> for Metadata {
    fn made(
        &self,
        _params: &MetadataParams,
        output: &str,
        _of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        (output == "table").then(|| COLUMNS.map(str::to_owned).to_vec())
    }
}

/// The columns of the table; the last one only if the CSV has it.
const COLUMNS: [&str; 13] = [
    "lesion_id",
    "image_id",
    "dx",
    "dx_type",
    "age",
    "sex",
    "localization",
    "folder",
    "path",
    "label",
    "cell_type",
    "cell_type_idx",
    table::DATASET,
];

fn frame(rows: Rows, classes: &[Class]) -> Result<DataFrame, StageError> {
    let labels: Vec<&str> = rows.class.iter().map(|&class| classes[class].label.as_str()).collect();
    let names: Vec<&str> = rows.class.iter().map(|&class| classes[class].name.as_str()).collect();
    let indices: Vec<i64> = rows.class.iter().map(|&class| class as i64).collect();
    let dataset = rows.dataset.map(|values| Column::new(table::DATASET.into(), values));
    let columns = vec![
        Column::new("lesion_id".into(), rows.lesion_id),
        Column::new("image_id".into(), rows.image_id),
        Column::new("dx".into(), &labels),
        Column::new("dx_type".into(), rows.dx_type),
        Column::new("age".into(), rows.age),
        Column::new("sex".into(), rows.sex),
        Column::new("localization".into(), rows.localization),
        Column::new("folder".into(), rows.folder),
        Column::new("path".into(), rows.path),
        Column::new("label".into(), &labels),
        Column::new("cell_type".into(), names),
        Column::new("cell_type_idx".into(), indices),
    ];
    table::frame(columns.into_iter().chain(dataset).collect())
}
