//! A 3×3 convolution with stride 1 and "same" padding of maps with many channels, by Winograd's minimal filtering.

use super::access::{TILE, part};
use super::{
    Backward, ConvConfig, ImagePass, Initial, InputGradient, MapOp, OpWeights, OutputGradient, ParameterConfig, Pass,
    Requires, Scratch, Sink, Source, WeightLayout,
};
use hamflow_kernels::network::{
    Level, Matrix, OUTSIDE, POSITIONS, ProductShape, outer_product, pack, packed_len, product, winograd_filter,
    winograd_filter_gradient, winograd_input, winograd_output, winograd_output_gradient,
};
use hamflow_kernels::shape::{Layout, MapShape, spans};

/// The fewest channels for which the transforms pay.
const LEAST_CHANNELS: usize = 32;

/// The values of transformed tiles that are processed at once: they stay in the L2 cache.
const VALUES: usize = 250_000;

/// Tiles that are processed at once if there are many channels: each weight is read from memory for so many.
const LEAST_TILES: usize = 96;

/// `[height, width, inputs]` → `[height, width, filters]`; weights `[3, 3, inputs, filters]`.
///
/// Tiles of several images are processed together, because their number decides how often a weight that was loaded is
/// used: the last maps of a network have few pixels and many channels.
#[derive(Debug, Clone, Copy)]
pub struct WinogradConv {
    input: MapShape,
    filters: usize,
    initial: Initial,
}

/// The values of an image's map.
type Plane<'a> = (Layout, &'a [f32]);

/// A map that is written or added to.
struct Target<'a> {
    layout: Layout,
    values: &'a mut [f32],
    adds: bool,
}

/// The tiles of 2×2 pixels of the maps of several images.
#[derive(Clone, Copy)]
struct Tiles {
    height: usize,
    width: usize,
}

impl Tiles {
    fn per_image(self) -> usize {
        self.height.div_ceil(2) * self.width.div_ceil(2)
    }

    /// The image of a tile, and its first row and column.
    fn place(self, tile: usize) -> (usize, [usize; 2]) {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        let columns = self.width.div_ceil(2);
        (image, [2 * (tile / columns), 2 * (tile % columns)])
    }

    /// Where pixel (`y`, `x`) begins, which may be outside of the map.
    fn at(self, layout: Layout, y: Option<usize>, x: Option<usize>) -> usize {
        match (y.filter(|y| *y < self.height), x.filter(|x| *x < self.width)) {
            (Some(y), Some(x)) => layout.at(y, x),
            _ => OUTSIDE,
        }
    }

    /// The 4×4 pixels that a tile depends on.
    fn inputs(self, layout: Layout, [top, left]: [usize; 2]) -> [usize; 16] {
        std::array::from_fn(|i| self.at(layout, (top + i / 4).checked_sub(1), (left + i % 4).checked_sub(1)))
    }

    /// The 2×2 pixels of a tile.
    fn outputs(self, layout: Layout, [top, left]: [usize; 2]) -> [usize; 4] {
        std::array::from_fn(|i| self.at(layout, Some(top + i / 2), Some(left + i % 2)))
    }
}

impl WinogradConv {
    /// Whether it can, and should, compute the convolution.
    pub fn fits(input: MapShape, config: ConvConfig) -> bool {
        config.is_direct(input) && !config.bias && input.channels.min(config.filters) >= LEAST_CHANNELS
    }

    /// A convolution for which [`WinogradConv::fits`] holds.
    pub fn new(input: MapShape, config: ConvConfig) -> Self {
        Self { input, filters: config.filters, initial: config.initial(input.channels) }
    }

    fn tiles(&self) -> Tiles {
        Tiles { height: self.input.height, width: self.input.width }
    }

    /// The number of filters of one position: inputs × outputs.
    fn pairs(&self) -> usize {
        self.input.channels * self.filters
    }

    /// The number of tiles that are processed at once.
    fn most_tiles(&self) -> usize {
        (VALUES / (POSITIONS * (self.input.channels + self.filters))).max(LEAST_TILES)
    }

