//! Convolutions with many weights: patches of several images share each weight that was loaded.

use super::access::part;
use super::conv::Conv;
use super::{InputGradient, OpWeights, OutputGradient, Scratch, Sink, Source};
use hamflow_kernels::network::{Level, ProductShape, outer_product, packed_len, product};
use hamflow_kernels::shape::{Layout, Span, spans};

/// Patches that are processed at once: few enough for the L2 cache, a multiple of all block sizes.
const ROWS: usize = 120;

/// Some pixels of an image.
type Part = (usize, Span);

/// Runs of parts with at most [`ROWS`] pixels of maps of `images` images.
fn runs(layout: Layout, images: usize) -> Vec<Vec<Part>> {
    let mut runs: Vec<Vec<Part>> = Vec::new();
    let mut rows = ROWS;
    for image in 0..images {
        for span in spans(&[layout], ROWS) {
            if rows + span.count > ROWS {
                runs.push(Vec::new());
                rows = 0;
            }
            rows += span.count;
            runs.last_mut().expect("one was pushed first").push((image, span));
        }
    }
    runs
}

fn rows_of(run: &[Part]) -> usize {
    run.iter().map(|(_, span)| span.count).sum()
}

/// Copies the pixels of a run.
fn gather<'s>(run: &[Part], channels: usize, maps: &[(Layout, &[f32])], scratch: &'s mut Vec<f32>) -> &'s [f32] {
    let values = part(scratch, rows_of(run) * channels);
    let mut to = &mut values[..];
    for &(image, span) in run {
        let (layout, map) = maps[image];
        let (of_part, rest) = to.split_at_mut(span.count * channels);
        of_part.copy_from_slice(&map[layout.range(span)]);
        to = rest;
    }
    values
}

impl Conv {
    /// Copies the patches of a run.
    fn patches_of_run<'s>(&self, run: &[Part], inputs: &[Source<'_>], scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let (_, _, length) = self.group();
        let patches = part(scratch, rows_of(run) * length);
        let mut to = &mut patches[..];
        for &(image, span) in run {
            let (of_part, rest) = to.split_at_mut(span.count * length);
            self.write_patches(&inputs[image], span, 0, of_part);
            to = rest;
        }
        patches
    }

    /// Writes the outputs of several images.
    pub(super) fn forward_images(
        &self,
        level: Level,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        outputs: &mut [Sink<'_>],
        scratch: &mut Scratch,
    ) {
        let (_, filters, length) = self.group();
        for run in runs(outputs[0].layout, outputs.len()) {
            let rows = rows_of(&run);
            let patches = self.patches_of_run(&run, inputs, &mut scratch.input);
            let values = part(&mut scratch.result, rows * filters);
            let shape =
                ProductShape { rows, inputs: length, outputs: filters, input_stride: length, output_stride: filters };
            product(level, shape, patches, weights.forward, false, values);
            let mut values = &values[..];
            for (image, span) in run {
                let (of_part, rest) = values.split_at(span.count * filters);
                outputs[image].span(span).copy_from_slice(of_part);
                outputs[image].finish(level, span);
                values = rest;
            }
        }
    }

    /// Resolves the gradients of the outputs of several images, and writes the gradients of the inputs, if they are
    /// wanted.
    pub(super) fn backward_images(
        &self,
        level: Level,
        weights: OpWeights<'_>,
        outputs: &mut [OutputGradient<'_>],
        inputs: &mut [InputGradient<'_>],
        scratch: &mut Scratch,
    ) {
        let (_, filters, length) = self.group();
        let layout = outputs[0].layout;
        for output in &mut *outputs {
            spans(&[layout], ROWS).for_each(|span| _ = output.resolve(level, span));
        }
        if inputs.is_empty() {
            return;
        }
        for input in inputs.iter_mut().filter(|input| !input.adds) {
            let layout = input.source.layout;
            spans(&[layout], usize::MAX).for_each(|span| input.span(span).fill(0.0));
        }
        let resolved: Vec<(Layout, &[f32])> = outputs.iter().map(|output| (layout, &*output.gradient)).collect();
        for run in runs(layout, resolved.len()) {
            let rows = rows_of(&run);
            let gradients = gather(&run, filters, &resolved, &mut scratch.gradient);
            let patches = part(&mut scratch.input, rows * length);
            let shape =
                ProductShape { rows, inputs: filters, outputs: length, input_stride: filters, output_stride: length };
            product(level, shape, gradients, &weights.backward[..packed_len(filters, length)], false, patches);
            let mut patches = &patches[..];
            for (image, span) in run {
                let (of_part, rest) = patches.split_at(span.count * length);
                let input = &mut inputs[image];
                self.scatter(input.source.layout, span, 0, of_part, input.gradient);
                patches = rest;
            }
        }
        for input in inputs {
            spans(&[input.source.layout], ROWS).for_each(|span| input.finish(level, span));
        }
    }

    /// Writes the gradient of the weights over several images.
    pub(super) fn weight_gradient_of_images(
        &self,
        level: Level,
        inputs: &[Source<'_>],
        outputs: &[(Layout, &[f32])],
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (_, filters, length) = self.group();
        for (number, run) in runs(outputs[0].0, outputs.len()).into_iter().enumerate() {
            let gradients = gather(&run, filters, outputs, &mut scratch.gradient);
            let patches = self.patches_of_run(&run, inputs, &mut scratch.input);
            let shape = ProductShape {
                rows: rows_of(&run),
                inputs: length,
                outputs: filters,
                input_stride: length,
                output_stride: filters,
            };
            outer_product(level, shape, patches, gradients, number > 0, weight_gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamflow_kernels::shape::MapShape;

    #[test]
    fn runs_cover_every_pixel_of_every_image_once() {
        for (height, width, images) in [(4, 5, 7), (14, 19, 2), (1, 1, 300), (10, 12, 3)] {
            let layout = Layout::plain(MapShape { height, width, channels: 2 });
            let runs = runs(layout, images);
            assert!(runs.iter().all(|run| rows_of(run) <= ROWS && rows_of(run) > 0));
            let pixels = runs.iter().flatten().flat_map(|(image, span)| {
                (span.first..span.first + span.count).map(move |pixel| image * height * width + pixel)
            });
            assert_eq!(pixels.collect::<Vec<_>>(), (0..images * height * width).collect::<Vec<_>>());
        }
    }
}
