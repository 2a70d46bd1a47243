//! The learning curves of a training while it runs, and of several trainings in one figure.

use hamflow_stage_api::{Curves, Series, StageError};
use serde::Deserialize;

use crate::plot::{Drawing, EpochPoint, LearningCurvesPlot, NamedCurves, RunCurvesPlot};

/// The learning curves of `train` and `search`.
pub struct LearningCurves;

/// The file that a training appends each epoch to.
pub const SIDE_FILE: &str = "history.jsonl";

/// The file of a finished training.
#[derive(Deserialize)]
struct History {
    epochs: Vec<EpochPoint>,
}

impl Curves for LearningCurves {
    fn side_file(&self) -> &'static str {
        SIDE_FILE
    }

    fn output(&self) -> &'static str {
        "history"
    }

    fn draw(&self, series: &[Series<'_>]) -> Result<String, StageError> {
        let read = |series: &Series<'_>| {
            let epochs = epochs(series.values);
            let epochs =
                epochs.map_err(|error| StageError::input(format!("the history of {}: {error}", series.name)))?;
            Ok(NamedCurves { name: series.name.to_owned(), epochs })
        };
        let mut runs = series.iter().map(read).collect::<Result<Vec<_>, StageError>>()?;
        let title = "Learning curves".to_owned();
        Ok(match &mut runs[..] {
            [only] => {
                LearningCurvesPlot { title, epochs: std::mem::take(&mut only.epochs), chosen: None }.draw().file()
            }
            _ => RunCurvesPlot { title, runs }.draw().file(),
        })
    }
}

/// The epochs in a finished history, or in one with a line for each epoch.
fn epochs(text: &[u8]) -> Result<Vec<EpochPoint>, serde_json::Error> {
    if let Ok(history) = serde_json::from_slice::<History>(text) {
        return Ok(history.epochs);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut epochs: Vec<EpochPoint> = Vec::new();
    for line in lines {
        let point: EpochPoint = serde_json::from_slice(line)?;
        // A training that was resumed writes the epochs since its last checkpoint again.
        epochs.retain(|known| known.epoch < point.epoch);
        epochs.push(point);
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_being_written_is_left_out_and_repeated_epochs_count_once() {
        let text = b"{\"epoch\":1,\"train_loss\":2.0}\n{\"epoch\":2,\"train_loss\":1.5}\n{\"epoch\":2,\"train_loss\":1.25}\n{\"epoch\":3,\"tra";
        let losses: Vec<_> = epochs(text).unwrap().into_iter().map(|point| (point.epoch, point.train_loss)).collect();
        assert_eq!(losses, [(1, Some(2.0)), (2, Some(1.25))]);
        assert_eq!(epochs(b"").unwrap(), []);
        assert!(epochs(b"nonsense\n").is_err());
    }

    #[test]
    fn a_finished_history_and_a_growing_one_are_drawn_together() {
        let finished = br#"{"epochs": [{"epoch": 1, "validation_loss": 1.5}, {"epoch": 2, "validation_loss": 1.25}]}"#;
        let growing = b"{\"epoch\":1,\"validation_loss\":1.75}\n";
        let series = [Series { name: "<a>", values: finished }, Series { name: "b", values: growing }];
        let svg = LearningCurves.draw(&series).unwrap();
        assert!(svg.contains("&lt;a&gt;: validation loss 1.250 after epoch 2"), "{svg}");
        assert!(svg.contains("b: validation loss 1.750 after epoch 1"), "{svg}");
        let error = LearningCurves.draw(&[Series { name: "b", values: b"?\n" }]).unwrap_err().to_string();
        assert!(error.contains("the history of b"), "{error}");
    }
}
