//! A network as the device runs it: which layers in which order, with which sizes.

use std::ops::Range;

use super::CudaError;
use super::buffer::Number;
use super::parameters::Placement;
use super::queue::Convolution;
use crate::ml::layer::LayerConfig;
use crate::ml::network::Network;
use crate::ml::precision::Precision;
use crate::ml::shape::MapShape;

/// Indices in the kernels are of 32 bits, and must not overflow when a stride is added.
const MAX_VALUES: usize = 1 << 31;

/// One layer on the device.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerPlan {
    /// A 3×3 convolution, its bias, and ReLU.
    Conv {
        /// What goes in, with the channels that it has on the device.
        input: MapShape,
        /// Channels that come out.
        filters: usize,
        /// Where the weights lie.
        weights: Range<usize>,
        /// Where the bias lies.
        bias: Range<usize>,
    },
    /// The largest value of each 2×2 window, and dropout behind it if there is one.
    Pool {
        /// What goes in.
        input: MapShape,
        /// What is dropped.
        dropout: Option<DropoutPlan>,
    },
    /// Dropout of maps or vectors.
    Dropout {
        /// Values per image.
        length: usize,
        /// What is dropped.
        dropout: DropoutPlan,
        /// Whether an image has a key of its own, or all have one.
        is_per_image: bool,
    },
    /// A product with a matrix, its bias, and ReLU if wanted.
    Dense {
        /// Values that go in.
        inputs: usize,
        /// Values that come out.
        units: usize,
        /// Whether negative values become 0.
        relu: bool,
        /// Where the weights lie.
        weights: Range<usize>,
        /// Where the bias lies.
        bias: Range<usize>,
    },
}

/// A layer of dropout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutPlan {
    /// Which of the layers of dropout it is.
    pub slot: usize,
    /// Hashes below it drop.
    pub threshold: u32,
    /// What the other values are multiplied with.
    pub scale: f32,
}

impl LayerPlan {
    /// Values per image that come out.
    pub fn output_len(&self) -> usize {
        match self {
            Self::Conv { input, filters, .. } => input.height * input.width * filters,
            Self::Pool { input, .. } => input.halved().len(),
            Self::Dropout { length, .. } => *length,
            Self::Dense { units, .. } => *units,
        }
    }
}

/// All layers, and what they need.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The shape of an image.
    pub input: MapShape,
    /// Values per pixel of the map that the first layer sees: the channels, and zeros that tensor cores like.
    pub stride: usize,
    /// The kind of number of maps and vectors.
    pub number: Number,
    /// The layers; the last is dense.
    pub layers: Vec<LayerPlan>,
    /// The numbers of the layers of dropout, which their keys are made of.
    pub dropout_layers: Vec<u32>,
    /// Where the weights lie.
    pub placement: Placement,
    /// The number of classes.
    pub classes: usize,
}

