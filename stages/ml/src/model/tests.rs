//! Compares the models with public implementations.

use super::*;

// The numbers of parameters of torchvision's and timm's models with 7 classes:
// sum(p.numel() for p in timm.create_model("tf_efficientnet_lite0", num_classes=7).parameters())
#[test]
fn models_have_as_many_parameters_as_the_public_ones() {
    let expected = [
        ("baseline", 3_752_999),
        ("efficientnet-lite0", 3_379_975),
        ("efficientnet-lite1", 4_144_647),
        ("efficientnet-lite2", 4_820_039),
        ("resnet-18", 11_180_103),
        ("mobilenet-v2", 2_232_839),
    ];
    assert_eq!(MODELS.iter().map(|model| model.name).collect::<Vec<_>>(), expected.map(|(name, _)| name));
    let shape = MapShape { height: 75, width: 100, channels: 3 };
    for (name, count) in expected {
        assert_eq!(find(name).unwrap().network(shape, 7).unwrap().parameter_count(), count, "{name}");
    }
}
