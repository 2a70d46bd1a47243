//! Grad-CAM (Selvaraju et al., ICCV 2017).

use super::{ImageSeen, Network, Pass, lock};
use crate::ml::shape::MapShape;
use std::sync::Mutex;

/// A heat map: how much each position of the last convolution contributes to a class; never negative.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// The number of rows.
    pub height: usize,
    /// The number of positions per row.
    pub width: usize,
    /// `[height, width]`, non-negative, in units of activation times gradient.
    pub values: Vec<f64>,
}

/// The buffers of one thread.
struct Buffers {
    maps: Vec<Vec<f32>>,
    gradient_maps: Vec<Vec<f32>>,
    weight_gradient: Vec<f32>,
}

/// Computes heat maps of one network with reusable buffers.
pub struct GradCam<'a> {
    network: &'a Network,
    /// The index of the last convolution.
    layer: usize,
    spare: Mutex<Vec<Buffers>>,
}

impl<'a> GradCam<'a> {
    /// For the last convolution of `network`; `None` if it has none.
    pub fn new(network: &'a Network) -> Option<Self> {
        let layer = network.images.iter().rposition(|placed| !placed.parameters.is_empty())?;
        Some(Self { network, layer, spare: Mutex::new(Vec::new()) })
    }

    /// The heat map of a normalised image (`[height, width, channels]`) for `class`.
    ///
    /// With the activations Aᵏ of the last convolution (after its ReLU) and the logit y of the class, the heat is
    /// ReLU(Σₖ αₖ Aᵏ), where αₖ is the mean of ∂y/∂Aᵏ over all positions (Selvaraju et al. 2017, equations 1 and 2).
    pub fn heat(&self, weights: &[&[f32]], image: &[f32], class: usize) -> HeatMap {
        let mut buffers = lock(&self.spare).pop().unwrap_or_else(|| self.new_buffers());
        self.gradients(weights, image, class, &mut buffers);
        let shape = self.network.images[self.layer].layer.output();
        let heat = combine(shape, &buffers.maps[self.layer + 1], &buffers.gradient_maps[self.layer + 1]);
        lock(&self.spare).push(buffers);
        heat
    }

    fn new_buffers(&self) -> Buffers {
        let network = self.network;
        let weight_gradient = vec![0.0; network.parameter_count()];
        Buffers { maps: network.new_maps(), gradient_maps: network.new_maps(), weight_gradient }
    }

    /// Writes the activations to `maps` and the gradients of the logit to `gradient_maps`, down to the layer's output.
    fn gradients(&self, weights: &[&[f32]], image: &[f32], class: usize, buffers: &mut Buffers) {
        let network = self.network;
        let Buffers { maps, gradient_maps, weight_gradient } = buffers;
        let pass = Pass::inference();
        network.forward_image(&pass, weights, 0, image, maps);
        let last = network.images.len();
        let map = network.map();
        let mut vector = vec![0.0; map.len()];
        map.take(&maps[last], &mut vector);
        let mut rows = vec![vector];
        network.forward_rows(&pass, weights, 1, &mut rows);
        let mut gradient = vec![0.0; network.classes()];
        gradient[class] = 1.0;
        let gradient = network.backward_rows(&pass, weights, 1, &rows, gradient, weight_gradient);
        map.put(&gradient, &mut gradient_maps[last]);
        for (i, placed) in network.images.iter().enumerate().skip(self.layer + 1).rev() {
            let seen = ImageSeen { weights: &[], prepared: &[], image: 0, input: &maps[i], output: &maps[i + 1] };
            let (before, after) = gradient_maps.split_at_mut(i + 1);
            placed.layer.backward(&pass, seen, &mut after[0], &mut [], Some(&mut before[i]));
        }
    }
}

/// The sum of activations weighted by the mean gradient of their channel; negative values become 0.
fn combine(shape: MapShape, activations: &[f32], gradients: &[f32]) -> HeatMap {
    let MapShape { height, width, channels } = shape;
    let mut importance = vec![0.0; channels];
    for y in 0..height {
        for pixel in shape.row(gradients, y).chunks_exact(channels) {
            importance.iter_mut().zip(pixel).for_each(|(sum, gradient)| *sum += f64::from(*gradient));
        }
    }
    importance.iter_mut().for_each(|sum| *sum /= (height * width) as f64);
    let heat = |pixel: &[f32]| {
        let sum: f64 = importance.iter().zip(pixel).map(|(weight, value)| weight * f64::from(*value)).sum();
        sum.max(0.0)
    };
    let rows = (0..height).flat_map(|y| shape.row(activations, y).chunks_exact(channels));
    HeatMap { height, width, values: rows.map(heat).collect() }
}

impl HeatMap {
    /// Resizes to `height` × `width` with bilinear interpolation between the centres of the positions.
    ///
    /// Matches PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    pub fn resized(&self, height: usize, width: usize) -> Self {
        let (rows, columns) = (positions(self.height, height), positions(self.width, width));
        let at = |y: usize, x: usize| self.values[y * self.width + x];
        let mut values = Vec::with_capacity(height * width);
        for (y0, y1, down) in rows {
            for &(x0, x1, across) in &columns {
                let upper = at(y0, x0) + (at(y0, x1) - at(y0, x0)) * across;
                let lower = at(y1, x0) + (at(y1, x1) - at(y1, x0)) * across;
                values.push(upper + (lower - upper) * down);
            }
        }
        Self { height, width, values }
    }

    /// The maximum; `None` if all values are 0.
    pub fn peak(&self) -> Option<f64> {
        let peak = self.values.iter().copied().fold(0.0, f64::max);
        (peak > 0.0).then_some(peak)
    }
}

/// For each output position: its two neighbours in the input and the interpolation weight.
fn positions(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let scale = from as f64 / to as f64;
    let position = |i: usize| {
        let place = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (place as usize).min(from - 1);
        (low, (low + 1).min(from - 1), (place - low as f64).min(1.0))
    };
    (0..to).map(position).collect()
}

#[cfg(test)]
#[path = "grad_cam_tests.rs"]
mod tests;