impl Plan {
    /// Plans a network for steps of at most `images`; says what does not run on the device.
    pub fn new(network: &Network, precision: Precision, images: usize) -> Result<Self, CudaError> {
        let unsupported = |what: String| Err(CudaError::Unsupported { what });
        let input = network.input();
        let number = if precision == Precision::Bf16 { Number::Bf16 } else { Number::F32 };
        // Sixteen bytes, which is what tensor cores load at a time.
        let is_padded = matches!(network.configs().first(), Some(LayerConfig::Conv { .. }));
        let stride = if is_padded { input.channels.next_multiple_of(16 / number.size()) } else { input.channels };
        let placement = Placement::new(network.parameters(), stride);
        let mut plan = Self {
            input,
            stride,
            number,
            layers: Vec::new(),
            dropout_layers: Vec::new(),
            placement,
            classes: network.classes(),
        };
        let mut map = MapShape { channels: stride, ..input };
        let (mut width, mut parameter) = (None, 0);
        for (layer, config) in (0..).zip(network.configs()) {
            match *config {
                LayerConfig::Conv { filters } => {
                    let (weights, bias) = plan.take_parameters(&mut parameter);
                    plan.layers.push(LayerPlan::Conv { input: map, filters, weights, bias });
                    map.channels = filters;
                }
                LayerConfig::MaxPool => {
                    plan.layers.push(LayerPlan::Pool { input: map, dropout: None });
                    map = map.halved();
                }
                LayerConfig::Dropout { rate } => {
                    plan.push_dropout(layer, rate, width.unwrap_or(map.len()), width.is_none())
                }
                LayerConfig::Flatten => width = Some(map.len()),
                LayerConfig::Dense { units, relu } => {
                    let (weights, bias) = plan.take_parameters(&mut parameter);
                    let inputs = width.unwrap_or(map.len());
                    plan.layers.push(LayerPlan::Dense { inputs, units, relu, weights, bias });
                    width = Some(units);
                }
            }
        }
        if !matches!(plan.layers.last(), Some(LayerPlan::Dense { relu: false, .. })) {
            return unsupported("the network does not end with a dense layer without ReLU".into());
        }
        let most = plan.most_values();
        if images.saturating_mul(most) >= MAX_VALUES {
            return unsupported(format!(
                "a step of {images} images has maps of {images} · {most} values, and kernels count to 2³¹"
            ));
        }
        Ok(plan)
    }

    fn take_parameters(&self, next: &mut usize) -> (Range<usize>, Range<usize>) {
        *next += 2;
        (self.placement.range(*next - 2), self.placement.range(*next - 1))
    }

    /// Adds dropout of a rate, to the pooling before it where there is one.
    fn push_dropout(&mut self, layer: u32, rate: f64, length: usize, is_per_image: bool) {
        // The numbers of `DropoutMask::new`.
        let threshold = (rate * 4_294_967_296.0) as u32;
        let plan = DropoutPlan { slot: self.dropout_layers.len(), threshold, scale: (1.0 / (1.0 - rate)) as f32 };
        self.dropout_layers.push(layer);
        match self.layers.last_mut() {
            Some(LayerPlan::Pool { dropout: dropout @ None, .. }) if is_per_image => *dropout = Some(plan),
            _ => self.layers.push(LayerPlan::Dropout { length, dropout: plan, is_per_image }),
        }
    }

    /// Values per image of the largest map.
    pub fn most_values(&self) -> usize {
        let outputs = self.layers.iter().map(LayerPlan::output_len).max().unwrap_or(0);
        outputs.max(self.input.height * self.input.width * self.stride)
    }

    /// The convolutions of a step of `images`.
    pub fn convolutions(&self, images: usize) -> Vec<Convolution> {
        let of_layer = |layer: &LayerPlan| match *layer {
            LayerPlan::Conv { input: MapShape { height, width, channels }, filters, .. } => {
                Some(Convolution { images, height, width, inputs: channels, outputs: filters })
            }
            _ => None,
        };
        self.layers.iter().filter_map(of_layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::model;

    #[test]
    fn the_baseline_is_planned_with_dropout_in_its_pooling() {
        let network = Network::new(
            MapShape { height: 75, width: 100, channels: 3 },
            &(model::find("baseline").unwrap().layers)(7),
        )
        .unwrap();
        let plan = Plan::new(&network, Precision::Bf16, 10).unwrap();
        assert_eq!((plan.stride, plan.classes, plan.layers.len()), (8, 7, 9));
        assert_eq!(plan.dropout_layers, [3, 7, 10]);
        assert!(matches!(plan.layers[2], LayerPlan::Pool { dropout: Some(DropoutPlan { slot: 0, .. }), .. }));
        assert_eq!(plan.most_values(), 75 * 100 * 32);
        let error = Plan::new(&network, Precision::F32, 10_000).unwrap_err();
        assert!(error.to_string().contains("kernels count to"), "{error}");
    }
}
