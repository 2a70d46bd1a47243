//! The predictions table: one row per image with its class probabilities.

use hamflow_stage_api::StageError;
use polars::prelude::{Column, DataFrame};

use super::rows::Row;
use crate::ml::metric::Scores;
use crate::table;

/// Builds the table; `labels` are the class labels in index order.
pub fn frame(rows: &[Row], scores: &Scores, labels: &[String]) -> Result<DataFrame, StageError> {
    let texts = |of: fn(&Row) -> &str| rows.iter().map(of).collect::<Vec<&str>>();
    let classes = |of: &[usize]| of.iter().map(|class| *class as i64).collect::<Vec<i64>>();
    let predicted = scores.predicted();
    let chosen = || predicted.iter().zip(scores.probabilities());
    let mut columns = vec![
        Column::new("image_id".into(), texts(|row| &row.image_id)),
        Column::new("lesion_id".into(), texts(|row| &row.lesion_id)),
        Column::new("split".into(), texts(|row| &row.split)),
        Column::new("label".into(), texts(|row| &row.label)),
        Column::new("cell_type_idx".into(), classes(scores.truth())),
        Column::new("predicted".into(), predicted.iter().map(|class| labels[*class].as_str()).collect::<Vec<&str>>()),
        Column::new("predicted_idx".into(), classes(predicted)),
        Column::new("confidence".into(), chosen().map(|(class, row)| row[*class]).collect::<Vec<f64>>()),
        Column::new(
            "correct".into(),
            predicted.iter().zip(scores.truth()).map(|(predicted, truth)| predicted == truth).collect::<Vec<bool>>(),
        ),
    ];
    for (class, label) in labels.iter().enumerate() {
        let probabilities: Vec<f64> = scores.probabilities().iter().map(|row| row[class]).collect();
        columns.push(Column::new(format!("probability_{label}").into(), probabilities));
    }
    table::frame(columns)
}
