//! The text of the pipeline for a dataset that was found.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Dataset;
use crate::metadata::{MetadataParams, Role};

/// Writes `pipeline.toml`. `found` is what was found, one line each.
pub fn text(dataset: &Dataset, name: &str, found: &[String]) -> String {
    let mut text = String::new();
    let has_ages = dataset.inspection.has_ages;
    text.push_str("# Written by `hamflow init` for the dataset in this folder:\n#\n");
    for line in found {
        let _ = writeln!(text, "#   {line}");
    }
    text.push_str("#\n# `hamflow run` makes everything up to the report. Change what you like: only what depends on it runs again.\n\n");
    let _ = writeln!(text, "[pipeline]\nname = {}\nseed = 1234\n", quoted(name));
    inputs(&mut text, dataset);
    metadata(&mut text, dataset);
    if has_ages {
        text.push_str("[stages.clean]                  # unknown ages become the mean\nkind = \"impute\"\ntable = \"metadata\"\ncolumn = \"age\"\nstrategy = \"mean\"\n\n");
    }
    let table = if has_ages { "clean" } else { "metadata" };
    let _ = writeln!(text, "[stages.split]\ntable = {}\nimages = \"inputs.images\"", quoted(table));
    if dataset.inspection.params.columns.contains_key(&Role::PatientId) {
        text.push_str("group = \"patient_id\"            # all images of a patient are on one side\n");
    }
    text.push_str("fractions = { train = 0.72, validation = 0.08, test = 0.20 }\n\n");
    text.push_str(STAGES);
    if dataset.masks.is_some() {
        text.push_str("masks = \"inputs.masks\"\n");
    }
    text.push_str("\n[stages.report]\nmetadata = \"metadata.summary\"\nexploration = \"eda\"\nfindings = \"eda\"\n");
    if has_ages {
        text.push_str("clean = \"clean.summary\"\n");
    }
    text.push_str(REPORT);
    text
}

fn inputs(text: &mut String, dataset: &Dataset) {
    text.push_str("[inputs]\n");
    for (table, name) in dataset.tables.iter().zip(names(dataset)) {
        let _ = writeln!(text, "{name} = {}", quoted(table));
    }
    let folders: Vec<String> = dataset.images.iter().map(|folder| quoted(folder)).collect();
    match &folders[..] {
        [one] => drop(writeln!(text, "images = {one}")),
        many => drop(writeln!(text, "images = [{}]", many.join(", "))),
    }
    if let Some(masks) = &dataset.masks {
        let _ = writeln!(text, "masks = {}", quoted(masks));
    }
    text.push('\n');
}

/// The names of the tables in `[inputs]`.
fn names(dataset: &Dataset) -> Vec<String> {
    match dataset.tables.len() {
        1 => vec!["table".to_owned()],
        count => (1..=count).map(|number| format!("table_{number}")).collect(),
    }
}

fn metadata(text: &mut String, dataset: &Dataset) {
    text.push_str("[stages.metadata]\n");
    let references: Vec<String> = names(dataset).iter().map(|name| format!("\"inputs.{name}\"")).collect();
    match &references[..dataset.tables.len()] {
        [] => {}
        [one] => drop(writeln!(text, "csv = {one}")),
        many => drop(writeln!(text, "csv = [{}]", many.join(", "))),
    }
    text.push_str("images = \"inputs.images\"\n");
    let MetadataParams { layout, columns, exclude_classes, .. } = &dataset.inspection.params;
    if let Some(layout) = layout {
        let _ = writeln!(text, "layout = {}", quoted(layout));
    }
    if !columns.is_empty() {
        let pairs: BTreeMap<&str, &String> = columns.iter().map(|(role, name)| (role.name(), name)).collect();
        let pairs: Vec<String> = pairs.iter().map(|(role, name)| format!("{role} = {}", quoted(name))).collect();
        let _ = writeln!(text, "columns = {{ {} }}", pairs.join(", "));
    }
    let renamed: Vec<String> = OTHER_LABELS
        .iter()
        .filter(|(other, _)| dataset.inspection.classes.iter().any(|(label, ..)| label == other))
        .map(|(other, known)| format!("{other} = {}", quoted(known)))
        .collect();
    if !renamed.is_empty() {
        let _ = writeln!(text, "# labels = {{ {} }}     # the codes of HAM10000 and ISIC", renamed.join(", "));
    }
    if !exclude_classes.is_empty() {
        let words: Vec<String> = exclude_classes.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(text, "exclude_classes = [{}]     # rows without a diagnosis", words.join(", "));
    }
    if dataset.inspection.without_image > 0 {
        text.push_str("missing_images = \"drop\"\n");
    }
    text.push('\n');
}

/// Codes of other datasets for classes of HAM10000 and the ISIC challenges.
const OTHER_LABELS: [(&str, &str); 6] = [
    ("nev", "nv"),
    ("nevus", "nv"),
    ("melanoma", "mel"),
    ("ack", "ak"),
    ("sek", "bkl"),
    ("seborrheic keratosis", "bkl"),
];

/// A text as TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

const STAGES: &str = r#"[stages.preprocess]
table = "metadata"
images = "inputs.images"
height = 75
width = 100

[stages.train]
shards = "preprocess"
split = "split"
model = "baseline"
epochs = 50
batch_size = 10

[stages.evaluate]
model = "train"
shards = "preprocess"
split = "split"

[stages.eda]
table = "metadata"
images = "inputs.images"

[stages.gradcam]
model = "train"
shards = "preprocess"
predictions = "evaluate"
images = "inputs.images"
"#;

const REPORT: &str = r#"balance = "split"
model = "train"
history = "train"
training = "train.summary"
metrics = "evaluate"
predictions = "evaluate"
figures = "evaluate"
explanations = "gradcam"
localisation = "gradcam"
quarantine = "preprocess.quarantine"
"#;
