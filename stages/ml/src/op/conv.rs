//! A convolution of any kernel size, stride, padding and number of groups, by copying patches (im2col).

use super::access::{TILE, part};
use super::{
    Backward, Depthwise, DirectConv, ImagePass, Initial, InputGradient, MapOp, OpWeights, OutputGradient, Padding,
    ParameterConfig, Pass, Pointwise, Requires, Scratch, Sink, Source, WeightLayout, Window, WinogradConv,
};
use hamflow_kernels::network::{Level, Matrix, ProductShape, outer_product, pack, packed_len, product};
use hamflow_kernels::shape::{Layout, MapShape, Span, spans};

/// Maps of fewer pixels go through patches: [`DirectConv`] rearranges its weights for each image, which pays only where
/// many pixels share them.
const DIRECT_PIXELS: usize = 600;

/// The most weights for which patches of one image at a time are good enough: they stay in the L2 cache.
const FEW_WEIGHTS: usize = 40_000;

/// The configuration of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvConfig {
    /// The number of output channels.
    pub filters: usize,
    /// The height and width of the kernel.
    pub kernel: usize,
    /// The distance between windows.
    pub stride: usize,
    /// The padding.
    pub padding: Padding,
    /// The number of groups: output channels of a group only see the input channels of the same group.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether weights are drawn as Keras draws them (Glorot, Bengio 2010), not as torchvision does (He et al. 2015).
    pub glorot: bool,
}

impl ConvConfig {
    /// A convolution with stride 1, padding of half the kernel, one group and no bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Self { filters, kernel, stride: 1, padding: Padding::Both(kernel / 2), groups: 1, bias: false, glorot: false }
    }

    /// With another stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With TensorFlow's "SAME" padding.
    pub fn same(self) -> Self {
        Self { padding: Padding::Same, ..self }
    }

    /// With one group per channel.
    pub fn depthwise(self) -> Self {
        Self { groups: self.filters, ..self }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// With Keras's initial weights.
    pub fn glorot(self) -> Self {
        Self { glorot: true, ..self }
    }

    /// The distribution of the initial weights for a number of input channels.
    pub(super) fn initial(self, inputs: usize) -> Initial {
        let Self { filters, kernel, groups, .. } = self;
        let area = kernel * kernel;
        let fan_out = area * filters / groups;
        match self.glorot {
            true => Initial::GlorotUniform { fan_in: area * inputs / groups, fan_out },
            false => Initial::HeNormal { fan_out },
        }
    }

    /// Whether [`DirectConv`] computes it, up to the bias.
    pub fn is_direct(self, input: MapShape) -> bool {
        let is_same = |length| self.padding.resolve(length, self.kernel, 1) == Some((1, length));
        (self.kernel, self.stride, self.groups) == (3, 1, 1) && is_same(input.height) && is_same(input.width)
    }

    /// The fastest operation for this configuration; the error is the end of a sentence.
    pub fn build(self, input: MapShape) -> Result<Box<dyn MapOp>, String> {
        let Self { filters, kernel, stride, groups, bias, .. } = self;
        let conv = Conv::new(input, self)?;
        if bias {
            return Ok(Box::new(conv));
        }
        let is_pointwise = kernel == 1 && stride == 1 && groups == 1;
        let is_depthwise = groups == input.channels && groups == filters && groups > 1;
        Ok(match () {
            () if is_pointwise => Box::new(Pointwise::new(input, filters)),
            () if is_depthwise => Box::new(Depthwise::new(input, self)?),
            () if WinogradConv::fits(input, self) => Box::new(WinogradConv::new(input, self)),
            () if self.is_direct(input) && input.pixels() >= DIRECT_PIXELS => {
                Box::new(DirectConv::new(input, self, false))
            }
            () => Box::new(conv),
        })
    }
}

/// `[height, width, inputs]` → `[height', width', filters]`; weights `[k, k, inputs / groups, filters]`, optionally a
/// bias `[filters]`.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    input: MapShape,
    output: MapShape,
    config: ConvConfig,
    padding: [usize; 2],
}

