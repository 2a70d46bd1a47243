//! A depthwise convolution: each channel has its own filter.

use super::access::{part, row};
use super::{
    Backward, Conv, ConvConfig, ImagePass, Initial, InputGradient, MapOp, OpWeights, ParameterConfig, Scratch, Sink,
    Source, WeightLayout, Window,
};
use hamflow_kernels::network::{Correlation, Level, Tap, correlate, row_weight_gradient};
use hamflow_kernels::shape::MapShape;

/// The largest kernel.
const MAX_KERNEL: usize = 7;

/// `[height, width, channels]` → `[height', width', channels]`; weights `[k, k, channels]`, no bias.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise {
    input: MapShape,
    output: MapShape,
    kernel: usize,
    stride: usize,
    /// The padding above and to the left.
    padding: [usize; 2],
}

impl Depthwise {
    /// A convolution of `input`; the error is the end of a sentence.
    pub fn new(input: MapShape, config: ConvConfig) -> Result<Self, String> {
        let ConvConfig { kernel, stride, .. } = config;
        let conv = Conv::new(input, config)?;
        if kernel > MAX_KERNEL || stride > 2 {
            return Err(format!("a depthwise convolution of {kernel}×{kernel} with stride {stride} is not supported"));
        }
        Ok(Self { input, output: conv.output(), kernel, stride, padding: conv.padding() })
    }

    /// The window.
    pub fn window(&self) -> Window {
        Window::new(self.kernel, self.stride, self.padding, [self.input, self.output])
    }

    /// Pixels of an input row with zeros on both sides.
    fn padded_width(&self) -> usize {
        ((self.output.width - 1) * self.stride + self.kernel).max(self.padding[1] + self.input.width)
    }

    /// The input row under row `row` of the kernel for output row `y`, if it is inside the map.
    fn input_row(&self, y: usize, row: usize) -> Option<usize> {
        (y * self.stride + row).checked_sub(self.padding[0]).filter(|from| *from < self.input.height)
    }

    /// The output row that sees input row `from` under row `row` of the kernel.
    fn output_row(&self, from: usize, row: usize) -> Option<usize> {
        let above = (from + self.padding[0]).checked_sub(row)?;
        (above.is_multiple_of(self.stride) && above / self.stride < self.output.height).then_some(above / self.stride)
    }
}

/// The last few rows of a map, with zeros beside and outside it.
struct Ring<'s> {
    rows: &'s mut [f32],
    /// Values per row.
    length: usize,
    /// The number of rows at once.
    count: usize,
    /// The number of rows loaded so far.
    loaded: usize,
}

impl<'s> Ring<'s> {
    fn new(scratch: &'s mut Vec<f32>, length: usize, count: usize) -> Self {
        // One more row, of zeros, stands for all rows outside the map.
        let rows = part(scratch, length * (count + 1));
        rows.fill(0.0);
        Self { rows, length, count, loaded: 0 }
    }

    /// Loads all rows up to `row`; `load` writes one, from pixel `offset` on.
    fn load(&mut self, row: usize, offset: usize, mut load: impl FnMut(usize, &mut [f32])) {
        while self.loaded <= row {
            let slot = self.loaded % self.count * self.length;
            load(self.loaded, &mut self.rows[slot + offset..slot + self.length]);
            self.loaded += 1;
        }
    }

    fn row(&self, row: Option<usize>) -> &[f32] {
        let slot = row.map_or(self.count, |row| row % self.count);
        &self.rows[slot * self.length..][..self.length]
    }
}

impl MapOp for Depthwise {
    fn kind(&self) -> String {
        let Self { kernel, stride, .. } = self;
        match stride {
            1 => format!("depthwise conv {kernel}×{kernel}"),
            _ => format!("depthwise conv {kernel}×{kernel}, stride {stride}"),
        }
    }

