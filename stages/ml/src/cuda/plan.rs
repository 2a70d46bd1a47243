//! The execution plan of a network on the device: layers with their sizes, in order.

use std::ops::Range;

use super::CudaError;
use super::buffer::Number;
use super::parameters::Placement;
use super::queue::Convolution;
use crate::network::Network;
use crate::op::{Dense, DirectConv, ImageDropout, MaxPool, RowDropout};
use crate::precision::Precision;
use hamflow_kernels::shape::MapShape;

/// The exclusive maximum size of a buffer: kernels use 32-bit indices, which must not overflow when a stride is added.
const MAX_VALUES: usize = 1 << 31;

/// One layer on the device.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerPlan {
    /// A 3×3 convolution with bias and ReLU.
    Conv {
        /// The input shape, with the number of channels on the device.
        input: MapShape,
        /// The number of output channels.
        filters: usize,
        /// The range of the weights.
        weights: Range<usize>,
        /// The range of the bias.
        bias: Range<usize>,
    },
    /// Max pooling over 2×2 windows, optionally followed by dropout.
    Pool {
        /// The input shape.
        input: MapShape,
        /// The dropout.
        dropout: Option<DropoutPlan>,
    },
    /// Dropout of feature maps or vectors.
    Dropout {
        /// Values per image.
        length: usize,
        /// The dropout.
        dropout: DropoutPlan,
        /// Whether each image has its own key, instead of one for the batch.
        is_per_image: bool,
    },
    /// A dense layer with bias, optionally followed by ReLU.
    Dense {
        /// The number of inputs.
        inputs: usize,
        /// The number of outputs.
        units: usize,
        /// Whether ReLU is applied.
        relu: bool,
        /// The range of the weights.
        weights: Range<usize>,
        /// The range of the bias.
        bias: Range<usize>,
    },
}

/// A dropout layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutPlan {
    /// The index among the dropout layers.
    pub slot: usize,
    /// Values whose hash is below this are dropped.
    pub threshold: u32,
    /// The factor for the values that are kept.
    pub scale: f32,
}

impl LayerPlan {
    /// The number of outputs per image.
    pub fn output_len(&self) -> usize {
        match self {
            Self::Conv { input, filters, .. } => input.height * input.width * filters,
            Self::Pool { input, .. } => input.halved().len(),
            Self::Dropout { length, .. } => *length,
            Self::Dense { units, .. } => *units,
        }
    }
}

/// All layers and their requirements.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The shape of an input image.
    pub input: MapShape,
    /// Values per pixel of the first layer's input: the channels, padded with zeros for tensor cores.
    pub stride: usize,
    /// The element type of feature maps and vectors.
    pub number: Number,
    /// The layers; the last one is dense.
    pub layers: Vec<LayerPlan>,
    /// The layer numbers of the dropout layers, from which their keys are derived.
    pub dropout_layers: Vec<u32>,
    /// The layout of the weights.
    pub placement: Placement,
    /// The number of classes.
    pub classes: usize,
}

