//! How operations read and write maps, with normalisation and activation applied on the way.

use hamflow_kernels::network::{
    Level, NormCoefficients, NormSums, View, norm_gradient, norm_gradient_in_place, statistics, view, view_gradient,
    view_gradient_sums,
};
use hamflow_kernels::shape::{Layout, Span};

/// Pixels that are processed at once: few enough for the L2 cache, a multiple of all block sizes.
pub(super) const TILE: usize = 60;

/// The buffers of one thread. They grow in the first step and keep their size.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Values of the input.
    pub input: Vec<f32>,
    /// Gradients of the output.
    pub gradient: Vec<f32>,
    /// Gradients of the input.
    pub result: Vec<f32>,
    /// Sums over several images.
    pub sums: Vec<f32>,
}

/// The first `length` values of a buffer, which grows if needed.
pub(super) fn part(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// A map of one image, as an operation reads it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The layout.
    pub layout: Layout,
    /// What is stored.
    pub stored: &'a [f32],
    /// How the values derive from it.
    pub view: View<'a>,
}

impl<'a> Source<'a> {
    /// The values of a span of pixels, in `scratch` if they differ from what is stored.
    pub fn span<'s>(&self, level: Level, span: Span, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        let stored = &self.stored[self.layout.range(span)];
        if self.view.is_identity() {
            return stored;
        }
        let values = part(scratch, stored.len());
        view(level, self.view, stored, values);
        values
    }

    /// Writes the values of a span of pixels.
    pub fn write(&self, level: Level, span: Span, values: &mut [f32]) {
        let stored = &self.stored[self.layout.range(span)];
        if self.view.is_identity() {
            values.copy_from_slice(stored);
        } else {
            view(level, self.view, stored, values);
        }
    }

    /// The span of row `y`.
    pub fn row(&self, y: usize) -> Span {
        row(self.layout, y)
    }
}

/// The span of row `y`.
pub(super) fn row(layout: Layout, y: usize) -> Span {
    Span { first: y * layout.shape.width, count: layout.shape.width }
}

/// The output map of an operation for one image.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The layout.
    pub layout: Layout,
    /// The values to write.
    pub values: &'a mut [f32],
    /// Sum and sum of squares per channel, if the output is normalised by the statistics of the batch.
    pub statistics: Option<[&'a mut [f64]; 2]>,
}

impl Sink<'_> {
    /// The values of a span of pixels. Call [`Sink::finish`] when they are written.
    pub fn span(&mut self, span: Span) -> &mut [f32] {
        &mut self.values[self.layout.range(span)]
    }

    /// Must be called once for each pixel, while its values are in the cache.
    pub fn finish(&mut self, level: Level, span: Span) {
        if let Some([sums, squares]) = &mut self.statistics {
            statistics(level, &self.values[self.layout.range(span)], sums, squares);
        }
    }
}

/// The gradient of an operation's output for one image.
#[derive(Debug)]
pub struct OutputGradient<'a> {
    /// The layout.
    pub layout: Layout,
    /// The output.
    pub stored: &'a [f32],
    /// The gradient of the normalised output, without the activation.
    pub gradient: &'a mut [f32],
    /// The backward pass of the normalisation, if there is one.
    pub norm: Option<NormCoefficients<'a>>,
}

impl OutputGradient<'_> {
    /// The gradient of what is stored for a span of pixels, in `scratch` if it differs from `self.gradient`.
    pub fn span<'s>(&'s self, level: Level, span: Span, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let range = self.layout.range(span);
        let Some(norm) = self.norm else { return &self.gradient[range] };
        let values = part(scratch, range.len());
        norm_gradient(level, norm, &self.stored[range.clone()], &self.gradient[range], values);
        values
    }

    /// Writes the gradient of what is stored for a span of pixels.
    pub fn write(&self, level: Level, span: Span, values: &mut [f32]) {
        let range = self.layout.range(span);
        match self.norm {
            None => values.copy_from_slice(&self.gradient[range]),
            Some(norm) => norm_gradient(level, norm, &self.stored[range.clone()], &self.gradient[range], values),
        }
    }

    /// Replaces the gradient of a span of pixels by the gradient of what is stored.
    pub fn resolve(&mut self, level: Level, span: Span) -> &[f32] {
        let range = self.layout.range(span);
        if let Some(norm) = self.norm {
            norm_gradient_in_place(level, norm, &self.stored[range.clone()], &mut self.gradient[range.clone()]);
        }
        &self.gradient[range]
    }
}

/// The gradient of an operation's input for one image.
#[derive(Debug)]
pub struct InputGradient<'a> {
    /// The input.
    pub source: Source<'a>,
    /// The gradient of the values, in the layout of the input.
    pub gradient: &'a mut [f32],
    /// Whether another operation has written its contribution, to which this one is added.
    pub adds: bool,
    /// Whether this is the last contribution, so that the activation can be applied.
    pub is_last: bool,
    /// The sums for the backward pass of the normalisation, if there is one.
    pub sums: Option<NormSums<'a>>,
}

impl InputGradient<'_> {
    /// The gradient of a span of pixels. Call [`InputGradient::finish`] when it is written.
    pub fn span(&mut self, span: Span) -> &mut [f32] {
        &mut self.gradient[self.source.layout.range(span)]
    }

    /// Writes, or adds, the gradient of a span of pixels.
    pub fn put(&mut self, span: Span, values: &[f32]) {
        let adds = self.adds;
        let gradient = self.span(span);
        match adds {
            true => gradient.iter_mut().zip(values).for_each(|(gradient, value)| *gradient += value),
            false => gradient.copy_from_slice(values),
        }
    }

    /// Must be called once for each pixel, while its gradient is in the cache.
    pub fn finish(&mut self, level: Level, span: Span) {
        let Source { layout, stored, view } = self.source;
        if !self.is_last || view.is_identity() {
            return;
        }
        let range = layout.range(span);
        let (stored, gradient) = (&stored[range.clone()], &mut self.gradient[range]);
        match &mut self.sums {
            None => view_gradient(level, view, stored, gradient),
            Some(NormSums { mean, gradients, products }) => {
                view_gradient_sums(level, view, stored, gradient, NormSums { mean, gradients, products });
            }
        }
    }
}
