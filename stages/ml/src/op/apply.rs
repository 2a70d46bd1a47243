//! Runs an operation on the values of one image, outside of a network.

use super::{Backward, ImagePass, InputGradient, MapOp, OpWeights, OutputGradient, Requires, Scratch, Sink, Source};
use hamflow_kernels::network::{Activation, Level, View};
use hamflow_kernels::shape::{Layout, MapShape};

/// A map without border, and its shape.
pub type Plain<'a> = (MapShape, &'a [f32]);

/// The gradients of an operation: of its weights, and of each input.
pub type Gradients = (Vec<f32>, Vec<Vec<f32>>);

struct Applied<'a> {
    op: &'a dyn MapOp,
    weights: &'a [&'a [f32]],
    prepared: [Vec<f32>; 2],
    inputs: Vec<(Layout, Vec<f32>)>,
    output: Layout,
}

impl<'a> Applied<'a> {
    fn new(op: &'a dyn MapOp, level: Level, weights: &'a [&'a [f32]], inputs: &[Plain<'_>]) -> Self {
        let layout = |shape| match op.requires() {
            Requires::Border => Layout::bordered(shape),
            Requires::Anything | Requires::Values => Layout::plain(shape),
        };
        let stored = |&(shape, values): &Plain<'_>| {
            let mut map = vec![0.0; layout(shape).len()];
            layout(shape).put(values, &mut map);
            (layout(shape), map)
        };
        let mut prepared = [Vec::new(), Vec::new()];
        if !weights.is_empty() {
            op.prepare_forward(level, weights, &mut prepared[0]);
            op.prepare_backward(level, weights, &mut prepared[1]);
        }
        Self { op, weights, prepared, inputs: inputs.iter().map(stored).collect(), output: layout(op.output()) }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.inputs
            .iter()
            .map(|(layout, stored)| Source {
                layout: *layout,
                stored,
                view: View { channels: layout.shape.channels, affine: None, activation: Activation::Identity },
            })
            .collect()
    }

    fn weights(&self) -> OpWeights<'_> {
        OpWeights { tensors: self.weights, forward: &self.prepared[0], backward: &self.prepared[1] }
    }

    /// The output in its layout.
    fn forward(&self, pass: &ImagePass<'_>) -> Vec<f32> {
        let mut values = vec![0.0; self.output.len()];
        let mut sink = Sink { layout: self.output, values: &mut values, statistics: None };
        self.op.forward(pass, self.weights(), &self.sources(), &mut sink, &mut Scratch::default());
        values
    }
}

fn plain(layout: Layout, map: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; layout.shape.len()];
    layout.take(map, &mut values);
    values
}

/// The output, without border.
pub fn forward(op: &dyn MapOp, pass: &ImagePass<'_>, weights: &[&[f32]], inputs: &[Plain<'_>]) -> Vec<f32> {
    let applied = Applied::new(op, pass.pass.level, weights, inputs);
    plain(applied.output, &applied.forward(pass))
}

