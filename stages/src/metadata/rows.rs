//! The validated rows of the dataset with the files of their images.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hamflow_stage_api::StageError;

use super::cases::{Cases, Cells};
use super::classes::Classes;
use super::files::Kept;
use super::lesions::Lesions;
use super::params::MetadataParams;
use super::role::Role;
use super::words::Words;
use crate::fast_map::{self, FastMap};
use crate::image_names::id_of_file;
use crate::table::is_synthetic;

/// The rows as columns, in the order of the dataset.
pub struct Rows<'a> {
    /// The lesion ids.
    pub lesions: Lesions<'a>,
    /// The image ids: the names of their files without extension.
    pub image_id: Vec<&'a str>,
    /// The class indices.
    pub class: Vec<u32>,
    /// The columns of words that the dataset has, in lower case but for the source.
    pub words: BTreeMap<Role, Words>,
    /// The age of the patient in years, if the dataset has it.
    pub age: Option<Vec<Option<f64>>>,
    /// The patient, if the dataset has it.
    pub patient_id: Option<Vec<Option<&'a str>>>,
    /// The folder index of the image's file.
    pub folder: Vec<i64>,
    /// The path of the image's file below that folder.
    pub path: Vec<&'a str>,
    /// The words for values that are not known by column, with the number of rows that have them.
    pub unknown: BTreeMap<&'static str, BTreeMap<String, usize>>,
}

/// The roles whose columns hold words of a small vocabulary.
const VOCABULARIES: [Role; 4] = [Role::DxType, Role::Sex, Role::Localization, Role::Dataset];

impl<'a> Rows<'a> {
    /// Validates and reads the rows whose images were found.
    pub fn new(
        cases: &Cases<'a>,
        classes: &Classes,
        kept: &Kept<'a>,
        params: &MetadataParams,
    ) -> Result<Self, StageError> {
        let mut reader = Reader { cases, kept, params, unknown: BTreeMap::new() };
        let patient_id = reader.texts(Role::PatientId);
        let lesion_ids = reader.texts(Role::LesionId);
        let mut words = BTreeMap::new();
        for role in VOCABULARIES {
            if let Some(column) = reader.words(role) {
                words.insert(role, column);
            }
        }
        let image_id: Vec<&str> = kept.files.iter().map(|file| id_of_file(file)).collect();
        let class = |case: &u32| classes.of_word[cases.diagnoses.of_row[*case as usize] as usize].unwrap_or(0);
        Ok(Self {
            class: kept.cases.iter().map(class).collect(),
            age: reader.ages()?,
            lesions: Lesions::new(lesion_ids.as_deref(), patient_id.as_deref(), &image_id),
            folder: kept.files.iter().map(|file| i64::from(file.root)).collect(),
            path: kept.files.iter().map(|file| &file.path[..]).collect(),
            unknown: reader.unknown,
            image_id,
            words,
            patient_id,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.image_id.len()
    }

    /// Whether any of the images is synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.words.get(&Role::Dataset).is_some_and(|sources| sources.occurring().any(|(word, _)| is_synthetic(word)))
    }
}

/// Reads the columns of the kept rows, and counts the words for values that are not known.
struct Reader<'r, 'a> {
    cases: &'r Cases<'a>,
    kept: &'r Kept<'a>,
    params: &'r MetadataParams,
    unknown: BTreeMap<&'static str, BTreeMap<String, usize>>,
}

impl<'a> Reader<'_, 'a> {
    fn cells(&self, role: Role) -> Option<Cells<'a>> {
        self.cases.columns.iter().find(|(found, _)| *found == role).map(|(_, cells)| cells.clone())
    }

    /// A text, or `None` if it says that the value is not known; notes the word for that.
    fn known(&mut self, role: Role, text: &'a str) -> Option<&'a str> {
        if !super::layout::is_unknown_word(text, self.params) {
            return Some(text);
        }
        if !text.is_empty() {
            let words = self.unknown.entry(role.name()).or_default();
            match words.get_mut(text) {
                Some(count) => *count += 1,
                None => drop(words.insert(text.to_owned(), 1)),
            }
        }
        None
    }

    fn texts(&mut self, role: Role) -> Option<Vec<Option<&'a str>>> {
        let cells = self.cells(role)?;
        Some(self.kept.cases.iter().map(|case| self.known(role, cells.text(*case as usize))).collect())
    }

    fn words(&mut self, role: Role) -> Option<Words> {
        let cells = self.cells(role)?;
        let mut words = Words::default();
        for case in &self.kept.cases {
            let text = self.known(role, cells.text(*case as usize));
            words.push(text, |text| in_table(role, text));
        }
        Some(words)
    }

    fn ages(&mut self) -> Result<Option<Vec<Option<f64>>>, StageError> {
        let Some(cells) = self.cells(Role::Age) else { return Ok(None) };
        let mut ages = Vec::with_capacity(self.kept.cases.len());
        for case in &self.kept.cases {
            let case = *case as usize;
            ages.push(self.known(Role::Age, cells.text(case)).map(|text| age(&cells, case, text)).transpose()?);
        }
        Ok(Some(ages))
    }
}

/// A word as the table has it.
fn in_table(role: Role, text: &str) -> String {
    let lower = text.to_lowercase();
    match (role, &lower[..]) {
        (Role::Dataset, _) => text.to_owned(),
        // Abbreviated, as by the archive of ISIC.
        (Role::Sex, "m") => "male".to_owned(),
        (Role::Sex, "f") => "female".to_owned(),
        _ => lower,
    }
}

/// The maximum plausible age in years.
const MAX_AGE: f64 = 130.0;

fn age(cells: &Cells<'_>, case: usize, text: &str) -> Result<f64, StageError> {
    // Where a comma cannot separate fields, it may be a decimal point.
    let has_commas = cells.sheet().has_decimal_commas() && text.contains(',');
    let number: Cow<'_, str> = if has_commas { text.replace(',', ".").into() } else { text.into() };
    match number.parse::<f64>() {
        Ok(age) if (0.0..=MAX_AGE).contains(&age) => Ok(age),
        _ => {
            let message = format!("invalid age `{text}` in {}", cells.row_name(case));
            Err(cells.error(case, message).hint("leave the field empty if the age is unknown"))
        }
    }
}

/// The number of each value among the distinct ones, and how many those are.
pub fn count_distinct<'v>(values: impl ExactSizeIterator<Item = &'v str>) -> (Vec<u32>, usize) {
    let mut numbers: FastMap<&str, u32> = fast_map::with_capacity(values.len());
    let of_row = values
        .map(|value| {
            let next = numbers.len() as u32;
            *numbers.entry(value).or_insert(next)
        })
        .collect();
    (of_row, numbers.len())
}
