//! Pretrained weights: public files of an architecture's weights, in safetensors format or saved by PyTorch.
//!
//! A file of PyTorch is read by candle, which interprets the few pickle instructions that build tensors. Code in a
//! pickle is never executed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::{DType, Device, Tensor, pickle};

use super::model::{MODELS, Model};
use super::network::Network;
use super::normalisation::Normalisation;
use super::op::WeightLayout;
use super::weights::{Parameter, Weights};

/// The start of a zip archive, which PyTorch has written since version 1.6.
const ZIP: &[u8] = b"PK\x03\x04";

/// Where training scripts put the weights in a file, besides the top level.
const KEYS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// The tensors of a file by name. Errors are ends of sentences that begin with the file's name.
#[derive(Debug)]
pub struct Pretrained {
    tensors: BTreeMap<String, Tensor>,
    /// The normalisation that the file names.
    normalisation: Option<Normalisation>,
}

/// The key of the normalisation in the metadata of a safetensors file that hamflow has exported.
pub const NORMALISATION_KEY: &str = "hamflow_normalisation";

impl Pretrained {
    /// Reads a file; `bytes` is its content, `path` where it lies.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        // The libraries panic on some damaged files.
        let read = || if bytes.starts_with(ZIP) { read_pytorch(path) } else { read_safetensors(bytes) };
        let tensors = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("is damaged".to_owned()))?;
        let strip = |name: String| name.strip_prefix("module.").map(str::to_owned).unwrap_or(name);
        let tensors: BTreeMap<String, Tensor> = tensors
            .into_iter()
            .map(|(name, tensor)| (strip(name), tensor))
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .collect();
        match tensors.is_empty() {
            true => Err("contains no tensors".to_owned()),
            false => Ok(Self { tensors, normalisation: normalisation_of(bytes) }),
        }
    }

    /// The normalisation that the weights were trained with, if the file names it.
    pub fn normalisation(&self) -> Option<Normalisation> {
        self.normalisation
    }

    /// The weights of a network: those of the file, and for the last dense layer, which depends on the classes, those of
    /// `drawn`.
    pub fn weights(&self, model: &Model, network: &Network, drawn: &Weights) -> Result<Weights, String> {
        let names = self.names(model, network);
        let head = network.head();
        let is_of_head = |name: &str| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.'));
        let is_missing = |(parameter, name): (&Parameter, &String)| {
            (!is_of_head(&parameter.name) && !self.tensors.contains_key(name)).then(|| name.clone())
        };
        let missing: Vec<String> = network.tensors().zip(&names).filter_map(is_missing).collect();
        let unexpected: Vec<&String> = self.tensors.keys().filter(|name| !names.contains(name)).collect();
        let problem = match (&missing[..], &unexpected[..]) {
            ([], []) => None,
            ([first, ..], _) => {
                Some(format!("{} of {} tensors are missing (first: `{first}`)", missing.len(), names.len()))
            }
            ([], [first, ..]) => Some(format!("{} tensors are unexpected (first: `{first}`)", unexpected.len())),
        };
        if let Some(problem) = problem {
            let others = MODELS.iter().filter(|other| other.name != model.name && self.fits(other, network));
            let hint =
                others.fold(String::new(), |text, other| format!("{text}; the tensor names match `{}`", other.name));
            return Err(format!("does not contain the weights of `{}`: {problem}{hint}", model.name));
        }
        let values = network.tensors().zip(&names).zip(drawn.iter()).map(|((parameter, name), (_, drawn))| {
            match is_of_head(&parameter.name) {
                true => drawn.flatten_all().and_then(|tensor| tensor.to_vec1()).map_err(|error| error.to_string()),
                false => convert(name, &self.tensors[name], parameter),
            }
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        Weights::from_values(network.tensors(), values.into_iter()).map_err(|error| error.to_string())
    }

    /// The name in the file of each tensor of a network: its own, or the one of another public implementation.
    fn names(&self, model: &Model, network: &Network) -> Vec<String> {
        let own: Vec<String> = network.tensors().map(|parameter| parameter.name.clone()).collect();
        let found = |names: &[String]| names.iter().filter(|name| self.tensors.contains_key(*name)).count();
        let other = (model.other_names)(&own);
        if found(&other) > found(&own) { other } else { own }
    }

    /// Whether all names of a model but the head's are in the file.
    fn fits(&self, model: &Model, network: &Network) -> bool {
        let Ok(other) = model.network(network.input(), network.classes()) else { return false };
        let names = self.names(model, &other);
        names.len() == self.tensors.len() && names.iter().all(|name| self.tensors.contains_key(name))
    }
}

/// The normalisation in the metadata of a safetensors file.
fn normalisation_of(bytes: &[u8]) -> Option<Normalisation> {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).ok()?;
    let text = metadata.metadata().as_ref()?.get(NORMALISATION_KEY)?;
    serde_json::from_str::<Normalisation>(text).ok().filter(Normalisation::is_valid)
}

fn read_safetensors(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu);
    let tensors = tensors.map_err(|error| {
        format!("is neither a valid safetensors file nor one that PyTorch 1.6 or later has saved: {error}")
    })?;
    Ok(tensors.into_iter().collect())
}

