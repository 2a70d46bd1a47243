//! What `metadata` would make of some tables and images, with the parameters that they need.

use std::collections::BTreeMap;

use hamflow_stage_api::{Input, StageError};

use super::classes::Classes;
use super::files::Kept;
use super::layout::{self, Source, is_unknown_word, suggested_columns};
use super::params::{MetadataParams, MissingImages};
use super::role::Role;
use super::rows::Rows;
use crate::image_names::ImageNames;
use crate::table::Sheet;

/// A dataset that was recognised.
pub struct Inspection {
    /// The parameters that read it, without those at their defaults.
    pub params: MetadataParams,
    /// The name of the layout.
    pub layout: &'static str,
    /// The number of rows whose image was found.
    pub rows: usize,
    /// The number of rows whose image was not found.
    pub without_image: usize,
    /// The label, the display name and the number of rows of each class.
    pub classes: Vec<(String, String, usize)>,
    /// Whether there are ages.
    pub has_ages: bool,
    /// The number of rows without a lesion or patient.
    pub without_group: usize,
    /// The paths of the images that were found.
    pub images: Vec<String>,
}

/// Recognises the dataset of the tables and images; the error says why it is none.
pub fn inspect(sheets: &[Sheet], images: &Input) -> Result<Inspection, StageError> {
    let mut params = MetadataParams { missing_images: MissingImages::Drop, ..MetadataParams::default() };
    let is_known = layout::of(&Source { sheets, images: &ImageNames::new(images)?, params: &params }).is_ok();
    if !is_known {
        params.columns = renamed_columns(sheets);
    }
    let first = attempt(sheets, images, &params);
    let Err(error) = first else { return first };
    // Other classes than those of HAM10000, in a table with its columns.
    let others = MetadataParams { layout: Some("table".to_owned()), ..params.clone() };
    if params.columns.is_empty() && !sheets.is_empty() {
        if let Ok(found) = attempt(sheets, images, &others) {
            return Ok(found);
        }
        params = others;
    }
    // Rows without a diagnosis.
    params.exclude_classes = unknown_classes(sheets, images, &params)?;
    if params.exclude_classes.is_empty() { Err(error) } else { attempt(sheets, images, &params) }
}

/// The columns of all tables that have known other names. A role that one table has under its own name is not renamed.
fn renamed_columns(sheets: &[Sheet]) -> BTreeMap<Role, String> {
    let mut columns = BTreeMap::new();
    for sheet in sheets {
        for (role, name) in suggested_columns(sheet) {
            columns.entry(role).or_insert_with(|| name.to_owned());
        }
        // A patient is no renamed column, but one that the layout does not know.
        if sheet.find(Role::PatientId.name()).is_some() {
            columns.entry(Role::PatientId).or_insert_with(|| Role::PatientId.name().to_owned());
        }
    }
    columns
}

fn unknown_classes(sheets: &[Sheet], images: &Input, params: &MetadataParams) -> Result<Vec<String>, StageError> {
    let source = Source { sheets, images: &ImageNames::new(images)?, params };
    let layout = layout::of(&source)?;
    let cases = (layout.read)(layout, &source)?;
    let words = cases.diagnoses.words.iter().filter(|word| is_unknown_word(word, params));
    Ok(words.map(|word| (*word).to_owned()).collect())
}

fn attempt(sheets: &[Sheet], images: &Input, params: &MetadataParams) -> Result<Inspection, StageError> {
    let names = ImageNames::new(images)?;
    let source = Source { sheets, images: &names, params };
    let layout = layout::of(&source)?;
    let cases = (layout.read)(layout, &source)?;
    let classes = Classes::new(&cases.diagnoses, layout, params)?;
    let kept = Kept::new(&cases, &classes, &names, params)?;
    let rows = Rows::new(&cases, &classes, &kept, params)?;
    let mut counts = vec![0; classes.classes.len()];
    rows.class.iter().for_each(|class| counts[*class as usize] += 1);
    let named = classes.classes.iter().zip(counts);
    Ok(Inspection {
        layout: layout.name,
        rows: rows.len(),
        without_image: kept.without_image,
        classes: named.map(|(class, count)| (class.label.clone(), class.name.clone(), count)).collect(),
        has_ages: rows.age.as_ref().is_some_and(|ages| ages.iter().any(Option::is_some)),
        without_group: rows.lesions.alone,
        images: kept.files.iter().map(|file| file.path.clone()).collect(),
        params: params.clone(),
    })
}
