//! How the steps of a network run: phases between the points where a batch must be complete, and shared buffers.

use std::ops::Range;

use crate::graph::{Lowered, Map};
use hamflow_kernels::shape::Layout;

/// Weight tensors of at most this many values get their gradient per image, summed over the images afterwards. Larger
/// ones get it in blocks of rows over all images, to save memory.
pub(super) const MAX_PER_IMAGE: usize = 40_000;

/// The buffer that holds the gradient of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One per image.
    Image(usize),
    /// One per thread, because all steps that touch it run for an image at once.
    Thread(usize),
}

/// How the gradient of a step's weights is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WeightGradient {
    /// There are no weights.
    None,
    /// Per image, into this range of the image's gradients.
    PerImage(Range<usize>),
    /// In blocks of rows of this length, over all images.
    Split {
        /// Values per row.
        row: usize,
    },
    /// For a group of images at a time, summed over the groups afterwards.
    Grouped,
}

/// Images over which grouped operations add up gradients of weights at once. Sums over a batch depend on it.
pub(super) const GROUP: usize = 16;

/// The most images that a thread runs through the steps of a phase together.
pub(super) const MOST_TOGETHER: usize = 16;

/// The number of images that a thread runs together if there are grouped operations: all its share, since more images
/// use each weight that was loaded more often. Results do not depend on it.
pub(super) fn images_together(count: usize) -> usize {
    count.div_ceil(rayon::current_num_threads()).clamp(1, MOST_TOGETHER)
}

/// The plan of a network.
#[derive(Debug)]
pub(super) struct Plan {
    /// Ranges of steps. All steps of a phase run for one image before the next one; the statistics of the batch that a
    /// phase needs are complete when it starts.
    pub(super) phases: Vec<Range<usize>>,
    /// For each step.
    pub(super) weight_gradients: Vec<WeightGradient>,
    /// For each phase, whether it has grouped operations.
    pub(super) grouped: Vec<bool>,
    /// Gradients per image.
    pub(super) gradient_len: usize,
    /// Gradients per group of images, for the largest grouped operation.
    pub(super) group_len: usize,
    /// For each map; the image has none.
    pub(super) places: Vec<Option<Place>>,
    /// The sizes of the buffers per image.
    pub(super) image_buffers: Vec<usize>,
    /// The sizes of the buffers per thread.
    pub(super) thread_buffers: Vec<usize>,
    /// For each normalisation: where its two sums per channel begin, and the phase in which its gradient is complete.
    pub(super) norms: Vec<NormPlan>,
    /// Sums per image: two per channel of each normalisation.
    pub(super) sums_len: usize,
    /// For each map, the buffer that holds it in inference.
    pub(super) inference: Vec<usize>,
    /// The sizes of the buffers for inference.
    pub(super) inference_buffers: Vec<usize>,
}

/// The plan of a normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormPlan {
    /// Where its sums begin.
    pub(super) offset: usize,
    /// The phase that writes the map.
    pub(super) written: usize,
    /// The phase whose backward pass completes the gradient of the map.
    pub(super) completed: usize,
}

impl Plan {
    pub(super) fn new(lowered: &Lowered) -> Self {
        let phases = phases(lowered);
        let phase_of =
            |step: usize| phases.iter().position(|phase| phase.contains(&step)).expect("every step has a phase");
        let (weight_gradients, gradient_len) = weight_gradients(lowered);
        let is_grouped = |phase: &Range<usize>| lowered.steps[phase.clone()].iter().any(|step| step.op.is_grouped());
        let grouped: Vec<bool> = phases.iter().map(is_grouped).collect();
        let of_groups = lowered.steps.iter().filter(|step| step.op.is_grouped()).map(|step| step.gradient.len());
        let group_len = of_groups.max().unwrap_or(0);
        let mut norms = Vec::new();
        let mut sums_len = 0;
        for norm in &lowered.norms {
            let map = &lowered.maps[norm.map];
            let written = lowered.steps.iter().position(|step| step.output == norm.map).map_or(0, phase_of);
            let completed = map.consumers.first().map_or(phases.len(), |step| phase_of(*step));
            norms.push(NormPlan { offset: sums_len, written, completed });
            sums_len += 2 * map.layout.shape.channels;
        }
        let (places, image_buffers, thread_buffers) = gradients(lowered, &phases, &weight_gradients, &grouped);
        let (inference, inference_buffers) = inference(lowered);
        Self {
            phases,
            weight_gradients,
            grouped,
            gradient_len,
            group_len,
            places,
            image_buffers,
            thread_buffers,
            norms,
            sums_len,
            inference,
            inference_buffers,
        }
    }
}

