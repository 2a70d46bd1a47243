//! The kind `metadata`: reads the tables of a dataset, validates every row and finds its image.

mod cases;
mod classes;
mod declared;
mod files;
mod inspection;
mod layout;
#[cfg(test)]
mod layout_tests;
mod lesions;
mod params;
#[cfg(test)]
pub(crate) mod real;
mod role;
mod rows;
mod summary;
#[cfg(test)]
mod tests;
mod words;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Input, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError, Threads,
    near_miss,
};
use polars::prelude::{Column, DataFrame};

use crate::dataset::Class;
use crate::image_names::ImageNames;
use crate::table::{DATASET, Sheet, Source as SheetSource, warning_of_lone_rows};
use crate::{artifact, json};
use cases::Cases;
use classes::Classes;
use files::Kept;
pub use inspection::{Inspection, inspect};
use layout::{LAYOUTS, Layout};
pub use params::MetadataParams;
pub use role::Role;
use rows::Rows;

/// The kind `metadata`.
pub struct Metadata;

/// Incremented whenever equal inputs produce a different table or summary.
///
/// 4: the summary names the layout and the columns that the dataset does not have.
/// 3: words for unknown values are missing values, in every column; a row without a lesion is a lesion of its own.
/// 2: the column `dataset` is kept. It determines whether the data is synthetic, not the stage that made the CSV.
/// 1: first revision.
const REVISION: u32 = 4;

impl Kind for Metadata {
    type Params = MetadataParams;

    fn spec(&self) -> KindSpec {
        let csv = Port::new(
            "csv",
            artifact::CSV,
            "The dataset's tables, CSV or Parquet; several are joined on the image. None for folders of images by class.",
        );
        let images = Port::new("images", artifact::IMAGES, "The image folders; only the file names are read.");
        let csv = csv.or(ArtifactType::TABLE).or_external().optional().many();
        let ports = vec![csv, images.or_external().access(Access::Names)];
        let summary = "Reads the dataset's tables, validates every row, finds every image and assigns class indices.";
        KindSpec { threads: Threads::One, ..KindSpec::new("metadata", REVISION, summary, ports) }
    }

    fn check(&self, params: &MetadataParams) -> Result<(), ParamError> {
        check_layout(params)?;
        params::check(params)
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
        let images = ImageNames::new(context.input("images")?)?;
        let tables = context.inputs().all("csv");
        let with_location = |error: StageError| with_location(error, tables);
        let mut sheets = Vec::with_capacity(tables.len());
        for table in tables {
            sheets.push(read_sheet(table, context).map_err(with_location)?);
        }
        let source = layout::Source { sheets: &sheets, images: &images, params };
        let layout = layout::of(&source).map_err(with_location)?;
        let cases = (layout.read)(layout, &source).map_err(with_location)?;
        let classes = Classes::new(&cases.diagnoses, layout, params).map_err(with_location)?;
        let kept = Kept::new(&cases, &classes, &images, params).map_err(with_location)?;
        let rows = Rows::new(&cases, &classes, &kept, params).map_err(with_location)?;

        for note in cases.notes.iter().chain(&classes.notes) {
            context.warn(note.clone());
        }
        Notes { layout, source: &source, cases: &cases, rows: &rows, kept: &kept }.tell(context)?;
        let summary = summary::Summary {
            layout: layout.name,
            rows: &rows,
            classes: &classes.classes,
            rows_dropped: kept.without_image,
            rows_excluded: kept.excluded,
            images_without_rows: images.count().saturating_sub(rows.len()),
        };
        context.write("summary.json", &json::write(&summary.to_json())?)?;
        context.write("table.parquet", &crate::table::write(&frame(&rows, &classes.classes)?)?)
    }
}

/// The schema of the parameter `layout`.
fn layouts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    let each: Vec<String> = LAYOUTS.iter().map(|layout| format!("`{}` ({})", layout.name, layout.summary)).collect();
    let description =
        format!("How the dataset says which images there are; detected if it can only be one: {}.", each.join("; "));
    schemars::json_schema!({ "type": ["string", "null"], "enum": names, "description": description })
}

fn check_layout(params: &MetadataParams) -> Result<(), ParamError> {
    if let Some(name) = params.layout.as_deref().filter(|name| layout::find(name).is_none()) {
        let names = || LAYOUTS.iter().map(|layout| layout.name);
        let error = ParamError::new("layout", format!("unknown layout `{name}`"));
        let all = names().collect::<Vec<_>>().join("`, `");
        return Err(error.hint(near_miss::hint(name, names()).unwrap_or_else(|| format!("available: `{all}`"))));
    }
    Ok(())
}

fn read_sheet(input: &Input, context: &StageContext<'_>) -> Result<Sheet, StageError> {
    let file = input.file()?;
    let sheet = Sheet::read(&file.path, file.read()?)?;
    if let SheetSource::Csv { separator, comments } = sheet.source {
        if separator != ',' {
            context.log(format!("the fields of `{}` are separated by {separator:?}", file.path));
        }
        if comments > 0 {
            let lines = if comments == 1 { "1 line".to_owned() } else { format!("{comments} lines") };
            context.warn(format!("skipped {lines} of `{}` that start with `#`", file.path));
        }
    }
    Ok(sheet)
}