fn read_pytorch(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let failed = |error: candle_core::Error| format!("is not a file of tensors that PyTorch has saved: {error}");
    let mut file = pickle::PthTensors::new(path, None).map_err(failed)?;
    for key in KEYS {
        if file.tensor_infos().is_empty() {
            file = pickle::PthTensors::new(path, Some(key)).unwrap_or(file);
        }
    }
    let mut tensors = Vec::new();
    let infos: BTreeMap<_, _> = file.tensor_infos().iter().collect();
    for (name, info) in infos {
        // candle 0.11.1 takes the offset of such a tensor for bytes.
        if info.layout.start_offset() > 0 {
            return Err(format!("has the tensor `{name}` within another one; save a copy of it (`tensor.clone()`)"));
        }
        let tensor = file.get(name).map_err(failed)?.ok_or_else(|| format!("has no data for tensor `{name}`"))?;
        tensors.push((name.clone(), tensor));
    }
    Ok(tensors)
}

/// The values of a tensor in the order of the network's.
fn convert(name: &str, tensor: &Tensor, parameter: &Parameter) -> Result<Vec<f32>, String> {
    let ours = &parameter.config.shape;
    let expected = parameter.config.layout.public_shape(ours);
    if tensor.dims() != expected {
        return Err(format!(
            "has the tensor `{name}` of shape {:?}, but the network requires {expected:?}",
            tensor.dims()
        ));
    }
    let ordered = match parameter.config.layout {
        WeightLayout::Same => Ok(tensor.clone()),
        WeightLayout::Conv => tensor.permute((2, 3, 1, 0)),
        WeightLayout::Depthwise => tensor.squeeze(1).and_then(|tensor| tensor.permute((1, 2, 0))),
        WeightLayout::Dense => tensor.t(),
    };
    let values = ordered.and_then(|tensor| tensor.to_dtype(DType::F32)?.contiguous()?.flatten_all()?.to_vec1::<f32>());
    let values = values.map_err(|error| format!("has the unusable tensor `{name}`: {error}"))?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(format!("has a value in tensor `{name}` that is not finite")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Value};
    use crate::model;
    use crate::op::ConvConfig;
    use crate::trainer::first_weights;
    use hamflow_kernels::shape::MapShape;

    /// The network of `fixtures/pretrained.py`.
    const TINY: Model = Model {
        name: "tiny",
        summary: "a test",
        build,
        normalisation: Normalisation::IMAGENET,
        other_names: |names| names.to_vec(),
    };

    fn build(b: &mut Builder<'_>, image: Value, classes: usize) -> Result<Value, String> {
        let x = b.conv("conv1", image, ConvConfig::new(4, 3))?;
        let x = b.batch_norm("bn1", x, 1e-5);
        let x = b.conv("conv2", x, ConvConfig::new(4, 3).depthwise())?;
        let x = b.global_pool("pool", x);
        let x = b.flatten("flatten", x);
        Ok(b.dense("fc", x, classes))
    }

    fn tiny() -> (Network, Weights) {
        let network = TINY.network(MapShape { height: 5, width: 6, channels: 3 }, 7).unwrap();
        let drawn = first_weights(&network, &crate::recipe::Recipe::default()).unwrap();
        (network, drawn)
    }

    fn read(name: &str) -> Result<Pretrained, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fixtures/pretrained").join(name);
        Pretrained::read(&path, &std::fs::read(&path).unwrap())
    }

    fn weights(name: &str) -> Result<BTreeMap<String, Vec<f32>>, String> {
        let (network, drawn) = tiny();
        let weights = read(name)?.weights(&TINY, &network, &drawn)?;
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
        Ok(weights.iter().map(|(name, tensor)| (name.to_owned(), values(tensor))).collect())
    }

    // The values are printed by `torch.load("plain.pth")["conv1.weight"][1, 2, 0, :2]` and `["conv2.weight"][3, 0, 1, 2]`.
    #[test]
    fn weights_of_pytorch_are_read_in_its_order_and_the_head_is_drawn() {
        let plain = weights("plain.pth").unwrap();
        let conv1 = |row: usize, column: usize, input: usize, output: usize| {
            plain["conv1.weight"][((row * 3 + column) * 3 + input) * 4 + output]
        };
        for (ours, theirs) in [
            (conv1(0, 0, 2, 1), CONV1[0]),
            (conv1(0, 1, 2, 1), CONV1[1]),
            (plain["conv2.weight"][(3 + 2) * 4 + 3], CONV2),
        ] {
            assert!((f64::from(ours) - theirs).abs() < 1e-7, "{ours} {theirs}");
        }
        assert_eq!(plain["bn1.running_var"], [1.0; 4]);
        assert_eq!(weights("nested.pth").unwrap(), plain);
        let half = weights("half.safetensors").unwrap();
        assert!(half["conv1.weight"].iter().zip(&plain["conv1.weight"]).all(|(a, b)| (a - b).abs() < 1e-3 && a != b));
        let (_, drawn) = tiny();
        let head = drawn.iter().find(|(name, _)| *name == "fc.weight").unwrap().1;
        assert_eq!(plain["fc.weight"], head.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }

    const CONV1: [f64; 2] = [0.09892220050096512, -0.1021563857793808];
    const CONV2: f64 = -0.1527402102947235;

    #[test]
    fn files_that_do_not_fit_are_rejected_with_the_tensor() {
        for (name, expected) in [
            ("nan.safetensors", "a value in tensor `bn1.weight` that is not finite"),
            (
                "misshapen.safetensors",
                "the tensor `conv2.weight` of shape [4, 4, 3, 3], but the network requires [4, 1, 3, 3]",
            ),
            ("missing.safetensors", "1 of 8 tensors are missing (first: `bn1.bias`)"),
            ("extra.safetensors", "1 tensors are unexpected (first: `conv3.weight`)"),
            ("slices.pth", "has the tensor `bn1.weight` within another one"),
        ] {
            let error = weights(name).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let path = Path::new("weights");
        assert!(Pretrained::read(path, b"nonsense").unwrap_err().contains("neither a valid safetensors file"));
        let whole =
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fixtures/pretrained/nan.safetensors"));
        let cut = &whole.unwrap()[..700];
        assert!(Pretrained::read(path, cut).unwrap_err().contains("neither a valid safetensors file"));
    }

    #[test]
    fn code_in_a_pickle_is_not_executed() {
        let error = read("code.pth").unwrap_err();
        assert!(error.contains("contains no tensors") || error.contains("not a file of tensors"), "{error}");
        assert!(!Path::new("/tmp/hamflow-executed-a-pickle").exists());
    }

    #[test]
    fn weights_of_another_architecture_are_recognised() {
        let shape = MapShape { height: 64, width: 64, channels: 3 };
        let resnet = model::find("resnet-18").unwrap();
        let network = resnet.network(shape, 7).unwrap();
        let drawn = first_weights(&network, &crate::recipe::Recipe::default()).unwrap();
        let tensors = drawn.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let lite = model::find("efficientnet-lite0").unwrap();
        let other = lite.network(shape, 7).unwrap();
        let drawn = first_weights(&other, &crate::recipe::Recipe::default()).unwrap();
        let error = Pretrained { tensors, normalisation: None }.weights(lite, &other, &drawn).unwrap_err();
        assert!(
            error.contains("tensors are missing") && error.contains("the tensor names match `resnet-18`"),
            "{error}"
        );
    }

    // Printed by `python fixtures/pretrained.py WEIGHTS SHARD`: every 125th logit, and the class.
    const LOGITS: [(&str, [f64; 8], usize); 3] = [
        ("ISIC_0024306", [-0.643392, 2.85791, -0.0562748, -2.08206, -1.11006, 1.47536, -0.742124, -1.97001], 78),
        ("ISIC_0024307", [-1.19532, 1.89263, 0.112034, -0.44901, -0.443918, -0.466898, 1.67052, -1.82815], 885),
        ("ISIC_0024308", [-1.28915, 2.00121, 0.482986, -1.17206, 0.371367, 0.332624, 0.297146, -2.41385], 111),
    ];

    #[test]
    #[ignore = "needs the real data"]
    fn logits_of_efficientnet_lite0_match_pytorch() {
        let path = crate::test_support::shared("weights/efficientnet-lite0.safetensors");
        let read = Pretrained::read(&path, &std::fs::read(&path).unwrap()).unwrap();
        let lite = model::find("efficientnet-lite0").unwrap();
        let network = lite.network(MapShape { height: 150, width: 200, channels: 3 }, 1000).unwrap();
        let drawn = first_weights(&network, &crate::recipe::Recipe::default()).unwrap();
        let weights = read.weights(lite, &network, &drawn).unwrap();
        // With the head of the file, for the classes of ImageNet.
        let head = |name: &str| read.tensors[&format!("_fc.{name}")].clone();
        let [weight, bias] = [head("weight").t().unwrap().contiguous().unwrap(), head("bias")];
        for (name, tensor) in weights.iter().filter(|(name, _)| name.starts_with("classifier.")) {
            let from = if name.ends_with("weight") { &weight } else { &bias };
            let values = from.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            crate::weights::change(tensor, |own| own.copy_from_slice(&values)).unwrap();
        }
        let predictor = network.predictor(&weights).unwrap();
        for (image, expected, class) in LOGITS {
            let path = crate::test_support::shared("ham10000/HAM10000_images_part_1").join(format!("{image}.jpg"));
            let pixels = hamflow_kernels::imaging::decode(&std::fs::read(path).unwrap()).unwrap().into_raw();
            let logits = crate::trainer::predict_view(
                &predictor,
                &lite.normalisation.table(),
                &[&pixels],
                &crate::augment::Draw::NONE,
            )
            .unwrap();
            for (ours, theirs) in logits.iter().step_by(125).zip(expected) {
                assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{image}: {ours} {theirs}");
            }
            assert_eq!(crate::loss::argmax(&logits), class, "{image}");
        }
    }
}