/// A new phase begins where a step reads a map whose normalisation needs the phase before.
fn phases(lowered: &Lowered) -> Vec<Range<usize>> {
    let mut phases = Vec::new();
    let mut start = 0;
    for (index, step) in lowered.steps.iter().enumerate() {
        let waits = |map: &usize| {
            lowered.maps[*map].norm.is_some() && lowered.steps[start..index].iter().any(|step| step.output == *map)
        };
        if step.inputs.iter().any(waits) {
            phases.push(start..index);
            start = index;
        }
    }
    phases.push(start..lowered.steps.len());
    phases
}

fn weight_gradients(lowered: &Lowered) -> (Vec<WeightGradient>, usize) {
    let mut length = 0;
    let of_step = |step: &crate::graph::Step| match (step.gradient.len(), step.op.weight_row_len()) {
        (0, _) => WeightGradient::None,
        _ if step.op.is_grouped() => WeightGradient::Grouped,
        (count, Some(row)) if count > MAX_PER_IMAGE => WeightGradient::Split { row },
        (count, _) => {
            length += count;
            WeightGradient::PerImage(length - count..length)
        }
    };
    let gradients = lowered.steps.iter().map(of_step).collect();
    (gradients, length)
}

/// Buffers that are used again when their content is no longer needed. Those with a border keep their layout.
#[derive(Default)]
struct Pool {
    /// The size, the layout if there is a border, and when the buffer is free again.
    buffers: Vec<(usize, Option<Layout>, usize)>,
}

impl Pool {
    /// A buffer for a map that is used from `start` to `end`, in ascending order of `start`.
    fn take(&mut self, layout: Layout, start: usize, end: usize) -> usize {
        let border = layout.is_bordered().then_some(layout);
        let fits = |(_, other, free): &(usize, Option<Layout>, usize)| *other == border && *free < start;
        let size = layout.len();
        // The one whose size is nearest.
        let found = self.buffers.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let index = found.min_by_key(|(_, buffer)| buffer.0.abs_diff(size)).map(|(index, _)| index);
        let index = index.unwrap_or_else(|| {
            self.buffers.push((size, border, 0));
            self.buffers.len() - 1
        });
        let buffer = &mut self.buffers[index];
        (buffer.0, buffer.2) = (buffer.0.max(size), end);
        index
    }

    fn sizes(self) -> Vec<usize> {
        self.buffers.into_iter().map(|(size, ..)| size).collect()
    }
}

fn gradients(
    lowered: &Lowered,
    phases: &[Range<usize>],
    weight_gradients: &[WeightGradient],
    grouped: &[bool],
) -> (Vec<Option<Place>>, Vec<usize>, Vec<usize>) {
    let last = phases.len() - 1;
    let phase_of = |step: usize| phases.iter().position(|phase| phase.contains(&step)).expect("every step has a phase");
    // The backward pass goes from the last phase to the first one.
    let time = |phase: usize| last - phase;
    let mut uses: Vec<(usize, usize, usize)> = Vec::new();
    let mut places = vec![None; lowered.maps.len()];
    let mut thread_buffers = Vec::new();
    for (index, step) in lowered.steps.iter().enumerate() {
        let map: &Map = &lowered.maps[step.output];
        let produced = phase_of(index);
        let is_flattened = step.output == lowered.flattened;
        let consumed = map.consumers.last().map_or(last, |step| phase_of(*step));
        let is_kept = matches!(weight_gradients[index], WeightGradient::Split { .. }) || grouped[produced];
        let is_local = consumed == produced && !is_flattened && !is_kept;
        if is_local && map.norm.is_none() {
            places[step.output] = Some(Place::Thread(thread_buffers.len()));
            thread_buffers.push(map.layout.len());
        } else {
            let consumed = if is_flattened { last } else { consumed };
            uses.push((time(consumed), time(produced), step.output));
        }
    }
    uses.sort_unstable();
    let mut pool = Pool::default();
    for (start, end, map) in uses {
        places[map] = Some(Place::Image(pool.take(lowered.maps[map].layout, start, end)));
    }
    (places, pool.sizes(), thread_buffers)
}

/// In inference, there are no phases: a map is needed from its step to its last consumer.
fn inference(lowered: &Lowered) -> (Vec<usize>, Vec<usize>) {
    let mut pool = Pool::default();
    let steps = lowered.steps.len();
    let end = |map: &Map, index: usize| {
        if index == lowered.flattened { steps + 1 } else { map.consumers.last().map_or(steps, |step| step + 1) }
    };
    let mut buffers = vec![0; lowered.maps.len()];
    buffers[0] = pool.take(lowered.maps[0].layout, 1, end(&lowered.maps[0], 0));
    for (index, step) in lowered.steps.iter().enumerate() {
        let map = &lowered.maps[step.output];
        buffers[step.output] = pool.take(map.layout, index + 1, end(map, step.output));
    }
    (buffers, pool.sizes())
}
