//! The validated rows of the CSV with the files of their images.

use std::collections::HashMap;

use hamflow_stage_api::{StageError, near_miss};

use super::MissingImages;
use crate::dataset::Class;
use crate::image_names::ImageNames;
use crate::table::{Csv, DATASET, Field, SYNTHETIC};

const COLUMNS: [&str; 7] = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"];

/// The rows as columns, in CSV order.
#[derive(Debug, Default)]
pub struct Rows {
    /// The lesion id.
    pub lesion_id: Vec<String>,
    /// The image id.
    pub image_id: Vec<String>,
    /// The class index.
    pub class: Vec<usize>,
    /// The method of diagnosis.
    pub dx_type: Vec<Option<String>>,
    /// The age of the patient in years.
    pub age: Vec<Option<f64>>,
    /// The sex of the patient.
    pub sex: Vec<Option<String>>,
    /// The body site.
    pub localization: Vec<Option<String>>,
    /// The source of the image, if the CSV has that column.
    pub dataset: Option<Vec<Option<String>>>,
    /// The folder index of the image's file; filled in by `join`.
    pub folder: Vec<i64>,
    /// The path of the image's file below that folder; filled in by `join`.
    pub path: Vec<String>,
}

impl Rows {
    /// Validates and reads every row.
    pub fn read(csv: &Csv, classes: &[Class]) -> Result<Self, StageError> {
        let mut at = [0; 7];
        for (index, column) in at.iter_mut().zip(COLUMNS) {
            *index = csv.column(column)?;
        }
        let source = csv.header.iter().position(|column| column == DATASET);
        let mut rows = Self { dataset: source.map(|_| Vec::with_capacity(csv.rows.len())), ..Self::default() };
        let mut seen: HashMap<&str, u64> = HashMap::with_capacity(csv.rows.len());
        for row in &csv.rows {
            let [lesion, image, dx, dx_type, age, sex, localization] = at.map(|index| &row.fields[index]);
            for (column, field) in [("lesion_id", lesion), ("image_id", image)] {
                if field.text.is_empty() {
                    return Err(csv.error(field, format!("line {} has no `{column}`", field.line)));
                }
            }
            if let Some(first) = seen.insert(&image.text, image.line) {
                let message = format!("duplicate image `{}` in lines {first} and {}", image.text, image.line);
                return Err(csv.error(image, message).hint("each image must have one row"));
            }
            rows.lesion_id.push(lesion.text.clone());
            rows.image_id.push(image.text.clone());
            rows.class.push(class(csv, dx, classes)?);
            rows.dx_type.push(text(dx_type));
            rows.age.push(age_of(csv, age)?);
            rows.sex.push(text(sex));
            rows.localization.push(text(localization));
            if let Some((values, column)) = rows.dataset.as_mut().zip(source) {
                values.push(text(&row.fields[column]));
            }
        }
        Ok(rows)
    }

    /// Whether any of the images is synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.dataset.iter().flatten().any(|source| source.as_deref() == Some(SYNTHETIC))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.image_id.len()
    }

    /// Finds the file of every row's image. Also returns the number of rows that were dropped for lack of one.
    pub fn join(mut self, images: &ImageNames<'_>, policy: MissingImages) -> Result<(Self, usize), StageError> {
        let files = self.image_id.iter().map(|id| images.find(id)).collect::<Result<Vec<_>, _>>()?;
        let keep: Vec<bool> = files.iter().map(Option::is_some).collect();
        let missing: Vec<&str> =
            self.image_id.iter().zip(&keep).filter(|(_, kept)| !**kept).map(|(id, _)| id.as_str()).collect();
        let dropped = missing.len();
        // If no image is found at all, the configuration is probably wrong; an empty table would hide that.
        if dropped > 0 && (policy == MissingImages::Error || dropped == self.len()) {
            let error = images.missing(missing.into_iter());
            let hint = "`missing_images = \"drop\"` drops such rows";
            return Err(if error.hint.is_some() || dropped == keep.len() { error } else { error.hint(hint) });
        }
        for file in files.into_iter().flatten() {
            self.folder.push(i64::from(file.root));
            self.path.push(file.path.clone());
        }
        if dropped > 0 {
            let Self { lesion_id, image_id, class, dx_type, age, sex, localization, dataset, folder: _, path: _ } =
                &mut self;
            retain(lesion_id, &keep);
            retain(image_id, &keep);
            retain(class, &keep);
            retain(dx_type, &keep);
            retain(age, &keep);
            retain(sex, &keep);
            retain(localization, &keep);
            if let Some(dataset) = dataset {
                retain(dataset, &keep);
            }
        }
        Ok((self, dropped))
    }
}

/// The columns of the CSV that are not used.
pub fn unused_columns(csv: &Csv) -> impl Iterator<Item = &str> {
    csv.header.iter().map(String::as_str).filter(|column| !COLUMNS.contains(column) && *column != DATASET)
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or(false));
}

fn text(field: &Field) -> Option<String> {
    (!field.text.is_empty()).then(|| field.text.clone())
}

fn class(csv: &Csv, field: &Field, classes: &[Class]) -> Result<usize, StageError> {
    classes.iter().position(|class| class.label == field.text).ok_or_else(|| {
        let message = format!("unknown class `{}` in column `dx` of line {}", field.text, field.line);
        let mut error = csv.error(field, message);
        let known = || classes.iter().map(|class| class.label.as_str());
        // `scc` is another diagnosis, not a misspelt `bcc`: only suggest classes that differ in length or case.
        let is_typo = |label: &&str| label.len() != field.text.len() || label.eq_ignore_ascii_case(&field.text);
        let listed = || {
            format!(
                "known classes: `{}`; set them with the parameter `classes`",
                known().collect::<Vec<_>>().join("`, `")
            )
        };
        error.hint = Some(near_miss::did_you_mean(&field.text, known().filter(is_typo)).unwrap_or_else(listed));
        error
    })
}

/// The maximum plausible age in years.
const MAX_AGE: f64 = 130.0;

fn age_of(csv: &Csv, field: &Field) -> Result<Option<f64>, StageError> {
    if field.text.is_empty() {
        return Ok(None);
    }
    match field.text.trim().parse::<f64>() {
        Ok(age) if (0.0..=MAX_AGE).contains(&age) => Ok(Some(age)),
        _ => {
            let message = format!("invalid age `{}` in line {}", field.text, field.line);
            Err(csv.error(field, message).hint("leave the field empty if the age is unknown"))
        }
    }
}
