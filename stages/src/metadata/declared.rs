//! Classes that the user declares, and those whose names are known.

use hamflow_stage_api::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{Class, LabelFlaw, find_flaw};

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredClass {
    /// The code in column `dx`.
    pub label: String,
    /// The display name; a known name of the code, or the code, by default.
    pub name: Option<String>,
}

/// Codes and names of the classes of HAM10000 and of the ISIC challenges; the first seven are those of HAM10000.
const NAMES: [(&str, &str); 10] = [
    ("nv", "Melanocytic nevi"),
    ("mel", "Melanoma"),
    ("bkl", "Benign keratosis-like lesions"),
    ("bcc", "Basal cell carcinoma"),
    ("akiec", "Actinic keratoses"),
    ("vasc", "Vascular lesions"),
    ("df", "Dermatofibroma"),
    ("ak", "Actinic keratosis"),
    ("scc", "Squamous cell carcinoma"),
    ("unk", "None of the others"),
];

/// The seven classes of HAM10000.
pub fn ham10000() -> Vec<Class> {
    NAMES[..7].iter().map(|(label, name)| Class { label: (*label).to_owned(), name: (*name).to_owned() }).collect()
}

/// The name of a class by its code, if it is known.
pub fn name_of(label: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == label).map(|(_, name)| *name)
}

impl DeclaredClass {
    /// The class with its name.
    pub fn class(&self) -> Class {
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.label).unwrap_or(&self.label).to_owned());
        Class { label: self.label.clone(), name }
    }
}

/// Rejects missing, empty and duplicate classes.
pub fn check(classes: &[DeclaredClass]) -> Result<(), ParamError> {
    let classes: Vec<Class> = classes.iter().map(DeclaredClass::class).collect();
    if let Some(LabelFlaw { index, message }) = find_flaw(&classes) {
        let path = index.map_or_else(|| "classes".to_owned(), |index| format!("classes.{index}.label"));
        return Err(ParamError::new(&path, message));
    }
    for (index, Class { name, .. }) in classes.iter().enumerate() {
        let path = format!("classes.{index}.name");
        if name.is_empty() {
            return Err(ParamError::new(&path, format!("the name of class {} is empty", index + 1)));
        }
        if classes[..index].iter().any(|other| other.name == *name) {
            return Err(ParamError::new(&path, format!("two classes have the name `{name}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<DeclaredClass> {
        ham10000().into_iter().map(|Class { label, name }| DeclaredClass { label, name: Some(name) }).collect()
    }

    #[test]
    fn ambiguous_classes_are_rejected() {
        let mut classes = declared();
        assert_eq!(check(&classes), Ok(()));
        classes[1].label = "nv".to_owned();
        assert_eq!(check(&classes).unwrap_err().message, "two classes have the label `nv`");
        assert_eq!(check(&classes).unwrap_err().path, ["classes", "1", "label"]);
        assert!(check(&classes[..1]).is_err());
        for label in ["../evil", "a/b", "a\\b", "a\nb", &"a".repeat(101)] {
            classes[1].label = label.to_owned();
            assert!(check(&classes).unwrap_err().message.contains("is not valid in a file name"), "{label}");
        }
    }
}