impl Plan {
    /// Plans a network for steps of at most `images` images. Fails if it is not supported on the device.
    pub fn new(network: &Network, precision: Precision, images: usize) -> Result<Self, CudaError> {
        let unsupported = |what: String| Err(CudaError::Unsupported { what });
        let input = network.input();
        let number = if precision == Precision::Bf16 { Number::Bf16 } else { Number::F32 };
        // Sixteen bytes, the load size of tensor cores.
        let lowered = network.lowered();
        let is_padded = lowered.steps.first().is_some_and(|step| step.op.downcast::<DirectConv>().is_some());
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
        for step in &lowered.steps {
            if let Some(conv) = step.op.downcast::<DirectConv>().filter(|conv| conv.has_bias_and_relu()) {
                let (weights, bias) = plan.take_parameters(step.parameters.start);
                let filters = conv.filters();
                plan.layers.push(LayerPlan::Conv { input: map, filters, weights, bias });
                map.channels = filters;
            } else if step.op.downcast::<MaxPool>().is_some_and(MaxPool::is_halving) {
                plan.layers.push(LayerPlan::Pool { input: map, dropout: None });
                map = map.halved();
            } else if let Some(dropout) = step.op.downcast::<ImageDropout>() {
                plan.push_dropout(dropout.number(), dropout.rate(), map.len(), true);
            } else {
                return unsupported(format!("`{}` ({}) is not available on CUDA yet", step.name, step.op.kind()));
            }
        }
        let mut inputs = map.len();
        for row in &lowered.rows {
            let Some(op) = &row.op else { continue };
            if let Some(dense) = op.downcast::<Dense>() {
                let (weights, bias) = plan.take_parameters(row.parameters.start);
                plan.layers.push(LayerPlan::Dense { inputs, units: row.output, relu: dense.has_relu(), weights, bias });
            } else if let Some(dropout) = op.downcast::<RowDropout>() {
                plan.push_dropout(dropout.number(), dropout.rate(), inputs, false);
            }
            inputs = row.output;
        }
        if !matches!(plan.layers.last(), Some(LayerPlan::Dense { relu: false, .. })) {
            return unsupported("the network must end with a dense layer without ReLU".into());
        }
        let most = plan.most_values();
        if images.saturating_mul(most) >= MAX_VALUES {
            return unsupported(format!(
                "a step of {images} images has feature maps of {images} · {most} values, which exceeds the limit of 2³¹"
            ));
        }
        Ok(plan)
    }

    /// The ranges of the weights and the bias, given the index of the weights.
    fn take_parameters(&self, first: usize) -> (Range<usize>, Range<usize>) {
        (self.placement.range(first), self.placement.range(first + 1))
    }

    /// Adds dropout, fused into a directly preceding pooling layer.
    fn push_dropout(&mut self, layer: u64, rate: f64, length: usize, is_per_image: bool) {
        // The same values as in `DropoutMask::new`.
        let threshold = (rate * 4_294_967_296.0) as u32;
        let plan = DropoutPlan { slot: self.dropout_layers.len(), threshold, scale: (1.0 / (1.0 - rate)) as f32 };
        self.dropout_layers.push(layer as u32);
        match self.layers.last_mut() {
            Some(LayerPlan::Pool { dropout: dropout @ None, .. }) if is_per_image => *dropout = Some(plan),
            _ => self.layers.push(LayerPlan::Dropout { length, dropout: plan, is_per_image }),
        }
    }

    /// Values per image of the largest feature map.
    pub fn most_values(&self) -> usize {
        let outputs = self.layers.iter().map(LayerPlan::output_len).max().unwrap_or(0);
        outputs.max(self.input.height * self.input.width * self.stride)
    }

    /// The convolutions in a step of `images` images.
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
    use crate::model;

    #[test]
    fn the_baseline_fuses_dropout_into_pooling() {
        let shape = MapShape { height: 75, width: 100, channels: 3 };
        let network = model::find("baseline").unwrap().network(shape, 7).unwrap();
        let plan = Plan::new(&network, Precision::Bf16, 10).unwrap();
        assert_eq!((plan.stride, plan.classes, plan.layers.len()), (8, 7, 9));
        assert_eq!(plan.dropout_layers, [3, 7, 10]);
        assert!(matches!(plan.layers[2], LayerPlan::Pool { dropout: Some(DropoutPlan { slot: 0, .. }), .. }));
        assert_eq!(plan.most_values(), 75 * 100 * 32);
        let error = Plan::new(&network, Precision::F32, 10_000).unwrap_err();
        assert!(error.to_string().contains("exceeds the limit"), "{error}");
        let network = model::find("resnet-18").unwrap().network(shape, 7).unwrap();
        let error = Plan::new(&network, Precision::F32, 10).unwrap_err();
        assert!(error.to_string().contains("`conv1` (conv 7×7, stride 2) is not available on CUDA yet"), "{error}");
    }
}