impl Conv {
    /// A convolution of `input`; the error is the end of a sentence.
    pub fn new(input: MapShape, config: ConvConfig) -> Result<Self, String> {
        let ConvConfig { filters, kernel, stride, padding, groups, .. } = config;
        if groups == 0 || !input.channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(format!(
                "{} input channels and {filters} filters cannot be split into {groups} groups",
                input.channels
            ));
        }
        let (Some((above, height)), Some((left, width))) =
            (padding.resolve(input.height, kernel, stride), padding.resolve(input.width, kernel, stride))
        else {
            return Err(format!(
                "a map of {}×{} is too small for a {kernel}×{kernel} convolution",
                input.height, input.width
            ));
        };
        Ok(Self { input, output: MapShape { height, width, channels: filters }, config, padding: [above, left] })
    }

    /// The padding above and to the left.
    pub fn padding(&self) -> [usize; 2] {
        self.padding
    }

    /// The configuration.
    pub fn config(&self) -> ConvConfig {
        self.config
    }

    /// The window.
    pub fn window(&self) -> Window {
        Window::new(self.config.kernel, self.config.stride, self.padding, [self.input, self.output])
    }

    /// Input channels per group, output channels per group, and values per patch.
    pub(super) fn group(&self) -> (usize, usize, usize) {
        let ConvConfig { filters, kernel, groups, .. } = self.config;
        let inputs = self.input.channels / groups;
        (inputs, filters / groups, kernel * kernel * inputs)
    }

    /// Calls `visit` for each pixel of the span and row of the kernel, with the offset in the patch, the offset in the map,
    /// and the number of pixels, of the part of the patch inside the map. `channels` is the number of values per pixel in
    /// the patch.
    #[inline(always)]
    fn visit_parts(&self, layout: Layout, span: Span, channels: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let Self { input, output, config, padding } = *self;
        let (kernel, stride) = (config.kernel, config.stride);
        for pixel in 0..span.count {
            let (y, x) = ((span.first + pixel) / output.width, (span.first + pixel) % output.width);
            let (top, left) = (y * stride, x * stride);
            let first = padding[1].saturating_sub(left);
            let count = kernel.min((input.width + padding[1]).saturating_sub(left)).saturating_sub(first);
            if count == 0 {
                continue;
            }
            let rows = padding[0].saturating_sub(top)..kernel.min((input.height + padding[0]).saturating_sub(top));
            for row in rows {
                let offset = (pixel * kernel * kernel + row * kernel + first) * channels;
                visit(offset, layout.at(top + row - padding[0], left + first - padding[1]), count);
            }
        }
    }

    /// Whether the window of an output is inside of the map.
    fn is_inside(&self, pixel: usize) -> bool {
        let inside = |first: usize, padding: usize, length: usize| {
            first >= padding && first - padding + self.config.kernel <= length
        };
        let (y, x) = (pixel / self.output.width, pixel % self.output.width);
        inside(y * self.config.stride, self.padding[0], self.input.height)
            && inside(x * self.config.stride, self.padding[1], self.input.width)
    }

    /// Copies the patches of a span for one group: `[pixels, k, k, inputs / groups]`.
    fn patches<'s>(&self, input: &Source<'_>, span: Span, group: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let (_, _, length) = self.group();
        let patches = part(scratch, span.count * length);
        self.write_patches(input, span, group, patches);
        patches
    }

    /// Writes the patches of a span for one group: `[pixels, k, k, inputs / groups]`.
    pub(super) fn write_patches(&self, input: &Source<'_>, span: Span, group: usize, patches: &mut [f32]) {
        let (inputs, _, length) = self.group();
        for (pixel, patch) in patches.chunks_exact_mut(length).enumerate() {
            if !self.is_inside(span.first + pixel) {
                patch.fill(0.0);
            }
        }
        let channels = self.input.channels;
        self.visit_parts(input.layout, span, inputs, |offset, from, count| {
            if inputs == channels {
                return copy(&input.stored[from..][..count * inputs], &mut patches[offset..][..count * inputs]);
            }
            let pixels = patches[offset..][..count * inputs].chunks_exact_mut(inputs);
            for (patch, pixel) in pixels.zip(input.stored[from..].chunks(channels)) {
                patch.copy_from_slice(&pixel[group * inputs..][..inputs]);
            }
        });
    }

    /// Adds the contribution of a span of the output, whose gradient is given, to the gradients of all weights.
    fn add_weight_gradient(
        &self,
        level: Level,
        input: &Source<'_>,
        (span, gradient): (Span, &[f32]),
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (_, outputs, length) = self.group();
        let ConvConfig { filters, groups, bias, .. } = self.config;
        let shape =
            ProductShape { rows: span.count, inputs: length, outputs, input_stride: length, output_stride: filters };
        let (of_weights, of_bias) = weight_gradient.split_at_mut(length * filters);
        for group in 0..groups {
            let patches = self.patches(input, span, group, &mut scratch.input);
            let gradient = &gradient[group * outputs..];
            if groups == 1 {
                outer_product(level, shape, patches, gradient, true, of_weights);
                continue;
            }
            let of_group = part(&mut scratch.result, length * outputs);
            of_group.fill(0.0);
            outer_product(level, shape, patches, gradient, true, of_group);
            for (row, added) in of_weights.chunks_exact_mut(filters).zip(of_group.chunks_exact(outputs)) {
                row[group * outputs..].iter_mut().zip(added).for_each(|(sum, value)| *sum += value);
            }
        }
        if bias {
            for pixel in gradient.chunks_exact(filters) {
                of_bias.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    /// Adds the gradients of patches to the map.
    pub(super) fn scatter(&self, layout: Layout, span: Span, group: usize, patches: &[f32], map: &mut [f32]) {
        let (inputs, ..) = self.group();
        let channels = self.input.channels;
        self.visit_parts(layout, span, inputs, |offset, to, count| {
            let pixels = patches[offset..][..count * inputs].chunks_exact(inputs);
            for (patch, pixel) in pixels.zip(map[to..].chunks_mut(channels)) {
                pixel[group * inputs..][..inputs].iter_mut().zip(patch).for_each(|(pixel, patch)| *pixel += patch);
            }
        });
    }
}

/// Copies values, which are often so few that a call of `memcpy` would take longer.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    const BLOCK: usize = 8;
    let Some(last) = from.len().checked_sub(BLOCK).filter(|last| *last < 8 * BLOCK) else {
        return to.copy_from_slice(from);
    };
    let to = &mut to[..from.len()];
    // The last block overlaps the one before it.
    for first in (0..last).step_by(BLOCK).chain([last]) {
        let block: [f32; BLOCK] = *from[first..].first_chunk().expect("a block is within the values");
        *to[first..].first_chunk_mut().expect("a block is within the values") = block;
    }
}

impl MapOp for Conv {
    fn kind(&self) -> String {
        let ConvConfig { kernel, stride, groups, .. } = self.config;
        let mut kind = format!("conv {kernel}×{kernel}");
        if stride > 1 {
            kind.push_str(&format!(", stride {stride}"));
        }
        if groups > 1 {
            kind.push_str(&format!(", {groups} groups"));
        }
        kind
    }

    fn output(&self) -> MapShape {
        self.output
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let ConvConfig { filters, kernel, bias, groups, .. } = self.config;
        let shape = vec![kernel, kernel, self.input.channels / groups, filters];
        let initial = self.config.initial(self.input.channels);
        let mut configs = vec![ParameterConfig { name: "weight", shape, initial, layout: WeightLayout::Conv }];
        if bias {
            configs.push(ParameterConfig::vector("bias", filters, Initial::Zeros));
        }
        configs
    }

    fn requires(&self) -> Requires {
        Requires::Values
    }

    fn prepare_forward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        let (_, outputs, length) = self.group();
        let size = packed_len(length, outputs);
        let prepared = part(prepared, self.config.groups * size);
        for (group, prepared) in prepared.chunks_exact_mut(size).enumerate() {
            let values = &weights[0][group * outputs..];
            pack(level, Matrix { values, inputs: length, outputs, strides: [self.config.filters, 1] }, prepared);
        }
    }

    fn prepare_backward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        let (_, outputs, length) = self.group();
        let size = packed_len(outputs, length);
        let prepared = part(prepared, self.config.groups * size);
        for (group, prepared) in prepared.chunks_exact_mut(size).enumerate() {
            let values = &weights[0][group * outputs..];
            pack(
                level,
                Matrix { values, inputs: outputs, outputs: length, strides: [1, self.config.filters] },
                prepared,
            );
        }
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    ) {
        let (level, (_, outputs, length)) = (pass.pass.level, self.group());
        let size = packed_len(length, outputs);
        for span in spans(&[output.layout], TILE) {
            for group in 0..self.config.groups {
                let patches = self.patches(&inputs[0], span, group, &mut scratch.input);
                let shape = ProductShape {
                    rows: span.count,
                    inputs: length,
                    outputs,
                    input_stride: length,
                    output_stride: self.config.filters,
                };
                let values = &mut output.span(span)[group * outputs..];
                product(level, shape, patches, &weights.forward[group * size..][..size], false, values);
            }
            if self.config.bias {
                for pixel in output.span(span).chunks_exact_mut(self.config.filters) {
                    pixel.iter_mut().zip(weights.tensors[1]).for_each(|(value, bias)| *value += bias);
                }
            }
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
        let (level, (_, outputs, length)) = (pass.pass.level, self.group());
        let (filters, groups) = (self.config.filters, self.config.groups);
        if let Some(weight_gradient) = &mut weight_gradient {
            weight_gradient.fill(0.0);
        }
        if let Some(input_gradient) = input_gradients[0].as_mut().filter(|gradient| !gradient.adds) {
            let layout = input_gradient.source.layout;
            spans(&[layout], usize::MAX).for_each(|span| input_gradient.span(span).fill(0.0));
        }
        for span in spans(&[output.layout], TILE) {
            let gradient = output.resolve(level, span);
            if let Some(weight_gradient) = &mut weight_gradient {
                self.add_weight_gradient(level, &inputs[0], (span, gradient), weight_gradient, scratch);
            }
            let Some(input_gradient) = &mut input_gradients[0] else { continue };
            let size = packed_len(outputs, length);
            for group in 0..groups {
                let patches = part(&mut scratch.gradient, span.count * length);
                let shape = ProductShape {
                    rows: span.count,
                    inputs: outputs,
                    outputs: length,
                    input_stride: filters,
                    output_stride: length,
                };
                let packed = &weights.backward[group * size..][..size];
                product(level, shape, &gradient[group * outputs..], packed, false, patches);
                let layout = input_gradient.source.layout;
                self.scatter(layout, span, group, patches, input_gradient.gradient);
            }
        }
        if let Some(input_gradient) = &mut input_gradients[0] {
            spans(&[input_gradient.source.layout], TILE).for_each(|span| input_gradient.finish(level, span));
        }
    }

    fn is_grouped(&self) -> bool {
        let ConvConfig { groups, bias, filters, .. } = self.config;
        let (.., length) = self.group();
        groups == 1 && !bias && length * filters > FEW_WEIGHTS
    }

    fn forward_group(
        &self,
        pass: &Pass,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        outputs: &mut [Sink<'_>],
        scratch: &mut Scratch,
    ) {
        self.forward_images(pass.level, weights, inputs, outputs, scratch);
    }

    fn backward_group(
        &self,
        pass: &Pass,
        weights: OpWeights<'_>,
        outputs: &mut [OutputGradient<'_>],
        inputs: &mut [InputGradient<'_>],
        scratch: &mut Scratch,
    ) {
        self.backward_images(pass.level, weights, outputs, inputs, scratch);
    }

    fn group_weight_gradient(
        &self,
        level: Level,
        inputs: &[Source<'_>],
        outputs: &[(Layout, &[f32])],
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        self.weight_gradient_of_images(level, inputs, outputs, weight_gradient, scratch);
    }
}
