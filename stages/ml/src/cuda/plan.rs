//! The execution plan of a network on the device: maps, steps and layers of vectors with their sizes and weights, in
//! order.

use std::collections::BTreeMap;
use std::ops::Range;

use super::CudaError;
use super::buffer::Number;
use super::parameters::{Filters, Placement};
use super::queue::{Convolution, Window};
use crate::graph::Step;
use crate::network::Network;
use crate::op::{
    Add, BatchNorm, Conv, ConvConfig, Dense, Depthwise, DirectConv, GlobalPool, ImageDropout, MapOp, Materialise,
    MaxPool, Pointwise, RowDropout, StochasticDepth, WinogradConv,
};
use crate::precision::Precision;
use hamflow_kernels::network::Activation;
use hamflow_kernels::shape::MapShape;

/// The exclusive maximum size of a buffer: kernels use 32-bit indices, which must not overflow when a stride is added.
const MAX_VALUES: usize = 1 << 31;

/// A stored map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapPlan {
    /// The shape, with the number of channels on the device.
    pub shape: MapShape,
    /// The normalisation of what is stored.
    pub norm: Option<usize>,
    /// The activation of what is stored, after normalisation.
    pub activation: Activation,
}

impl MapPlan {
    /// Whether its values differ from what is stored.
    pub fn is_viewed(&self) -> bool {
        self.norm.is_some() || self.activation != Activation::Identity
    }
}

/// A batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct NormPlan {
    /// The configuration.
    pub config: BatchNorm,
    /// The ranges of γ and β.
    pub weights: [Range<usize>; 2],
    /// The index of γ among the parameters; β follows.
    pub parameter: usize,
    /// Where the running mean begins among the statistics; the variance follows.
    pub running: usize,
}

/// Zeros around a map, for windows that are not centred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadPlan {
    /// The map.
    pub from: MapShape,
    /// The larger one.
    pub to: MapShape,
    /// Rows above and columns to the left.
    pub before: [usize; 2],
}

/// An operation on maps.
#[derive(Debug, Clone, PartialEq)]
pub enum OpPlan {
    /// A convolution by cuDNN.
    Conv {
        /// For one image.
        convolution: Convolution,
        /// What is done to the input before.
        pad: Option<PadPlan>,
        /// The range of the weights.
        weights: Range<usize>,
        /// The range of the bias, if there is one.
        bias: Option<Range<usize>>,
        /// Whether ReLU follows the bias.
        relu: bool,
    },
    /// A product of each pixel with the same matrix.
    Product {
        /// Pixels per image, inputs and outputs.
        sizes: [usize; 3],
        /// The range of the weights.
        weights: Range<usize>,
    },
    /// A depthwise convolution.
    Depthwise {
        /// The window.
        window: Window,
        /// The range of the weights.
        weights: Range<usize>,
    },
    /// Max pooling over 2×2 windows, optionally followed by dropout.
    Pool {
        /// The input shape.
        input: MapShape,
        /// The dropout.
        dropout: Option<DropoutPlan>,
    },
    /// Max pooling over overlapping windows.
    Windows(Window),
    /// The mean of each channel over this number of pixels.
    Mean(usize),
    /// The sum of two maps.
    Add,
    /// Dropout with a key per image.
    Dropout(DropoutPlan),
    /// Stochastic depth, or a copy if there is no rate.
    Keep(Option<(DropoutPlan, f64)>),
}

/// An operation with the maps that it reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// The operation.
    pub op: OpPlan,
    /// The maps that it reads.
    pub inputs: Vec<usize>,
    /// The map that it writes.
    pub output: usize,
    /// The indices of its parameters.
    pub parameters: Range<usize>,
}

