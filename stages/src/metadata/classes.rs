//! The classes of a dataset and their indices.

use hamflow_stage_api::ParamError;

use crate::dataset::{Class, LabelFlaw, find_flaw};

/// The seven classes of HAM10000.
pub fn ham10000() -> Vec<Class> {
    [
        ("nv", "Melanocytic nevi"),
        ("mel", "Melanoma"),
        ("bkl", "Benign keratosis-like lesions"),
        ("bcc", "Basal cell carcinoma"),
        ("akiec", "Actinic keratoses"),
        ("vasc", "Vascular lesions"),
        ("df", "Dermatofibroma"),
    ]
    .into_iter()
    .map(|(label, name)| Class { label: label.to_owned(), name: name.to_owned() })
    .collect()
}

/// Rejects missing, empty and duplicate classes.
pub fn check(classes: &[Class]) -> Result<(), ParamError> {
    if let Some(LabelFlaw { index, message }) = find_flaw(classes) {
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

/// Sorts the classes alphabetically by name, as pandas codes a categorical column.
pub fn in_index_order(mut classes: Vec<Class>) -> Vec<Class> {
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_alphabetical_order_of_the_names() {
        let labels: Vec<String> = in_index_order(ham10000()).into_iter().map(|class| class.label).collect();
        assert_eq!(labels, ["akiec", "bcc", "bkl", "df", "nv", "mel", "vasc"]);
    }

    #[test]
    fn ambiguous_classes_are_rejected() {
        let mut classes = ham10000();
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
