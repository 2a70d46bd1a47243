//! A 3×3 convolution with stride 1 and "same" padding of maps with many channels, by Winograd's minimal filtering.

use std::ops::Range;

use super::access::{TILE, part};
use super::{
    Backward, ConvConfig, ImagePass, Initial, InputGradient, MapOp, OpWeights, OutputGradient, ParameterConfig, Pass,
    Scratch, Sink, Source, WeightLayout,
};
use hamflow_kernels::network::{
    Activation, Level, Matrix, OUTSIDE, ProductShape, Tile, View, outer_product, packed_len, product,
    winograd_filter_gradient, winograd_filters, winograd_input, winograd_output, winograd_output_gradient,
};
use hamflow_kernels::shape::{Layout, MapShape, spans};
use rayon::prelude::*;

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
    tiles: Tiles,
}

/// Inputs whose weights get their gradients together: the sums of all positions stay in the L2 cache until they are
/// transformed.
const INPUT_BLOCK: usize = 36;

/// Values between two positions: at a distance of a power of two they would compete for the same places in the cache.
const APART: usize = 16;

/// The values of an image's map.
type Plane<'a> = (Layout, &'a [f32]);

/// A map that is written or added to.
struct Target<'a> {
    layout: Layout,
    values: &'a mut [f32],
    adds: bool,
}

/// The most pixels that a tile depends on.
const MOST_PIXELS: usize = Tile::Four.positions();

/// The tiles of the maps of several images.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    tile: Tile,
    height: usize,
    width: usize,
}

impl Tiles {
    /// Tiles of 4×4 pixels where they save much: they need more transforms of weights, and the last ones of a row and
    /// of a column are partly outside of the map.
    fn of(map: MapShape) -> Self {
        let of = |tile| Self { tile, height: map.height, width: map.width };
        let products = |tile: Tile| of(tile).per_image() * tile.positions();
        if 10 * products(Tile::Four) <= 7 * products(Tile::Two) { of(Tile::Four) } else { of(Tile::Two) }
    }

    fn columns(self) -> usize {
        self.width.div_ceil(self.tile.side())
    }

    fn per_image(self) -> usize {
        self.height.div_ceil(self.tile.side()) * self.columns()
    }

    /// The image of a tile, and its first row and column.
    fn place(self, tile: usize) -> (usize, [usize; 2]) {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        (image, [tile / self.columns(), tile % self.columns()].map(|index| index * self.tile.side()))
    }

    /// Where pixel (`y`, `x`) begins, which may be outside of the map.
    fn at(self, layout: Layout, y: Option<usize>, x: Option<usize>) -> usize {
        match (y.filter(|y| *y < self.height), x.filter(|x| *x < self.width)) {
            (Some(y), Some(x)) => layout.at(y, x),
            _ => OUTSIDE,
        }
    }

    /// The pixels that a tile depends on, row by row.
    fn inputs(self, layout: Layout, [top, left]: [usize; 2]) -> [usize; MOST_PIXELS] {
        let side = self.tile.input_side();
        std::array::from_fn(|i| self.at(layout, (top + i / side).checked_sub(1), (left + i % side).checked_sub(1)))
    }

    /// The pixels of a tile, row by row.
    fn outputs(self, layout: Layout, [top, left]: [usize; 2]) -> [usize; MOST_PIXELS] {
        let side = self.tile.side();
        std::array::from_fn(|i| self.at(layout, Some(top + i / side), Some(left + i % side)))
    }
}

impl WinogradConv {
    /// Whether it can, and should, compute the convolution.
    pub fn fits(input: MapShape, config: ConvConfig) -> bool {
        config.is_direct(input) && !config.bias && input.channels.min(config.filters) >= LEAST_CHANNELS
    }

    /// A convolution for which [`WinogradConv::fits`] holds.
    pub fn new(input: MapShape, config: ConvConfig) -> Self {
        let tiles = Tiles::of(input);
        Self { input, filters: config.filters, initial: config.initial(input.channels), tiles }
    }

    /// The number of values of a transformed tile.
    fn positions(&self) -> usize {
        self.tiles.tile.positions()
    }

    /// The number of tiles that are processed at once.
    fn most_tiles(&self) -> usize {
        (VALUES / (self.positions() * (self.input.channels + self.filters))).max(LEAST_TILES)
    }

    /// Transforms the weights and packs each position. The transposed matrices are for the gradient of the input, whose
    /// filters are turned by 180°.
    fn prepare(&self, level: Level, weights: &[f32], transposed: bool, prepared: &mut Vec<f32>) {
        let (channels, filters) = (self.input.channels, self.filters);
        let (inputs, outputs, strides) = match transposed {
            false => (channels, filters, [filters, 1]),
            true => (filters, channels, [1, filters]),
        };
        let size = packed_len(inputs, outputs) + APART;
        let matrix = Matrix { values: weights, inputs, outputs, strides };
        winograd_filters(level, self.tiles.tile, matrix, transposed, size, part(prepared, self.positions() * size));
    }