    /// Transforms the weights and packs each position. The transposed matrices are for the gradient of the input, whose
    /// filters are turned by 180°: that exchanges the first and last row, and column, of the transformed filter.
    fn prepare(&self, level: Level, weights: &[f32], transposed: bool, prepared: &mut Vec<f32>) {
        let (channels, filters, pairs) = (self.input.channels, self.filters, self.pairs());
        let (inputs, outputs, strides) = match transposed {
            false => (channels, filters, [filters, 1]),
            true => (filters, channels, [1, filters]),
        };
        let size = packed_len(inputs, outputs);
        let prepared = part(prepared, POSITIONS * size + 4 * pairs);
        let (packed, row) = prepared.split_at_mut(POSITIONS * size);
        let turned = |place: usize| match place {
            0 | 3 if transposed => 3 - place,
            _ => place,
        };
        for y in 0..4 {
            winograd_filter(level, y, weights, pairs, row);
            for (x, values) in row.chunks_exact(pairs).enumerate() {
                let position = 4 * turned(y) + turned(x);
                let packed = &mut packed[position * size..][..size];
                pack(level, Matrix { values, inputs, outputs, strides }, packed);
            }
        }
    }

    /// Correlates maps of `from` channels with the packed filters to maps of `to` channels.
    fn correlate(
        &self,
        level: Level,
        [from, to]: [usize; 2],
        packed: &[f32],
        inputs: &[Plane<'_>],
        outputs: &mut [Target<'_>],
        scratch: &mut Scratch,
    ) {
        let (tiles, size) = (self.tiles(), packed_len(from, to));
        let total = inputs.len() * tiles.per_image();
        for first in (0..total).step_by(self.most_tiles()) {
            let count = self.most_tiles().min(total - first);
            let transformed = part(&mut scratch.input, POSITIONS * count * from);
            for tile in 0..count {
                let (image, place) = tiles.place(first + tile);
                let (layout, values) = inputs[image];
                let pixels = tiles.inputs(layout, place);
                winograd_input(level, &pixels, values, from, count * from, &mut transformed[tile * from..]);
            }
            let products = part(&mut scratch.result, POSITIONS * count * to);
            let shape = ProductShape { rows: count, inputs: from, outputs: to, input_stride: from, output_stride: to };
            for position in 0..POSITIONS {
                let (packed, vectors) = (&packed[position * size..][..size], &transformed[position * count * from..]);
                product(level, shape, vectors, packed, false, &mut products[position * count * to..]);
            }
            for tile in 0..count {
                let (image, place) = tiles.place(first + tile);
                let Target { layout, values, adds } = &mut outputs[image];
                let pixels = tiles.outputs(*layout, place);
                winograd_output(level, &products[tile * to..], count * to, to, &pixels, *adds, values);
            }
        }
    }

    /// Writes the gradient of the weights over some images.
    fn weight_gradient(
        &self,
        level: Level,
        inputs: &[Source<'_>],
        outputs: &[Plane<'_>],
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (tiles, pairs) = (self.tiles(), self.pairs());
        let (from, to) = (self.input.channels, self.filters);
        let total = inputs.len() * tiles.per_image();
        let of_filters = part(&mut scratch.sums, POSITIONS * pairs);
        for first in (0..total).step_by(self.most_tiles()) {
            let count = self.most_tiles().min(total - first);
            let transformed = part(&mut scratch.input, POSITIONS * count * from);
            let gradients = part(&mut scratch.result, POSITIONS * count * to);
            for tile in 0..count {
                let (image, place) = tiles.place(first + tile);
                let Source { layout, stored, .. } = inputs[image];
                let pixels = tiles.inputs(layout, place);
                winograd_input(level, &pixels, stored, from, count * from, &mut transformed[tile * from..]);
                let (layout, gradient) = outputs[image];
                let pixels = tiles.outputs(layout, place);
                winograd_output_gradient(level, &pixels, gradient, to, count * to, &mut gradients[tile * to..]);
            }
            let shape = ProductShape { rows: count, inputs: from, outputs: to, input_stride: from, output_stride: to };
            for (position, sums) in of_filters.chunks_exact_mut(pairs).enumerate() {
                let vectors = &transformed[position * count * from..];
                outer_product(level, shape, vectors, &gradients[position * count * to..], first > 0, sums);
            }
        }
        winograd_filter_gradient(level, of_filters, pairs, weight_gradient);
    }
}

impl MapOp for WinogradConv {
    fn kind(&self) -> String {
        "conv 3×3".to_owned()
    }

    fn output(&self) -> MapShape {
        MapShape { channels: self.filters, ..self.input }
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let shape = vec![3, 3, self.input.channels, self.filters];
        vec![ParameterConfig { name: "weight", shape, initial: self.initial, layout: WeightLayout::Conv }]
    }

    fn requires(&self) -> Requires {
        Requires::Values
    }

    fn prepared_len(&self) -> usize {
        let packed = |inputs, outputs| POSITIONS * packed_len(inputs, outputs) + 4 * self.pairs();
        packed(self.input.channels, self.filters) + packed(self.filters, self.input.channels)
    }

    fn prepare_forward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        self.prepare(level, weights[0], false, prepared);
    }

    fn prepare_backward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        self.prepare(level, weights[0], true, prepared);
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    ) {
        self.forward_group(pass.pass, weights, &inputs[..1], std::slice::from_mut(output), scratch);
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        Backward { inputs, output, weight_gradient, input_gradients }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let layout = output.layout;
        let level = pass.pass.level;
        spans(&[layout], TILE).for_each(|span| {
            output.resolve(level, span);
        });
        if let Some(weight_gradient) = weight_gradient {
            self.weight_gradient(level, &inputs[..1], &[(layout, &*output.gradient)], weight_gradient, scratch);
        }
        if let Some(gradient) = &mut input_gradients[0] {
            self.input_gradients(
                level,
                weights,
                &[(layout, &*output.gradient)],
                std::slice::from_mut(gradient),
                scratch,
            );
        }
    }

    fn is_grouped(&self) -> bool {
        true
    }

    fn forward_group(
        &self,
        pass: &Pass,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        outputs: &mut [Sink<'_>],
        scratch: &mut Scratch,
    ) {
        let planes: Vec<Plane<'_>> = inputs.iter().map(|source| (source.layout, source.stored)).collect();
        let mut targets: Vec<Target<'_>> = outputs
            .iter_mut()
            .map(|sink| Target { layout: sink.layout, values: &mut *sink.values, adds: false })
            .collect();
        let channels = [self.input.channels, self.filters];
        self.correlate(pass.level, channels, weights.forward, &planes, &mut targets, scratch);
        for sink in outputs {
            spans(&[sink.layout], TILE).for_each(|span| sink.finish(pass.level, span));
        }
    }

    fn backward_group(
        &self,
        pass: &Pass,
        weights: OpWeights<'_>,
        outputs: &mut [OutputGradient<'_>],
        inputs: &mut [InputGradient<'_>],
        scratch: &mut Scratch,
    ) {
        for output in &mut *outputs {
            spans(&[output.layout], TILE).for_each(|span| {
                output.resolve(pass.level, span);
            });
        }
        if !inputs.is_empty() {
            let planes: Vec<Plane<'_>> = outputs.iter().map(|output| (output.layout, &*output.gradient)).collect();
            self.input_gradients(pass.level, weights, &planes, inputs, scratch);
        }
    }

    fn group_weight_gradient(
        &self,
        level: Level,
        inputs: &[Source<'_>],
        outputs: &[(Layout, &[f32])],
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        self.weight_gradient(level, inputs, outputs, weight_gradient, scratch);
    }
}

impl WinogradConv {
    /// Writes the gradients of the inputs, given the resolved gradients of the outputs.
    fn input_gradients(
        &self,
        level: Level,
        weights: OpWeights<'_>,
        outputs: &[Plane<'_>],
        inputs: &mut [InputGradient<'_>],
        scratch: &mut Scratch,
    ) {
        let mut targets: Vec<Target<'_>> = inputs
            .iter_mut()
            .map(|input| Target { layout: input.source.layout, adds: input.adds, values: &mut *input.gradient })
            .collect();
        let channels = [self.filters, self.input.channels];
        self.correlate(level, channels, weights.backward, outputs, &mut targets, scratch);
        for input in inputs {
            spans(&[input.source.layout], TILE).for_each(|span| input.finish(level, span));
        }
    }
}
