//! Comparisons of models that were trained on small images.

use polars::prelude::Column;
use serde_json::{Value, json};

use super::*;
use crate::evaluate::Evaluate;
use crate::table;
use crate::test_support::{Ran, file_input, run_kind};
use crate::train::Train;
use crate::train::test_fixture::{Fixture, short};

/// Predictions of these rows: image, lesion, class and the probability of class 1.
fn predictions(rows: &[(&str, &str, usize, f64)]) -> Input {
    let folder = tempfile::tempdir().unwrap();
    let texts = |of: fn(&(&str, &str, usize, f64)) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let frame = table::frame(vec![
        Column::new("image_id".into(), texts(|row| row.0.to_owned())),
        Column::new("lesion_id".into(), texts(|row| row.1.to_owned())),
        Column::new("split".into(), texts(|_| "test".to_owned())),
        Column::new("label".into(), texts(|row| ["a", "b"][row.2].to_owned())),
        Column::new("cell_type_idx".into(), rows.iter().map(|row| row.2 as i64).collect::<Vec<_>>()),
        Column::new("probability_a".into(), rows.iter().map(|row| 1.0 - row.3).collect::<Vec<_>>()),
        Column::new("probability_b".into(), rows.iter().map(|row| row.3).collect::<Vec<_>>()),
    ]);
    let bytes = table::write(&frame.unwrap()).unwrap();
    file_input(&folder.keep(), "predictions.parquet", &bytes, Some(artifact::PREDICTIONS))
}

const ROWS: [(&str, &str, usize, f64); 6] = [
    ("i1", "l1", 0, 0.1),
    ("i2", "l1", 0, 0.6),
    ("i3", "l2", 1, 0.7),
    ("i4", "l3", 1, 0.2),
    ("i5", "l4", 0, 0.3),
    ("i6", "l5", 1, 0.9),
];

fn compare(params: &Value, inputs: &[Input]) -> Result<Ran, StageError> {
    let inputs: Vec<(&str, Input)> = inputs.iter().map(|input| ("predictions", input.clone())).collect();
    run_kind(&Compare, params, &inputs)
}

fn record(ran: &Ran) -> ComparisonRecord {
    serde_json::from_value(ran.json("comparison.json")).unwrap()
}

#[test]
fn models_are_measured_as_evaluate_measures_them() {
    let fixture = Fixture::new(80);
    let mut parts = Vec::new();
    for rate in [1e-4, 3e-3] {
        let mut params = short();
        params["learning_rate"] = json!(rate);
        let trained = run_kind(&Train, &params, &fixture.inputs()).unwrap();
        let files = ["card.json", "model.safetensors"].map(|name| {
            crate::test_support::file(
                &trained.output_dir().join("model"),
                name,
                &trained.bytes(&format!("model/{name}")),
            )
        });
        let model = crate::test_support::files_input(files.to_vec(), Some(artifact::MODEL));
        let mut inputs = fixture.inputs().to_vec();
        inputs.push(("model", model.clone()));
        let evaluated = run_kind(&Evaluate, &json!({}), &inputs).unwrap();
        parts.push((trained, model, evaluated));
    }
    let mut inputs = Vec::new();
    for (_, model, evaluated) in &parts {
        inputs.push(("predictions", evaluated.input("predictions.parquet", artifact::PREDICTIONS)));
        inputs.push(("models", model.clone()));
    }
    let ran = run_kind(&Compare, &json!({ "latency": true }), &inputs).unwrap();
    let found = record(&ran);
    for (model, (_, _, evaluated)) in found.models.iter().zip(&parts) {
        let metrics = &evaluated.json("metrics.json")["test"];
        for metric in METRICS {
            assert_eq!(json!(model.values[metric.name]), metrics[metric.name], "{}", metric.name);
        }
        assert_eq!(json!(model.confusion_matrix), metrics["confusion_matrix"]);
        assert_eq!(model.card.as_ref().unwrap().architecture, "baseline");
    }
    assert_eq!((found.models[0].name.as_str(), found.models[1].name.as_str()), ("baseline 1", "baseline 2"));
    let latency = ran.json("latency.json");
    assert!(latency["models"][1]["one_image_ms"].as_f64().unwrap() > 0.0);
    assert!(ran.output_dir().join("figures/model_comparison.svg").exists());
    assert!(ran.output_dir().join("figures/confusion_matrix_model_2.svg").exists());
}