/// For a user's file, shows its location; a file made by a stage is stored by digest and only has a name.
fn with_location(mut error: StageError, tables: &[Input]) -> StageError {
    let Some(place) = &mut error.place else { return error };
    let files = tables.iter().filter(|table| !table.is_artifact).flat_map(|table| &table.files);
    if let Some(file) = files.into_iter().find(|file| file.path == place.path) {
        place.path = file.source.display().to_string();
    }
    error
}

/// What the user should know about how a dataset was read.
struct Notes<'n> {
    layout: &'static Layout,
    source: &'n layout::Source<'n>,
    cases: &'n Cases<'n>,
    rows: &'n Rows<'n>,
    kept: &'n Kept<'n>,
}

impl Notes<'_> {
    fn tell(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        let params = self.source.params;
        if params.layout.is_none() && self.layout.name != "ham10000" {
            context.note(format!("read as layout `{}`: {}", self.layout.name, self.layout.summary));
        }
        for sheet in self.source.sheets {
            self.columns(sheet, context)?;
        }
        if let Some(warning) = warning_of_lone_rows(self.rows.lesions.alone, "lesion_id") {
            context.warn(warning);
        }
        match self.rows.lesions.copies {
            0 => {}
            1 => context.log("1 image `…_downsampled` is in the group of its original"),
            copies => context.log(format!("{copies} images `…_downsampled` are in the groups of their originals")),
        }
        match self.source.images.ids_of_several_files() {
            0 => {}
            1 => context.log("1 image has several files of its name; the first is used"),
            ids => context.log(format!("{ids} images have several files of their name; the first of each is used")),
        }
        let Kept { without_image, excluded, .. } = self.kept;
        match without_image {
            0 => {}
            1 => context.warn("dropped 1 row without an image"),
            rows => context.warn(format!("dropped {rows} rows without an image")),
        }
        match excluded {
            0 => {}
            1 => context.warn("dropped 1 row that is excluded"),
            rows => context.warn(format!("dropped {rows} rows that are excluded")),
        }
        Ok(())
    }

    /// Notes the columns that are not used, and warns if one of them looks like one that is missing.
    fn columns(&self, sheet: &Sheet, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut used = Vec::new();
        for role in Role::ALL {
            used.extend(self.layout.find(role, sheet, self.source.params)?);
        }
        let diagnoses = &self.cases.diagnoses;
        let is_class = |name: &str| diagnoses.cells.is_none() && diagnoses.words.contains(&name);
        let unused: Vec<&str> = (0..sheet.header.len())
            .filter(|column| !used.contains(column))
            .map(|column| &sheet.header[column][..])
            .filter(|name| !name.is_empty() && !is_class(name))
            .collect();
        let (name, count) = (sheet.name(), unused.len());
        match &unused[..] {
            [] => {}
            [column] => context.log(format!("column `{column}` of `{name}` is not used")),
            columns => context.log(format!("{count} columns of `{name}` are not used: `{}`", columns.join("`, `"))),
        }
        for (role, wanted) in self.layout.columns {
            let is_there = self.layout.find(*role, sheet, self.source.params)?.is_some();
            let close = near_miss::did_you_mean(wanted, unused.iter().copied()).filter(|_| !is_there);
            if let Some(question) = close {
                context.warn(format!("`{name}` has no column `{wanted}`; {question}"));
            }
        }
        Ok(())
    }
}

impl Columns<MetadataParams> for Metadata {
    fn made(
        &self,
        params: &MetadataParams,
        output: &str,
        _of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        let patient = params.columns.contains_key(&Role::PatientId).then_some(Role::PatientId.name());
        (output == "table").then(|| COLUMNS.into_iter().chain(patient).map(str::to_owned).collect())
    }
}

/// The columns of the table; the last one only if the dataset has it.
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
    DATASET,
];

fn frame(rows: &Rows<'_>, classes: &[Class]) -> Result<DataFrame, StageError> {
    let of_class = |text: fn(&Class) -> &String| -> Vec<&str> {
        rows.class.iter().map(|class| text(&classes[*class as usize]).as_str()).collect()
    };
    let words = |role: Role| -> Vec<Option<&str>> {
        rows.words.get(&role).map_or_else(|| vec![None; rows.len()], |words| words.values().collect())
    };
    let labels = of_class(|class| &class.label);
    let dataset = rows.words.get(&Role::Dataset).map(|_| Column::new(DATASET.into(), words(Role::Dataset)));
    let patients = rows.patient_id.as_ref().map(|ids| Column::new(Role::PatientId.name().into(), ids));
    let ages = rows.age.clone().unwrap_or_else(|| vec![None; rows.len()]);
    let lesions: Vec<&str> = rows.lesions.ids.iter().map(AsRef::as_ref).collect();
    let columns = vec![
        Column::new("lesion_id".into(), lesions),
        Column::new("image_id".into(), &rows.image_id),
        Column::new("dx".into(), &labels),
        Column::new("dx_type".into(), words(Role::DxType)),
        Column::new("age".into(), ages),
        Column::new("sex".into(), words(Role::Sex)),
        Column::new("localization".into(), words(Role::Localization)),
        Column::new("folder".into(), &rows.folder),
        Column::new("path".into(), &rows.path),
        Column::new("label".into(), &labels),
        Column::new("cell_type".into(), of_class(|class| &class.name)),
        Column::new("cell_type_idx".into(), rows.class.iter().map(|class| i64::from(*class)).collect::<Vec<i64>>()),
    ];
    crate::table::frame(columns.into_iter().chain(dataset).chain(patients).collect())
}
