//! The predictions table: one row per image with its class probabilities, as `evaluate` writes it.
//!
//! | column | content |
//! |---|---|
//! | `image_id`, `lesion_id`, `split` | texts |
//! | `label`, `cell_type_idx` | the true class and its index |
//! | `probability_LABEL` | one per class, in index order; each row sums to 1 |

use hamflow_stage_api::{Input, StageError};

use crate::metric::Scores;
use crate::ml::examples::unnamed_class;
use crate::table;

const PROBABILITY: &str = "probability_";

/// The content of a predictions table.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionTable {
    /// The class labels in index order.
    pub labels: Vec<String>,
    /// The rows, in table order.
    pub rows: Vec<PredictionRow>,
}

/// The prediction for an image.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionRow {
    /// The image id.
    pub image_id: String,
    /// The lesion id.
    pub lesion_id: String,
    /// The split.
    pub split: String,
    /// The label of the true class.
    pub label: String,
    /// The index of the true class.
    pub class: usize,
    /// The probability of each class.
    pub probabilities: Vec<f64>,
}

impl PredictionTable {
    /// Reads the rows of some splits. An error names the input and the row.
    pub fn read(input: &Input, splits: &[String]) -> Result<Self, StageError> {
        let frame = table::read(input.file()?, None)?;
        let names = frame.get_column_names();
        let labels: Vec<String> =
            names.iter().filter_map(|name| name.strip_prefix(PROBABILITY)).map(str::to_owned).collect();
        if labels.is_empty() {
            return Err(StageError::input(format!("`{}` has no column `{PROBABILITY}…`", input.name))
                .hint("a predictions table has one column of probabilities per class, such as `probability_mel`"));
        }
        let [image_ids, lesion_ids, in_splits, true_labels] =
            ["image_id", "lesion_id", "split", "label"].map(|column| table::required_strings(&frame, column));
        let classes = table::required_integers(&frame, "cell_type_idx")?;
        let of_class = |label: &String| table::floats(&frame, &format!("{PROBABILITY}{label}"));
        let probabilities: Vec<Vec<Option<f64>>> = labels.iter().map(of_class).collect::<Result<_, _>>()?;
        let texts = image_ids?.into_iter().zip(lesion_ids?).zip(in_splits?).zip(true_labels?);
        let mut rows = Vec::new();
        for (place, ((((image_id, lesion_id), split), label), class)) in texts.zip(classes).enumerate() {
            if !splits.contains(&split) {
                continue;
            }
            let lacking =
                |what: &str| StageError::input(format!("`{}` has no {what} for image `{image_id}`", input.name));
            // A class that only test rows have is not known to the model by its label.
            let is_class = |class: usize, own: &String| *own == label || *own == unnamed_class(class).label;
            let class = usize::try_from(class).ok();
            let class = class.filter(|class| labels.get(*class).is_some_and(|own| is_class(*class, own)));
            let class =
                class.ok_or_else(|| lacking(&format!("class `{label}` among its probabilities at its index")))?;
            let row: Option<Vec<f64>> = probabilities.iter().map(|column| column[place]).collect();
            let probabilities = row.ok_or_else(|| lacking("complete probabilities"))?;
            rows.push(PredictionRow { image_id, lesion_id, split, label, class, probabilities });
        }
        Ok(Self { labels, rows })
    }

    /// The true classes and probabilities of all rows.
    pub fn scores(&self, input: &Input) -> Result<Scores, StageError> {
        let truth = self.rows.iter().map(|row| row.class).collect();
        let probabilities = self.rows.iter().map(|row| row.probabilities.clone()).collect();
        Scores::new(truth, probabilities, self.labels.len()).map_err(|error| {
            let image = self.rows.get(error.row).map_or("?", |row| row.image_id.as_str());
            StageError::input(format!("`{}`, image `{image}`: {}", input.name, error.problem))
        })
    }
}
