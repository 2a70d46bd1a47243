//! The classes of a dataset and their indices.

use hamflow_stage_api::ParamError;

use crate::dataset::Class;

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
    if classes.len() < 2 {
        return Err(ParamError::new("classes", "`classes` must list at least two classes"));
    }
    for (i, class) in classes.iter().enumerate() {
        for (field, value) in [("label", &class.label), ("name", &class.name)] {
            let before = classes[..i].iter().map(|other| if field == "label" { &other.label } else { &other.name });
            let path = format!("classes.{i}.{field}");
            if value.is_empty() {
                return Err(ParamError::new(&path, format!("the {field} of class {} is empty", i + 1)));
            }
            // Labels become part of file and figure names.
            if field == "label" && (value.contains(['/', '\\']) || value.chars().any(char::is_control)) {
                let message =
                    format!("the label of class {}, `{}`, is not valid in a file name", i + 1, value.escape_debug());
                return Err(ParamError::new(&path, message));
            }
            if before.into_iter().any(|other| other == value) {
                return Err(ParamError::new(&path, format!("two classes have the {field} `{value}`")));
            }
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
        for label in ["../evil", "a/b", "a\\b", "a\nb"] {
            classes[1].label = label.to_owned();
            assert!(check(&classes).unwrap_err().message.contains("is not valid in a file name"), "{label}");
        }
    }
}
