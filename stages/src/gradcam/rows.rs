//! The predictions to explain.

use std::collections::BTreeMap;

use hamflow_stage_api::{Input, StageError};

use crate::ml::classifier::Classifier;
use crate::table;

/// A prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row index in the table.
    pub place: usize,
    /// The image id.
    pub image_id: String,
    /// The label of the true class.
    pub label: String,
    /// The label of the predicted class.
    pub predicted: String,
    /// The probability of the predicted class.
    pub confidence: f64,
}

/// Reads the predictions of a split in table order.
pub fn read(input: &Input, split: &str) -> Result<Vec<Row>, StageError> {
    let columns = ["image_id", "split", "label", "predicted", "confidence"];
    let frame = table::read(input.file()?, Some(&columns))?;
    let [image_ids, splits, labels, predicted] =
        ["image_id", "split", "label", "predicted"].map(|column| table::required_strings(&frame, column));
    let confidences = table::floats(&frame, "confidence")?;
    let texts = image_ids?.into_iter().zip(splits?).zip(labels?).zip(predicted?);
    let mut rows = Vec::new();
    for (place, ((((image_id, found), label), predicted), confidence)) in texts.zip(confidences).enumerate() {
        if found == split {
            let confidence = confidence.filter(|value| value.is_finite()).ok_or_else(|| {
                StageError::input(format!("`{}` has no `confidence` for image `{image_id}`", input.name))
            })?;
            rows.push(Row { place, image_id, label, predicted, confidence });
        }
    }
    Ok(rows)
}

/// The most confident correct predictions and then the most confident wrong ones of each true class that occurs, at
/// most `count` of each.
pub fn examples(rows: &[Row], count: usize) -> Vec<(String, Vec<&Row>)> {
    let mut by_class: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_class.entry(&row.label).or_default().push(row);
    }
    by_class.into_iter().map(|(label, of_class)| (label.to_owned(), most_confident(of_class, count))).collect()
}

fn most_confident(mut rows: Vec<&Row>, count: usize) -> Vec<&Row> {
    rows.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.image_id.cmp(&b.image_id)));
    let (right, wrong): (Vec<&Row>, Vec<&Row>) = rows.into_iter().partition(|row| row.label == row.predicted);
    right.into_iter().take(count).chain(wrong.into_iter().take(count)).collect()
}

/// The index of a class in the model.
pub fn class(classifier: &Classifier, label: &str) -> Result<usize, StageError> {
    let place = classifier.classes().iter().position(|class| class.label == label);
    place.ok_or_else(|| {
        StageError::input(format!("class `{label}` of the predictions is not a class of the model"))
            .hint("`predictions` must be those of `model`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_the_most_confident_correct_then_wrong_predictions() {
        let row = |place: usize, label: &str, predicted: &str, confidence: f64| Row {
            place,
            image_id: format!("ISIC_{place}"),
            label: label.to_owned(),
            predicted: predicted.to_owned(),
            confidence,
        };
        let rows = [
            row(0, "nv", "nv", 0.5),
            row(1, "nv", "mel", 0.6),
            row(2, "nv", "nv", 0.9),
            row(3, "mel", "nv", 0.7),
            row(4, "nv", "nv", 0.9),
            row(5, "nv", "bkl", 0.8),
        ];
        let found: Vec<(String, Vec<usize>)> = examples(&rows, 2)
            .into_iter()
            .map(|(label, rows)| (label, rows.iter().map(|row| row.place).collect()))
            .collect();
        assert_eq!(found, [("mel".to_owned(), vec![3]), ("nv".to_owned(), vec![2, 4, 5, 1])]);
    }
}