    /// Correlates maps of `from` channels with the packed filters to maps of `to` channels.
    fn correlate(
        &self,
        level: Level,
        [from, to]: [usize; 2],
        packed: &[f32],
        inputs: &[Source<'_>],
        outputs: &mut [Target<'_>],
        scratch: &mut Scratch,
    ) {
        let (tiles, size) = (self.tiles, packed_len(from, to) + APART);
        let total = inputs.len() * tiles.per_image();
        for first in (0..total).step_by(self.most_tiles()) {
            let count = self.most_tiles().min(total - first);
            let [of_inputs, of_outputs] = [from, to].map(|channels| count * channels + APART);
            let transformed = part(&mut scratch.input, self.positions() * of_inputs);
            for tile in 0..count {
                let (image, place) = tiles.place(first + tile);
                let Source { layout, stored, view } = inputs[image];
                let pixels = tiles.inputs(layout, place);
                winograd_input(level, tiles.tile, &pixels, view, stored, of_inputs, &mut transformed[tile * from..]);
            }
            let products = part(&mut scratch.result, self.positions() * of_outputs);
            let shape = ProductShape { rows: count, inputs: from, outputs: to, input_stride: from, output_stride: to };
            for position in 0..self.positions() {
                let (packed, vectors) = (&packed[position * size..], &transformed[position * of_inputs..]);
                product(level, shape, vectors, packed, false, &mut products[position * of_outputs..]);
            }
            for tile in 0..count {
                let (image, place) = tiles.place(first + tile);
                let Target { layout, values, adds } = &mut outputs[image];
                let pixels = tiles.outputs(*layout, place);
                let products = (&products[tile * to..], of_outputs);
                winograd_output(level, tiles.tile, products, to, &pixels, *adds, values);
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
        let (positions, from, to) = (self.positions(), self.input.channels, self.filters);
        let total = inputs.len() * self.tiles.per_image();
        let Scratch { input, result, sums, .. } = scratch;
        let of_filters = part(sums, positions * from * to);
        for first in (0..total).step_by(self.most_tiles()) {
            let tiles = first..total.min(first + self.most_tiles());
            let (count, is_last) = (tiles.len(), tiles.end == total);
            let [of_inputs, of_outputs] = [from, to].map(|channels| count * channels + APART);
            let transformed = part(input, positions * of_inputs);
            let gradients = part(result, positions * of_outputs);
            self.transform_both(level, tiles, (inputs, transformed), (outputs, gradients));
            let (transformed, gradients) = (&*transformed, &*gradients);
            let blocks =
                of_filters.par_chunks_mut(positions * INPUT_BLOCK * to).zip(filter_blocks(weight_gradient, to));
            blocks.enumerate().for_each(|(number, (sums, mut filters))| {
                let pairs = filters[0].len();
                let (input_stride, output_stride) = (from, to);
                let shape = ProductShape { rows: count, inputs: pairs / to, outputs: to, input_stride, output_stride };
                for (position, sums) in sums.chunks_exact_mut(pairs).enumerate() {
                    let vectors = &transformed[position * of_inputs + number * INPUT_BLOCK..];
                    outer_product(level, shape, vectors, &gradients[position * of_outputs..], first > 0, sums);
                }
                if is_last {
                    winograd_filter_gradient(level, self.tiles.tile, sums, pairs, &mut filters);
                }
            });
        }
    }

    /// Transforms some tiles of the inputs and of the gradients of the outputs.
    fn transform_both(
        &self,
        level: Level,
        tiles: Range<usize>,
        (inputs, transformed): (&[Source<'_>], &mut [f32]),
        (outputs, gradients): (&[Plane<'_>], &mut [f32]),
    ) {
        let (tile, from, to) = (self.tiles.tile, self.input.channels, self.filters);
        let [of_inputs, of_outputs] = [from, to].map(|channels| tiles.len() * channels + APART);
        for (number, index) in tiles.enumerate() {
            let (image, place) = self.tiles.place(index);
            let Source { layout, stored, view } = inputs[image];
            let pixels = self.tiles.inputs(layout, place);
            winograd_input(level, tile, &pixels, view, stored, of_inputs, &mut transformed[number * from..]);
            let (layout, gradient) = outputs[image];
            let pixels = self.tiles.outputs(layout, place);
            winograd_output_gradient(level, tile, &pixels, gradient, to, of_outputs, &mut gradients[number * to..]);
        }
    }
}

/// The nine weights of [`INPUT_BLOCK`] inputs at a time.
fn filter_blocks(weights: &mut [f32], outputs: usize) -> Vec<[&mut [f32]; 9]> {
    let pairs = weights.len() / 9;
    let mut taps: Vec<_> = weights.chunks_exact_mut(pairs).map(|tap| tap.chunks_mut(INPUT_BLOCK * outputs)).collect();
    let count = pairs.div_ceil(INPUT_BLOCK * outputs);
    (0..count).map(|_| std::array::from_fn(|tap| taps[tap].next().expect("all taps have as many blocks"))).collect()
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

    fn prepared_len(&self) -> usize {
        let packed = |inputs, outputs| self.positions() * (packed_len(inputs, outputs) + APART);
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
        let mut targets: Vec<Target<'_>> = outputs
            .iter_mut()
            .map(|sink| Target { layout: sink.layout, values: &mut *sink.values, adds: false })
            .collect();
        let channels = [self.input.channels, self.filters];
        self.correlate(pass.level, channels, weights.forward, inputs, &mut targets, scratch);
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
        let view = View { channels: self.filters, affine: None, activation: Activation::Identity };
        let outputs: Vec<Source<'_>> =
            outputs.iter().map(|(layout, gradient)| Source { layout: *layout, stored: gradient, view }).collect();
        self.correlate(level, channels, weights.backward, &outputs, &mut targets, scratch);
        for input in inputs {
            spans(&[input.source.layout], TILE).for_each(|span| input.finish(level, span));
        }
    }
}