/// A layer of vectors.
#[derive(Debug, Clone, PartialEq)]
pub enum RowPlan {
    /// Dropout with one key for the batch.
    Dropout {
        /// Values per image.
        length: usize,
        /// The dropout.
        dropout: DropoutPlan,
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

impl RowPlan {
    /// The number of outputs per image.
    pub fn output_len(&self) -> usize {
        match self {
            Self::Dropout { length, .. } => *length,
            Self::Dense { units, .. } => *units,
        }
    }
}

/// Dropout or stochastic depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutPlan {
    /// The index among the random operations.
    pub slot: usize,
    /// Values whose hash is below this are dropped.
    pub threshold: u32,
    /// The factor for what is kept.
    pub scale: f32,
}

/// All operations and their requirements.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The shape of an input image.
    pub input: MapShape,
    /// The element type of maps and vectors.
    pub number: Number,
    /// The maps; the first one is the image, whose channels are padded with zeros for tensor cores.
    pub maps: Vec<MapPlan>,
    /// The normalisations.
    pub norms: Vec<NormPlan>,
    /// The operations on maps.
    pub steps: Vec<StepPlan>,
    /// The map that the first layer of vectors reads.
    pub flattened: usize,
    /// The map that heat maps explain.
    pub features: Option<usize>,
    /// The layers of vectors; the last one is dense.
    pub rows: Vec<RowPlan>,
    /// The numbers of the random operations, from which their keys are derived.
    pub random: Vec<u32>,
    /// The layout of the weights.
    pub placement: Placement,
    /// The number of running statistics.
    pub statistics: usize,
    /// The number of classes.
    pub classes: usize,
}