// The first model is wrong in 2 of 6 rows and the second in none.
#[test]
fn differences_are_paired_over_lesions() {
    let better = ROWS.map(|(image, lesion, class, _)| (image, lesion, class, if class == 1 { 0.9 } else { 0.1 }));
    let params = json!({ "metrics": ["accuracy"] });
    let ran = compare(&params, &[predictions(&ROWS), predictions(&better)]).unwrap();
    let found = record(&ran);
    let [difference] = &found.differences[..] else { panic!("one difference") };
    assert!((difference.value.unwrap() - 2.0 / 6.0).abs() < 1e-12);
    // Resamples in which both models are right everywhere exist: the pairing makes the difference 0 there, never negative.
    let [low, high] = difference.interval.unwrap();
    assert_eq!(low, 0.0);
    assert!((0.5..=1.0).contains(&high), "{high}");
    assert_eq!((found.lesions, found.rows), (5, 6));

    // A model does not differ from itself in any resample, however wide its own interval is.
    let ran = compare(&params, &[predictions(&ROWS), predictions(&ROWS)]).unwrap();
    let same = record(&ran);
    assert_eq!(same.differences[0].interval, Some([0.0, 0.0]));
    assert!(same.models[0].intervals["accuracy"][0] < same.models[0].intervals["accuracy"][1]);
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let mut reversed = ROWS;
    reversed.reverse();
    let params = json!({ "bootstrap": 50 });
    let first = compare(&params, &[predictions(&ROWS), predictions(&ROWS)]).unwrap();
    let second = compare(&params, &[predictions(&ROWS), predictions(&reversed)]).unwrap();
    assert_eq!(first.json("comparison.json"), second.json("comparison.json"));
}

#[test]
fn predictions_that_are_not_comparable_are_rejected() {
    let params = json!({});
    let message = |other: &[(&str, &str, usize, f64)]| {
        compare(&params, &[predictions(&ROWS), predictions(other)]).map(drop).unwrap_err().message
    };
    assert!(message(&ROWS[..5]).contains("has a prediction for image `i6`, but"));
    let mut more = ROWS.to_vec();
    more.push(("i7", "l6", 0, 0.5));
    assert!(message(&more).contains("has a prediction for image `i7`, but"));
    let mut twice = ROWS;
    twice[1] = ROWS[0];
    assert!(message(&twice).contains("has two predictions for image `i1`"));
    let mut relabelled = ROWS;
    relabelled[0].2 = 1;
    assert!(message(&relabelled).contains("image `i1` is `b` in"));
    let error = compare(&json!({ "split": "train" }), &[predictions(&ROWS)]).map(drop).unwrap_err();
    assert!(error.message.contains("has no predictions of the split `train`"));
    let error = compare(&json!({ "latency": true }), &[predictions(&ROWS)]).map(drop).unwrap_err();
    assert_eq!(error.message, "`latency` needs `models`");
    let error = compare(&json!({ "names": ["a", "b"] }), &[predictions(&ROWS)]).map(drop).unwrap_err();
    assert_eq!(error.message, "there are 2 `names`, but 1 `predictions`");
}

#[test]
fn wrong_parameters_are_rejected() {
    let refused = |params: Value| crate::test_support::resolve(&Compare, &params).unwrap_err();
    assert_eq!(refused(json!({ "metrics": ["acuracy"] })).hint.as_deref(), Some("did you mean `accuracy`?"));
    assert_eq!(refused(json!({ "split": "tset" })).message, "unknown split `tset`");
    assert_eq!(refused(json!({ "names": ["a", "a"] })).message, "duplicate name `a`");
}

#[test]
fn two_evaluations_are_paired_split_by_split() {
    use hamflow_stage_api::Kind;
    let pairs = Evaluate.pairs().unwrap();
    let mut better = ROWS;
    better[1].3 = 0.4;
    let differences = pairs.differences([&predictions(&ROWS), &predictions(&better)]).unwrap();
    let accuracy = differences.iter().find(|found| found.metric == "test.accuracy").unwrap();
    assert!((accuracy.value - 1.0 / 6.0).abs() < 1e-12);
    // Only the lesion l1 differs, which a resample of five lesions has between 0 and 4 times with its two rows.
    let [low, high] = accuracy.interval;
    assert!(low == 0.0 && (2.0 / 7.0..=0.5).contains(&high), "{low} {high}");
    assert_eq!(pairs.output(), "predictions");

    let error = pairs.differences([&predictions(&ROWS), &predictions(&ROWS[..5])]).unwrap_err();
    assert!(error.message.contains("has a prediction for image `i6`, but"), "{error}");
}
