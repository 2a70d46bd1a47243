//! Grad-CAM (Selvaraju et al., ICCV 2017).

use std::sync::Mutex;

use super::workspace::lock;
use super::{Network, Workspace};
use hamflow_kernels::shape::MapShape;

/// A heat map: how much each position of the last feature map contributes to a class; never negative.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// The number of rows.
    pub height: usize,
    /// The number of positions per row.
    pub width: usize,
    /// `[height, width]`, non-negative, in units of activation times gradient.
    pub values: Vec<f64>,
}

/// Computes heat maps of one network with reusable buffers.
pub struct GradCam<'a> {
    network: &'a Network,
    /// The map that is explained.
    map: usize,
    spare: Mutex<Vec<Workspace>>,
}

impl<'a> GradCam<'a> {
    /// For the last feature map of `network`; `None` if it has none.
    pub fn new(network: &'a Network) -> Option<Self> {
        let map = network.lowered.features?;
        Some(Self { network, map, spare: Mutex::new(Vec::new()) })
    }

    /// The heat map of a normalised image (`[height, width, channels]`) for `class`.
    ///
    /// With the activations Aᵏ of the last feature map (after its activation) and the logit y of the class, the heat is
    /// ReLU(Σₖ αₖ Aᵏ), where αₖ is the mean of ∂y/∂Aᵏ over all positions (Selvaraju et al. 2017, equations 1 and 2).
    pub fn heat(&self, weights: &[&[f32]], image: &[f32], class: usize) -> HeatMap {
        let mut work = lock(&self.spare).pop().unwrap_or_default();
        let (activations, gradient) = self.network.class_gradient(weights, image, class, self.map, &mut work);
        let layout = self.network.lowered.maps[self.map].layout;
        let heat = HeatMap::combine(layout.shape, &activations, &gradient);
        lock(&self.spare).push(work);
        heat
    }
}

impl HeatMap {
    /// The sum of activations weighted by the mean gradient of their channel; negative values become 0.
    pub fn combine(shape: MapShape, activations: &[f32], gradients: &[f32]) -> Self {
        let MapShape { height, width, channels } = shape;
        let mut importance = vec![0.0; channels];
        for pixel in gradients.chunks_exact(channels) {
            importance.iter_mut().zip(pixel).for_each(|(sum, gradient)| *sum += f64::from(*gradient));
        }
        importance.iter_mut().for_each(|sum| *sum /= (height * width) as f64);
        let heat = |pixel: &[f32]| {
            let sum: f64 = importance.iter().zip(pixel).map(|(weight, value)| weight * f64::from(*value)).sum();
            sum.max(0.0)
        };
        Self { height, width, values: activations.chunks_exact(channels).map(heat).collect() }
    }

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

    /// The map in colours, and over an image of its size: RGB pixels, `[height, width, 3]`.
    ///
    /// `colour` maps a fraction of the peak; `cover` is the opacity at the peak, and decreases with the heat.
    pub fn over(&self, image: &[u8], colour: fn(f64) -> [u8; 3], cover: f64) -> (Vec<u8>, Vec<u8>) {
        let peak = self.peak().unwrap_or(1.0);
        let mut map = Vec::with_capacity(image.len());
        let mut overlay = Vec::with_capacity(image.len());
        for (pixel, heat) in image.chunks_exact(3).zip(&self.values) {
            let heat = heat / peak;
            let colour = colour(heat);
            map.extend_from_slice(&colour);
            for (below, above) in pixel.iter().zip(colour) {
                let mixed = f64::from(*below) + (f64::from(above) - f64::from(*below)) * heat * cover;
                overlay.push((mixed + 0.5) as u8);
            }
        }
        (map, overlay)
    }

    /// The mean of maps, each divided by its peak, in the size of the largest one.
    pub fn mean(maps: &[&Self]) -> Self {
        let largest = maps.iter().max_by_key(|map| map.height * map.width);
        let (height, width) = largest.map_or((0, 0), |map| (map.height, map.width));
        let mut values = vec![0.0; height * width];
        for map in maps {
            let Some(peak) = map.peak() else { continue };
            let resized = map.resized(height, width);
            values.iter_mut().zip(resized.values).for_each(|(sum, value)| *sum += value / peak);
        }
        values.iter_mut().for_each(|sum| *sum /= maps.len() as f64);
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