    fn output(&self) -> MapShape {
        self.output
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let (kernel, channels) = (self.kernel, self.input.channels);
        vec![ParameterConfig {
            name: "weight",
            shape: vec![kernel, kernel, channels],
            initial: Initial::HeNormal { fan_out: kernel * kernel },
            layout: WeightLayout::Depthwise,
        }]
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    ) {
        let (level, channels, source) = (pass.pass.level, self.input.channels, &inputs[0]);
        let shape = Correlation { channels, count: self.output.width, input_step: self.stride, output_step: 1 };
        let mut ring = Ring::new(&mut scratch.input, self.padded_width() * channels, self.kernel);
        let taps = all_taps(self.kernel, |row, column| Tap { row, pixel: column, weight: row * self.kernel + column });
        for y in 0..self.output.height {
            self.load_inputs(level, source, y, &mut ring);
            let rows: [&[f32]; MAX_KERNEL] =
                std::array::from_fn(|row| if row < self.kernel { ring.row(self.input_row(y, row)) } else { &[] });
            let span = row(output.layout, y);
            correlate(
                level,
                shape,
                &rows,
                &taps[..self.kernel * self.kernel],
                weights.tensors[0],
                false,
                output.span(span),
            );
            output.finish(level, span);
        }
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        Backward { inputs, output, mut weight_gradient, input_gradients }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let (level, channels) = (pass.pass.level, self.input.channels);
        let Scratch { input, gradient, .. } = scratch;
        let mut inputs_ring = Ring::new(input, self.padded_width() * channels, self.kernel);
        if let Some(weight_gradient) = &mut weight_gradient {
            weight_gradient.fill(0.0);
        }
        // Zeros on both sides, for taps beyond the edges.
        let length = (self.output.width + 2 * self.kernel) * channels;
        let mut ring = Ring::new(gradient, length, self.kernel + 1);
        let offset = self.kernel * channels;
        let inner = self.output.width * channels;
        let mut flushed = 0;
        for y in 0..self.output.height {
            let span = row(output.layout, y);
            ring.load(y, offset, |_, values| output.write(level, span, &mut values[..inner]));
            if let Some(weight_gradient) = &mut weight_gradient {
                self.load_inputs(level, &inputs[0], y, &mut inputs_ring);
                let gradient = &ring.row(Some(y))[offset..][..inner];
                for (row, weights) in weight_gradient.chunks_exact_mut(self.kernel * channels).enumerate() {
                    if let Some(from) = self.input_row(y, row) {
                        row_weight_gradient(
                            level,
                            channels,
                            self.stride,
                            inputs_ring.row(Some(from)),
                            gradient,
                            weights,
                        );
                    }
                }
            }
            let Some(input_gradient) = &mut input_gradients[0] else { continue };
            // The input rows that no later output row sees.
            let end = match y + 1 == self.output.height {
                true => self.input.height,
                false => ((y + 1) * self.stride).saturating_sub(self.padding[0]).min(self.input.height),
            };
            for from in flushed..end {
                self.input_row_gradient(level, weights.tensors[0], &ring, from, input_gradient);
                let span = input_gradient.source.row(from);
                input_gradient.finish(level, span);
            }
            flushed = flushed.max(end);
        }
    }
}

impl Depthwise {
    /// Loads the input rows under output row `y`.
    fn load_inputs(&self, level: Level, source: &Source<'_>, y: usize, ring: &mut Ring<'_>) {
        let last = (y * self.stride + self.kernel - 1).saturating_sub(self.padding[0]).min(self.input.height - 1);
        let length = self.input.width * self.input.channels;
        ring.load(last, self.padding[1] * self.input.channels, |from, values| {
            source.write(level, source.row(from), &mut values[..length]);
        });
    }

    /// Writes, or adds, the gradient of input row `from`, of whose output rows `ring` has the gradients.
    ///
    /// Input column c is under column k of the kernel for output (c + padding − k) / stride, so with a stride of 2, only
    /// every second weight contributes: columns of equal remainder are computed at once.
    fn input_row_gradient(
        &self,
        level: Level,
        weights: &[f32],
        ring: &Ring<'_>,
        from: usize,
        input_gradient: &mut InputGradient<'_>,
    ) {
        let (channels, stride, kernel, adds) = (self.input.channels, self.stride, self.kernel, input_gradient.adds);
        let output = [0; MAX_KERNEL].map(|_: i32| None::<usize>);
        let mut of_rows = output;
        for (row, of_row) in of_rows[..kernel].iter_mut().enumerate() {
            *of_row = self.output_row(from, row);
        }
        let rows: [&[f32]; MAX_KERNEL] = std::array::from_fn(|row| ring.row(of_rows[row]));
        let span = input_gradient.source.row(from);
        let values = input_gradient.span(span);
        for start in 0..stride.min(self.input.width) {
            let mut taps = [Tap { row: 0, pixel: 0, weight: 0 }; MAX_KERNEL * MAX_KERNEL];
            let mut count = 0;
            for row in (0..kernel).filter(|row| of_rows[*row].is_some()) {
                for column in (0..kernel)
                    .filter(|column| (start + self.padding[1] + kernel * stride - column).is_multiple_of(stride))
                {
                    // Shifted by the zeros before the first pixel of a row of the ring.
                    let pixel = (start + self.padding[1] + kernel * stride - column) / stride;
                    taps[count] = Tap { row, pixel, weight: row * kernel + column };
                    count += 1;
                }
            }
            let columns = (self.input.width - start).div_ceil(stride);
            let shape = Correlation { channels, count: columns, input_step: 1, output_step: stride };
            correlate(level, shape, &rows, &taps[..count], weights, adds, &mut values[start * channels..]);
        }
    }
}

/// The taps of a kernel, row by row.
fn all_taps(kernel: usize, tap: impl Fn(usize, usize) -> Tap) -> [Tap; MAX_KERNEL * MAX_KERNEL] {
    std::array::from_fn(|i| tap(i / kernel, i % kernel))
}
