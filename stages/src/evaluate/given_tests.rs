//! Tests of `evaluate` with predictions of other programs.

use std::fmt::Write;

use hamflow_stage_api::{Input, JobEvent, StageError};
use serde_json::{Value, json};

use super::tests::Fixture;
use super::*;
use crate::table;
use crate::test_support::{Ran, file_input, run_kind};

fn evaluate(fixture: &Fixture, text: &str, params: Value) -> Result<Ran, StageError> {
    let given = file_input(fixture.folder.path(), "given.csv", text.as_bytes(), Some(artifact::PREDICTIONS));
    let given = Input { name: "own.predictions".to_owned(), ..given };
    run_kind(&Evaluate, &params, &[("predictions", given), ("split", fixture.split())])
}

/// Predictions as a program writes them: in another order of rows and classes, without what `split` knows.
fn as_csv(ran: &Ran) -> String {
    let frame = ran.table("predictions.parquet");
    let images = table::required_strings(&frame, "image_id").unwrap();
    let of = |label: &str| table::floats(&frame, &format!("probability_{label}")).unwrap();
    let [df, akiec, bcc] = ["df", "akiec", "bcc"].map(of);
    let mut text = "image_id,probability_df,probability_akiec,probability_bcc\n".to_owned();
    for row in (0..images.len()).rev() {
        let [df, akiec, bcc] = [&df, &akiec, &bcc].map(|values| values[row].unwrap());
        writeln!(text, "{},{df},{akiec},{bcc}", images[row]).unwrap();
    }
    text
}

#[test]
fn predictions_of_a_program_are_measured_like_the_models_own() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let own = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).unwrap();
    let given = evaluate(&fixture, &as_csv(&own), json!({})).unwrap();
    for name in ["predictions.parquet", "metrics.json", "isic_2018_submission.csv"] {
        assert!(given.bytes(name) == own.bytes(name), "{name}");
    }
}

#[test]
fn probabilities_of_32_bits_are_scaled_to_a_sum_of_1() {
    let fixture = Fixture::new(10);
    let mut text = "image_id,split,probability_akiec,probability_bcc,probability_df\n".to_owned();
    for row in fixture.rows.iter().filter(|row| row.split == "test") {
        writeln!(text, "{},test,0.2500001,0.25,0.5", row.image_id).unwrap();
    }
    let ran = evaluate(&fixture, &text, json!({ "splits": ["test"] })).unwrap();
    let frame = ran.table("predictions.parquet");
    let sum: f64 = ["akiec", "bcc", "df"]
        .iter()
        .map(|label| table::floats(&frame, &format!("probability_{label}")).unwrap()[0].unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-15);
    assert!(!ran.events.iter().any(|event| matches!(event, JobEvent::Warning { .. })), "{:?}", ran.events);
}

/// Every refusal, as people read it.
#[test]
fn refusals_name_row_and_column() {
    let fixture = Fixture::new(10);
    let header = "image_id,probability_akiec,probability_bcc,probability_df\n";
    let row = "ISIC_0003,0.25,0.25,0.5\n";
    let cases = [
        ("no probabilities", "image_id,akiec,bcc,df\nISIC_0003,0.25,0.25,0.5\n".to_owned()),
        ("no images", "image,probability_akiec,probability_bcc,probability_df\nISIC_0003,1,0,0\n".to_owned()),
        ("an empty image", format!("{header}{row},1,0,0\n")),
        ("a word", format!("{header}{row}ISIC_0008,0.2,high,0.5\n")),
        ("an empty probability", format!("{header}{row}ISIC_0008,0.2,,0.5\n")),
        ("logits", format!("{header}{row}ISIC_0008,-1.5,2.5,0.5\n")),
        ("a sum of 0.9", format!("{header}{row}ISIC_0008,0.2,0.2,0.5\n")),
        ("an image that is not in the table", format!("{header}{row}ISIC_9999,0,0,1\n")),
        ("an image twice", format!("{header}{row}{row}")),
        ("a class too few", "image_id,probability_akiec,probability_bcc\nISIC_0003,0.5,0.5\n".to_owned()),
        ("a class of another name", format!("{}{row}", header.replace("_df", "_dff"))),
        ("another true class", format!("label,{header}bcc,{row}")),
        ("no rows of a split", format!("{header}ISIC_0004,0.25,0.25,0.5\n")),
        ("another number of fields", format!("{header}{row}ISIC_0008,0.5,0.5\n")),
    ];
    let mut text = String::new();
    for (what, csv) in cases {
        let error = evaluate(&fixture, &csv, json!({ "splits": ["test"] })).map(|_| ()).unwrap_err();
        let hint = error.hint.clone().unwrap_or_else(|| "(none)".to_owned());
        writeln!(text, "{what}\n  {}\n  hint: {hint}\n", error.to_string().replace('\n', "\n  ")).unwrap();
    }
    insta::assert_snapshot!(text);
}
