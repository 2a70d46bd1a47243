//! The terms that all kinds share about a dataset: classes and splits.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The code in column `dx`.
    pub label: String,
    /// The display name. Classes are indexed in the alphabetical order of their names.
    pub name: String,
}

/// Maximum length of a label in bytes, which leaves room for the rest of a file name.
const MAX_LABEL: usize = 100;

/// More classes are taken for a damaged file.
const MAX_CLASSES: usize = 10_000;

/// What is wrong with the labels of a list of classes: the index of the class, and one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFlaw {
    /// The index of the class; `None` for the list as a whole.
    pub index: Option<usize>,
    /// One sentence.
    pub message: String,
}

/// The first flaw in the labels of a list of classes: too few, empty or duplicate ones, and those that are not valid in
/// file names.
pub fn find_flaw(classes: &[Class]) -> Option<LabelFlaw> {
    if classes.len() < 2 {
        return Some(LabelFlaw { index: None, message: "`classes` must list at least two classes".to_owned() });
    }
    if classes.len() > MAX_CLASSES {
        return Some(LabelFlaw { index: None, message: format!("there are more than {MAX_CLASSES} classes") });
    }
    let mut seen = BTreeSet::new();
    classes.iter().enumerate().find_map(|(index, Class { label, .. })| {
        let number = index + 1;
        // Labels become part of file and figure names.
        let is_valid = label.len() <= MAX_LABEL && !label.contains(['/', '\\']) && !label.contains(char::is_control);
        let message = if label.is_empty() {
            format!("the label of class {number} is empty")
        } else if !is_valid {
            let shown: String = label.chars().take(MAX_LABEL).collect();
            format!("the label of class {number}, `{}`, is not valid in a file name", shown.escape_debug())
        } else if !seen.insert(label) {
            format!("two classes have the label `{label}`")
        } else {
            return None;
        };
        Some(LabelFlaw { index: Some(index), message })
    })
}

/// The name under which `evaluate` measures an external test set.
pub const EXTERNAL: &str = "external";

/// The names of the splits, in the order in which tables and figures list them.
pub const SPLITS: [&str; 3] = ["train", "validation", "test"];
