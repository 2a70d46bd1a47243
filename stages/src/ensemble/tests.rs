//! Ensembles of two small models that were trained with different seeds.

use serde_json::json;

use super::*;
use crate::ml::classifier::Classifier;
use crate::test_support::{Ran, folder_input, run_kind, run_kind_with};
use crate::train::Train;
use crate::train::test_fixture::Fixture;

fn train(fixture: &Fixture, model: &str, seed: u64) -> Ran {
    let params = json!({ "model": model, "epochs": 2, "batch_size": 7, "learning_rate": 2e-3, "device": "cpu" });
    run_kind_with(&Train, &params, &fixture.inputs(), |job| job.seed = Some(seed)).unwrap()
}

fn model(ran: &Ran) -> Input {
    folder_input(&[&ran.output_dir().join("model")], Some(artifact::MODEL))
}

#[test]
fn the_probabilities_are_the_mean_of_the_members() {
    let fixture = Fixture::new(40);
    let trained = [train(&fixture, "baseline", 1), train(&fixture, "mobilenet-v2", 2)];
    let inputs = trained.each_ref().map(model);
    let joined = run_kind(&Ensemble, &json!({}), &inputs.clone().map(|input| ("models", input))).unwrap();
    let images: Vec<&[u8]> = fixture.images().iter().map(Vec::as_slice).collect();
    let of = |input: &Input| Classifier::load(input).unwrap().probabilities(&images, 2, 2).unwrap();
    let [first, second] = inputs.each_ref().map(of);
    let together = of(&model(&joined));
    for (image, row) in together.iter().enumerate() {
        for (class, probability) in row.iter().enumerate() {
            let mean = (first[image][class] + second[image][class]) / 2.0;
            assert!((probability - mean).abs() < 1e-12);
        }
    }
    let heat = Classifier::load(&model(&joined)).unwrap().heat_maps(&[(images[0], 1)], 1).unwrap();
    assert!(heat[0].values.iter().all(|value| (0.0..=1.0).contains(value)), "{heat:?}");
    let card = joined.json("model/card.json");
    assert_eq!((&card["model"], &card["members"]), (&json!("ensemble"), &json!(["member-1", "member-2"])));
    assert!(String::from_utf8(joined.bytes("model/README.md")).unwrap().starts_with("# Model card: ensemble\n"));

    let nested = run_kind(&Ensemble, &json!({}), &[("models", model(&joined))]).err().unwrap().render();
    assert!(nested.contains("is an ensemble itself"), "{nested}");
}

#[test]
fn models_of_other_classes_cannot_be_joined() {
    let (fixture, mut other) = (Fixture::new(40), Fixture::new(40));
    other.rename_class("bcc", "scc");
    let trained = [train(&fixture, "baseline", 1), train(&other, "baseline", 1)];
    let inputs = trained.each_ref().map(model);
    let error = run_kind(&Ensemble, &json!({}), &inputs.map(|input| ("models", input))).err().unwrap().render();
    assert!(error.contains("has other classes than"), "{error}");
}
