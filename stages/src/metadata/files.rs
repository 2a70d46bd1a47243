//! The cases whose images are there, with their files.

use std::collections::HashSet;

use hamflow_stage_api::{InputFile, StageError, near_miss};

use super::cases::Cases;
use super::classes::Classes;
use super::layout::is_unknown_word;
use super::params::{MetadataParams, MissingImages};
use crate::image_names::{ImageNames, bare_id};

/// The cases that become rows.
pub struct Kept<'a> {
    /// The index of each case.
    pub cases: Vec<u32>,
    /// The file of its image.
    pub files: Vec<&'a InputFile>,
    /// The number of cases without an image.
    pub without_image: usize,
    /// The number of cases that `exclude_images` and `exclude_classes` leave out.
    pub excluded: usize,
}

impl<'a> Kept<'a> {
    /// Finds the file of every case's image. Each image must have one case.
    pub fn new(
        cases: &Cases<'_>,
        classes: &Classes,
        images: &ImageNames<'a>,
        params: &MetadataParams,
    ) -> Result<Self, StageError> {
        let excluded = excluded_images(cases, params)?;
        let mut kept =
            Self { cases: Vec::with_capacity(cases.images.len()), files: Vec::new(), without_image: 0, excluded: 0 };
        let (mut missing, mut case_of_file) = (Vec::new(), vec![NO_CASE; images.input().files.len()]);
        for (case, id) in cases.images.iter().enumerate() {
            let is_class = classes.of_word[cases.diagnoses.of_row[case] as usize].is_some();
            if !is_class || (!excluded.is_empty() && excluded.contains(bare_id(id))) {
                kept.excluded += 1;
                continue;
            }
            if is_unknown_word(id, params) {
                return Err(no_id(cases, case));
            }
            let Some(number) = images.find_number(id)? else {
                missing.push(*id);
                continue;
            };
            let file = &images.input().files[number];
            match std::mem::replace(&mut case_of_file[number], case as u32) {
                NO_CASE => {}
                first => return Err(two_cases(cases, [first as usize, case], file)),
            }
            kept.cases.push(case as u32);
            kept.files.push(file);
        }
        kept.without_image = missing.len();
        // If no image is found at all, the configuration is probably wrong; an empty table would hide that.
        if !missing.is_empty() && (params.missing_images == MissingImages::Error || kept.cases.is_empty()) {
            let error = images.missing(missing.into_iter());
            let hint = "`missing_images = \"drop\"` drops such rows";
            return Err(if error.hint.is_some() || kept.cases.is_empty() { error } else { error.hint(hint) });
        }
        if kept.cases.is_empty() {
            return Err(StageError::input("`exclude_images` and `exclude_classes` leave out every row")
                .hint("remove some of their entries"));
        }
        Ok(kept)
    }
}

/// In place of the number of a case.
const NO_CASE: u32 = u32::MAX;

fn no_id(cases: &Cases<'_>, case: usize) -> StageError {
    match &cases.ids {
        Some(ids) => ids.error(case, format!("{} has no `{}`", ids.row_name(case), ids.name())),
        // The name of a file may be a word for something unknown, too.
        None => StageError::input(format!("image `{}` has no usable name", cases.images[case])).hint("rename the file"),
    }
}

/// The error for two cases of one file.
fn two_cases(cases: &Cases<'_>, both: [usize; 2], file: &InputFile) -> StageError {
    let [first, second] = both.map(|case| cases.images[case]);
    let hint = "each image must have one row";
    let Some(ids) = cases.ids.as_ref().filter(|_| first == second) else {
        let message = format!("images `{first}` and `{second}` are the same file, `{}`", file.path);
        return StageError::input(message).hint(hint);
    };
    let rows = both.map(|case| ids.row_name(case));
    let [before, after] = rows.each_ref().map(|name| name.rsplit(' ').next().unwrap_or_default());
    let unit = rows[0].split(' ').next().unwrap_or_default();
    ids.error(both[1], format!("duplicate image `{first}` in {unit}s {before} and {after}")).hint(hint)
}

/// The ids that are left out; each must exist.
fn excluded_images<'p>(cases: &Cases<'_>, params: &'p MetadataParams) -> Result<HashSet<&'p str>, StageError> {
    let excluded: HashSet<&str> = params.exclude_images.iter().map(|id| bare_id(id)).collect();
    if excluded.is_empty() {
        return Ok(excluded);
    }
    let known: HashSet<&str> = cases.images.iter().map(|id| bare_id(id)).collect();
    match params.exclude_images.iter().find(|id| !known.contains(bare_id(id))) {
        None => Ok(excluded),
        Some(id) => {
            let error = StageError::input(format!("`exclude_images` names `{id}`, which the dataset does not have"));
            let close = near_miss::did_you_mean(id, known);
            Err(error.hint(close.unwrap_or_else(|| "remove it from the list".to_owned())))
        }
    }
}
