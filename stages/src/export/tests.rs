//! Exports of every model with random weights.

use prost::Message;

use super::proto::ModelProto;
use super::*;
use crate::ml::card::Card;
use crate::ml::model::MODELS;
use crate::ml::recipe::Recipe;
use crate::ml::trainer::first_weights;
use crate::test_support::resolve;
use hamflow_kernels::shape::MapShape;
use serde_json::json;

fn card(model: &str) -> Card {
    serde_json::from_value(json!({
        "format": 1, "model": model, "layers": [], "parameters": 0, "input": {"height": 64, "width": 80, "channels": 3},
        "classes": [{"label": "mel", "name": "Melanoma"}, {"label": "nv", "name": "Nevus"}],
        "normalisation": {"mean": 127.0, "standard_deviation": 128.0}, "preprocess": {"height": 64},
        "training": {"seed": 1, "epochs": 1, "epoch": 1, "training_rows": 1, "validation_rows": 1},
    }))
    .unwrap()
}

#[test]
fn every_model_becomes_a_connected_graph() {
    for model in MODELS {
        let card = card(model.name);
        let network = model.network(MapShape { height: 64, width: 80, channels: 3 }, 2).unwrap();
        let weights = first_weights(&network, &Recipe::default()).unwrap();
        let bytes = onnx::encode(&card, &network, &weights).unwrap();
        let graph = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
        let mut known: std::collections::BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| &tensor.name[..]).chain([onnx::INPUT]).collect();
        assert!(network.tensors().all(|tensor| known.contains(&tensor.name[..])), "{}", model.name);
        for node in &graph.node {
            assert!(node.input.iter().all(|input| known.contains(&input[..])), "{}: {node:?}", model.name);
            assert!(
                node.output.iter().all(|output| known.insert(output)),
                "{}: two nodes write {:?}",
                model.name,
                node.output
            );
        }
        assert!(known.contains(onnx::OUTPUT));
        let convolutions = graph.node.iter().filter(|node| node.op_type == "Conv").count();
        let expected = network.parameters().iter().filter(|parameter| parameter.config.shape.len() > 2).count();
        assert_eq!(convolutions, expected, "{}", model.name);
    }
}

#[test]
fn the_licence_is_an_identifier() {
    resolve(&Export, &json!({ "licence": "mit" })).unwrap();
    let error = resolve(&Export, &json!({ "licence": "mit\ntags: x" })).unwrap_err();
    assert_eq!(error.path, ["licence"]);
}