/// The gradients, given that of the output.
pub fn backward(
    op: &dyn MapOp,
    pass: &ImagePass<'_>,
    weights: &[&[f32]],
    inputs: &[Plain<'_>],
    gradient: &[f32],
) -> Gradients {
    let applied = Applied::new(op, pass.pass.level, weights, inputs);
    let stored = applied.forward(pass);
    let mut of_output = vec![0.0; applied.output.len()];
    applied.output.put(gradient, &mut of_output);
    let mut output = OutputGradient { layout: applied.output, stored: &stored, gradient: &mut of_output, norm: None };
    let mut of_weights = vec![0.0; weights.iter().map(|tensor| tensor.len()).sum()];
    let mut of_inputs: Vec<Vec<f32>> = applied.inputs.iter().map(|(layout, _)| vec![0.0; layout.len()]).collect();
    let sources = applied.sources();
    let mut input_gradients: Vec<Option<InputGradient<'_>>> = of_inputs
        .iter_mut()
        .zip(&sources)
        .map(|(gradient, source)| {
            Some(InputGradient { source: *source, gradient, adds: false, is_last: true, sums: None })
        })
        .collect();
    let (of_op, scratch) = (applied.weights(), &mut Scratch::default());
    let weight_gradient = Some(&mut of_weights[..]);
    let (inputs, output, input_gradients) = (&sources[..], &mut output, &mut input_gradients[..]);
    op.backward(pass, of_op, Backward { inputs, output, weight_gradient, input_gradients }, scratch);
    let layouts = applied.inputs.iter().map(|(layout, _)| *layout);
    (of_weights, of_inputs.iter().zip(layouts).map(|(map, layout)| plain(layout, map)).collect())
}

/// Images with gradients of their outputs: runs a grouped operation on all of them at once. Returns the outputs, the
/// gradient of the weights, and those of the inputs.
#[cfg(test)]
pub(super) fn group(
    op: &dyn MapOp,
    pass: &super::Pass,
    weights: &[&[f32]],
    images: &[(Plain<'_>, &[f32])],
) -> (Vec<Vec<f32>>, Gradients) {
    let scratch = &mut Scratch::default();
    let applied: Vec<_> = images.iter().map(|(input, _)| Applied::new(op, pass.level, weights, &[*input])).collect();
    let layout = applied[0].output;
    let [mut stored, mut of_outputs] = [(); 2].map(|()| vec![vec![0.0; layout.len()]; images.len()]);
    let sources: Vec<Source<'_>> = applied.iter().flat_map(Applied::sources).collect();
    let mut sinks: Vec<_> = stored.iter_mut().map(|values| Sink { layout, values, statistics: None }).collect();
    op.forward_group(pass, applied[0].weights(), &sources, &mut sinks, scratch);
    let mut of_inputs: Vec<_> = sources.iter().map(|source| vec![0.0; source.layout.len()]).collect();
    let mut outputs = Vec::new();
    for ((stored, of_output), (_, values)) in stored.iter().zip(&mut of_outputs).zip(images) {
        layout.put(values, of_output);
        outputs.push(OutputGradient { layout, stored, gradient: of_output, norm: None });
    }
    let mut inputs: Vec<_> = of_inputs
        .iter_mut()
        .zip(&sources)
        .map(|(gradient, source)| InputGradient { source: *source, gradient, adds: false, is_last: true, sums: None })
        .collect();
    op.backward_group(pass, applied[0].weights(), &mut outputs, &mut inputs, scratch);
    let resolved: Vec<(Layout, &[f32])> = of_outputs.iter().map(|gradient| (layout, &gradient[..])).collect();
    let mut of_weights = vec![7.0; weights.iter().map(|tensor| tensor.len()).sum()];
    op.group_weight_gradient(pass.level, &sources, &resolved, &mut of_weights, scratch);
    let of_inputs = of_inputs.iter().zip(&sources).map(|(map, source)| plain(source.layout, map)).collect();
    (stored.iter().map(|map| plain(layout, map)).collect(), (of_weights, of_inputs))
}

/// Adds to some rows of the gradient of the weights.
#[cfg(test)]
pub(super) fn weight_rows(
    op: &dyn MapOp,
    pass: &ImagePass<'_>,
    rows: std::ops::Range<usize>,
    input: Plain<'_>,
    gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let applied = Applied::new(op, pass.pass.level, &[], &[]);
    let layout = if applied.output.is_bordered() { Layout::bordered } else { Layout::plain };
    let mut stored = vec![0.0; layout(input.0).len()];
    layout(input.0).put(input.1, &mut stored);
    let mut of_output = vec![0.0; applied.output.len()];
    applied.output.put(gradient, &mut of_output);
    let view = View { channels: input.0.channels, affine: None, activation: Activation::Identity };
    let source = Source { layout: layout(input.0), stored: &stored, view };
    let output = (applied.output, &of_output[..]);
    op.weight_rows(pass.pass.level, rows, &source, output, weight_gradient, &mut Scratch::default());
}