impl Plan {
    /// Plans a network for steps of at most `images` images. Fails if it is not supported on the device.
    pub fn new(network: &Network, precision: Precision, images: usize) -> Result<Self, CudaError> {
        let unsupported = |what: String| Err(CudaError::Unsupported { what });
        let (input, lowered) = (network.input(), network.lowered());
        let number = if precision == Precision::Bf16 { Number::Bf16 } else { Number::F32 };
        // Sixteen bytes, the load size of tensor cores.
        let is_padded = lowered.steps.first().is_some_and(|step| convolution_of(&*step.op).is_some());
        let stride = if is_padded { input.channels.next_multiple_of(16 / number.size()) } else { input.channels };
        let map =
            |map: &crate::graph::Map| MapPlan { shape: map.layout.shape, norm: map.norm, activation: map.activation };
        let mut maps: Vec<MapPlan> = lowered.maps.iter().map(map).collect();
        maps[0].shape.channels = stride;
        let mut filters = BTreeMap::new();
        for step in &lowered.steps {
            if let Some((config, _)) = convolution_of(&*step.op) {
                let inputs = lowered.maps[step.inputs[0]].layout.shape.channels / config.groups;
                let padded = maps[step.inputs[0]].shape.channels / config.groups;
                filters.insert(step.parameters.start, Filters { inputs, padded, outputs: config.filters });
            }
        }
        let placement = Placement::new(network.parameters(), &filters);
        let mut running = 0;
        let norms = lowered.norms.iter().map(|norm| {
            running += 2 * norm.config.channels;
            NormPlan {
                config: norm.config,
                weights: [placement.range(norm.parameters), placement.range(norm.parameters + 1)],
                parameter: norm.parameters,
                running: running - 2 * norm.config.channels,
            }
        });
        let mut plan = Self {
            input,
            number,
            norms: norms.collect(),
            maps,
            steps: Vec::new(),
            flattened: lowered.flattened,
            features: lowered.features,
            rows: Vec::new(),
            random: Vec::new(),
            statistics: running,
            placement,
            classes: network.classes(),
        };
        for step in &lowered.steps {
            plan.push_step(step)?;
        }
        let mut inputs = plan.maps[plan.flattened].shape.len();
        for row in &lowered.rows {
            let Some(op) = &row.op else { continue };
            if let Some(dense) = op.downcast::<Dense>() {
                let [weights, bias] = [0, 1].map(|index| plan.placement.range(row.parameters.start + index));
                plan.rows.push(RowPlan::Dense { inputs, units: row.output, relu: dense.has_relu(), weights, bias });
            } else if let Some(dropout) = op.downcast::<RowDropout>() {
                let dropout = plan.dropout(dropout.number(), dropout.rate());
                plan.rows.push(RowPlan::Dropout { length: inputs, dropout });
            }
            inputs = row.output;
        }
        if !matches!(plan.rows.last(), Some(RowPlan::Dense { relu: false, .. })) {
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

    fn push_step(&mut self, step: &Step) -> Result<(), CudaError> {
        let (input, output) = (self.maps[step.inputs[0]].shape, self.maps[step.output].shape);
        let weights = || self.placement.range(step.parameters.start);
        let op = if let Some((config, [top, left])) = convolution_of(&*step.op) {
            let bias = config.bias.then(|| self.placement.range(step.parameters.start + 1));
            let relu = step.op.downcast::<DirectConv>().is_some_and(DirectConv::has_bias_and_relu);
            let (convolution, pad) = centred(config, input, output, [top, left]);
            OpPlan::Conv { convolution, pad, weights: weights(), bias, relu }
        } else if step.op.downcast::<Pointwise>().is_some() {
            let sizes = [input.pixels(), input.channels, output.channels];
            OpPlan::Product { sizes, weights: weights() }
        } else if let Some(depthwise) = step.op.downcast::<Depthwise>() {
            OpPlan::Depthwise { window: Window::new(depthwise.window(), input, output), weights: weights() }
        } else if let Some(pool) = step.op.downcast::<MaxPool>() {
            match pool.is_halving() {
                true => OpPlan::Pool { input, dropout: None },
                false => OpPlan::Windows(Window::new(pool.window(), input, output)),
            }
        } else if step.op.downcast::<GlobalPool>().is_some() {
            OpPlan::Mean(input.pixels())
        } else if step.op.downcast::<Add>().is_some() {
            OpPlan::Add
        } else if step.op.downcast::<Materialise>().is_some() {
            OpPlan::Keep(None)
        } else if let Some(depth) = step.op.downcast::<StochasticDepth>() {
            OpPlan::Keep(Some((self.dropout(depth.number(), depth.rate()), depth.rate())))
        } else if let Some(dropout) = step.op.downcast::<ImageDropout>() {
            let dropout = self.dropout(dropout.number(), dropout.rate());
            if self.fuses_into_pooling(step, dropout) {
                return Ok(());
            }
            OpPlan::Dropout(dropout)
        } else {
            let what = format!("`{}` ({}) is not available on CUDA", step.name, step.op.kind());
            return Err(CudaError::Unsupported { what });
        };
        self.steps.push(StepPlan {
            op,
            inputs: step.inputs.clone(),
            output: step.output,
            parameters: step.parameters.clone(),
        });
        Ok(())
    }

    /// Fuses dropout into directly preceding pooling, whose output nothing else reads.
    fn fuses_into_pooling(&mut self, step: &Step, plan: DropoutPlan) -> bool {
        let pooled = step.inputs[0];
        let is_read = pooled == self.flattened || self.features == Some(pooled);
        let is_plain = !self.maps[pooled].is_viewed() && !is_read;
        match self.steps.last_mut() {
            Some(StepPlan { op: OpPlan::Pool { dropout: dropout @ None, .. }, output, .. })
                if *output == pooled && is_plain =>
            {
                (*dropout, *output) = (Some(plan), step.output);
                true
            }
            _ => false,
        }
    }

    /// A random operation.
    fn dropout(&mut self, number: u64, rate: f64) -> DropoutPlan {
        // The same values as in `DropoutMask::new`.
        let threshold = (rate * 4_294_967_296.0) as u32;
        self.random.push(number as u32);
        DropoutPlan { slot: self.random.len() - 1, threshold, scale: (1.0 / (1.0 - rate)) as f32 }
    }

    /// Values per image of the largest map or vector.
    pub fn most_values(&self) -> usize {
        let maps = self.maps.iter().map(|map| map.shape.len());
        let padded = self.pads().map(|pad| pad.to.len());
        maps.chain(padded).chain(self.rows.iter().map(RowPlan::output_len)).max().unwrap_or(0)
    }

    /// What is padded.
    pub fn pads(&self) -> impl Iterator<Item = PadPlan> {
        self.steps.iter().filter_map(|step| match step.op {
            OpPlan::Conv { pad, .. } => pad,
            _ => None,
        })
    }

    /// The convolutions in a step of `images` images.
    pub fn convolutions(&self, images: usize) -> Vec<Convolution> {
        let of_step = |step: &StepPlan| match step.op {
            OpPlan::Conv { convolution, .. } => Some(Convolution { images, ..convolution }),
            _ => None,
        };
        self.steps.iter().filter_map(of_step).collect()
    }
}

/// The configuration of an operation that cuDNN computes, and the padding above and to the left.
fn convolution_of(op: &dyn MapOp) -> Option<(ConvConfig, [usize; 2])> {
    if let Some(conv) = op.downcast::<Conv>() {
        return Some((conv.config(), conv.padding()));
    }
    let is_direct = op.downcast::<DirectConv>().is_some() || op.downcast::<WinogradConv>().is_some();
    let has_bias = op.downcast::<DirectConv>().is_some_and(DirectConv::has_bias_and_relu);
    is_direct.then(|| (ConvConfig { bias: has_bias, ..ConvConfig::new(op.output().channels, 3) }, [1, 1]))
}

/// A convolution whose windows are centred, as cuDNN requires, after padding if needed.
fn centred(
    config: ConvConfig,
    input: MapShape,
    output: MapShape,
    before: [usize; 2],
) -> (Convolution, Option<PadPlan>) {
    let ConvConfig { kernel, stride, groups, filters, .. } = config;
    // With this padding on both sides, cuDNN's output has the same size.
    let is_centred = |length: usize, before: usize, count: usize| {
        (length + 2 * before).checked_sub(kernel).is_some_and(|rest| rest / stride + 1 == count)
    };
    let fits = is_centred(input.height, before[0], output.height) && is_centred(input.width, before[1], output.width);
    let all = |count: usize, length: usize, before: usize| ((count - 1) * stride + kernel).max(length + before);
    let padded = MapShape {
        height: all(output.height, input.height, before[0]),
        width: all(output.width, input.width, before[1]),
        ..input
    };
    let (map, padding, pad) = match fits {
        true => (input, before, None),
        false => (padded, [0, 0], Some(PadPlan { from: input, to: padded, before })),
    };
    let convolution = Convolution {
        images: 1,
        height: map.height,
        width: map.width,
        inputs: input.channels,
        outputs: filters,
        kernel,
        stride,
        padding,
        groups,
    };
    (convolution, pad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{self, MODELS};

    const SHAPE: MapShape = MapShape { height: 75, width: 100, channels: 3 };

    #[test]
    fn the_baseline_fuses_dropout_into_pooling() {
        let network = model::find("baseline").unwrap().network(SHAPE, 7).unwrap();
        let plan = Plan::new(&network, Precision::Bf16, 10).unwrap();
        assert_eq!((plan.maps[0].shape.channels, plan.classes), (8, 7));
        assert_eq!((plan.steps.len(), plan.rows.len()), (6, 3));
        assert_eq!(plan.random, [3, 7, 10]);
        assert!(matches!(plan.steps[2].op, OpPlan::Pool { dropout: Some(DropoutPlan { slot: 0, .. }), .. }));
        assert_eq!(plan.most_values(), 75 * 100 * 32);
        let error = Plan::new(&network, Precision::F32, 10_000).unwrap_err();
        assert!(error.to_string().contains("exceeds the limit"), "{error}");
    }

    #[test]
    fn every_model_has_a_plan() {
        for model in MODELS {
            let network = model.network(SHAPE, 7).unwrap();
            let plan = Plan::new(&network, Precision::F32, 10).unwrap();
            let weights: usize = network.parameters().iter().map(|parameter| parameter.config.len()).sum();
            assert!(plan.placement.len() >= weights, "{}", model.name);
            assert_eq!(plan.norms.len(), network.lowered().norms.len());
            for step in &plan.steps {
                let OpPlan::Conv { convolution, pad, .. } = &step.op else { continue };
                let output = plan.maps[step.output].shape;
                assert_eq!(convolution.output(), [output.height, output.width], "{}: {pad:?}", model.name);
            }
        }
    }

    // TensorFlow's "SAME" pads a width of 100 with nothing to the left and one column to the right.
    #[test]
    fn windows_that_are_not_centred_are_padded() {
        let output = MapShape { height: 38, width: 50, channels: 32 };
        let config = ConvConfig::new(32, 3).stride(2).same();
        let (convolution, pad) = centred(config, SHAPE, output, [1, 0]);
        let to = MapShape { height: 77, width: 101, channels: 3 };
        assert_eq!(pad, Some(PadPlan { from: SHAPE, to, before: [1, 0] }));
        assert_eq!((convolution.padding, convolution.output()), ([0, 0], [38, 50]));
        let (convolution, pad) = centred(ConvConfig::new(32, 3).stride(2), SHAPE, output, [1, 1]);
        assert_eq!((convolution.padding, pad), ([1, 1], None));
    }
}
