//! The validated rows of the CSV with the files of their images.

use std::collections::{BTreeMap, HashMap};

use hamflow_stage_api::{StageError, near_miss};

use super::MissingImages;
use crate::dataset::Class;
use crate::image_names::{ImageNames, id_of_file};
use crate::table::{Csv, DATASET, Field, group_of_one, is_synthetic, is_unknown};

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
    /// The words for unknown values: the row, the column and the word, which may be empty.
    unknown: Vec<(usize, &'static str, String)>,
}

impl Rows {
    /// Validates and reads every row.
    pub fn read(csv: &Csv, classes: &[Class]) -> Result<Self, StageError> {
        let mut at = [0; 7];
        for (index, column) in at.iter_mut().zip(COLUMNS) {
            *index = csv.column(column)?;
        }
        let source = csv.optional_column(DATASET)?;
        let mut rows = Self { dataset: source.map(|_| Vec::with_capacity(csv.rows.len())), ..Self::default() };
        let mut seen: HashMap<&str, u64> = HashMap::with_capacity(csv.rows.len());
        for row in &csv.rows {
            let [lesion, image, dx, dx_type, age, sex, localization] = at.map(|index| &row.fields[index]);
            if is_unknown(&image.text) {
                return Err(csv.error(image, format!("line {} has no `image_id`", image.line)));
            }
            if let Some(first) = seen.insert(&image.text, image.line) {
                let message = format!("duplicate image `{}` in lines {first} and {}", image.text, image.line);
                return Err(csv.error(image, message).hint("each image must have one row"));
            }
            rows.image_id.push(image.text.clone());
            let lesion = rows.known("lesion_id", lesion);
            rows.lesion_id.push(lesion.unwrap_or_else(|| group_of_one(&image.text)));
            rows.class.push(class(csv, dx, classes)?);
            for (column, field) in [("dx_type", dx_type), ("sex", sex), ("localization", localization)] {
                let value = rows.known(column, field).map(|value| value.to_lowercase());
                match column {
                    "dx_type" => rows.dx_type.push(value),
                    "sex" => rows.sex.push(value.map(full_sex)),
                    _ => rows.localization.push(value),
                }
            }
            let known_age = rows.known("age", age);
            rows.age.push(known_age.map(|_| age_of(csv, age)).transpose()?);
            if let Some(column) = source {
                let value = rows.known(DATASET, &row.fields[column]);
                rows.dataset.get_or_insert_default().push(value);
            }
        }
        Ok(rows)
    }

    /// The value of a field of the last row unless it is unknown; notes the word for that.
    fn known(&mut self, column: &'static str, field: &Field) -> Option<String> {
        if !is_unknown(&field.text) {
            return Some(field.text.clone());
        }
        self.unknown.push((self.image_id.len().saturating_sub(1), column, field.text.clone()));
        None
    }

    /// The number of rows without a lesion. Each counts as a lesion of its own.
    pub fn without_lesion(&self) -> usize {
        self.unknown.iter().filter(|(_, column, _)| *column == "lesion_id").count()
    }

    /// The words for unknown values by column, with the number of rows that have them.
    pub fn unknown_words(&self) -> BTreeMap<&'static str, BTreeMap<&str, usize>> {
        let mut words: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (_, column, word) in self.unknown.iter().filter(|(.., word)| !word.is_empty()) {
            *words.entry(*column).or_default().entry(&word[..]).or_insert(0) += 1;
        }
        words
    }

    /// Whether any of the images is synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.dataset.iter().flatten().flatten().any(|source| is_synthetic(source))
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
        let mut first_ids = HashMap::with_capacity(self.len());
        for (id, file) in self.image_id.iter_mut().zip(&files) {
            let Some(file) = file else { continue };
            if let Some(first) = first_ids.insert((file.root, &file.path), id.clone()) {
                let message = format!("images `{first}` and `{id}` are the same file, `{}`", file.path);
                return Err(StageError::input(message).hint("each image must have one row"));
            }
            // Later stages look for the image by this name.
            id_of_file(file).clone_into(id);
            self.folder.push(i64::from(file.root));
            self.path.push(file.path.clone());
        }
        if dropped > 0 {
            let Self { lesion_id, image_id, class, dx_type, age, sex, localization, dataset, unknown, .. } = &mut self;
            unknown.retain(|(row, ..)| keep[*row]);
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
    let used: Vec<usize> = COLUMNS.into_iter().chain([DATASET]).filter_map(|column| csv.find(column)).collect();
    let unused = csv.header.iter().enumerate().filter(move |(index, _)| !used.contains(index));
    unused.map(|(_, column)| column.as_str())
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or(false));
}

/// The word for a sex that may be abbreviated, as by the archive of ISIC.
fn full_sex(sex: String) -> String {
    match &sex[..] {
        "m" => "male".to_owned(),
        "f" => "female".to_owned(),
        _ => sex,
    }
}

fn class(csv: &Csv, field: &Field, classes: &[Class]) -> Result<usize, StageError> {
    let in_any_case = || {
        let mut alike = (0..classes.len()).filter(|index| classes[*index].label.eq_ignore_ascii_case(&field.text));
        alike.next().filter(|_| alike.next().is_none())
    };
    let found = classes.iter().position(|class| class.label == field.text).or_else(in_any_case);
    found.ok_or_else(|| {
        if is_unknown(&field.text) {
            let message = format!("line {} has no class: `dx` is `{}`", field.line, field.text);
            return csv.error(field, message).hint("remove rows without a diagnosis, or add a class for them");
        }
        let message = format!("unknown class `{}` in column `dx` of line {}", field.text, field.line);
        let mut error = csv.error(field, message);
        let known = || classes.iter().map(|class| class.label.as_str());
        // `scc` is another diagnosis, not a misspelt `bcc`: only suggest classes that differ in length.
        let is_typo = |label: &&str| label.len() != field.text.len();
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

fn age_of(csv: &Csv, field: &Field) -> Result<f64, StageError> {
    // Where a comma cannot separate fields, it may be a decimal point.
    let text = if csv.separator == ',' { field.text.clone() } else { field.text.replace(',', ".") };
    match text.parse::<f64>() {
        Ok(age) if (0.0..=MAX_AGE).contains(&age) => Ok(age),
        _ => {
            let message = format!("invalid age `{}` in line {}", field.text, field.line);
            Err(csv.error(field, message).hint("leave the field empty if the age is unknown"))
        }
    }
}
