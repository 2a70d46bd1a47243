//! Draws synthetic skin lesions whose classes differ in shape and texture.

mod classes;
mod view;

pub use classes::Diagnosis;

/// The traits that all views of a lesion share, in units of its radius.
///
/// The traits caricature dermoscopic criteria. The colour is drawn from the same distribution for all classes, except
/// for a small shift, so that a classifier must rely on structure.
#[derive(Debug, Clone)]
pub struct Lesion {
    /// The harmonics of the outline's radius: cosine and sine amplitudes of the second, third, … harmonic.
    outline: Vec<[f64; 2]>,
    /// The relative size.
    size: f64,
    /// The ratio of length to width.
    elongation: f64,
    /// The width of the border between skin and lesion.
    softness: f64,
    /// The opacity of the lesion.
    cover: f64,
    /// A network of thin dark lines.
    network: Texture,
    /// Pale wavy bands.
    scales: Texture,
    /// The brightness difference between the two sides.
    asymmetry: f64,
    /// The strength of the dark streaks at the border.
    streaks: f64,
    /// Round structures.
    spots: Vec<Spot>,
    /// Thin red lines between two points.
    vessels: Vec<[[f64; 2]; 2]>,
    /// The colour of the lesion.
    tint: [f64; 3],
    /// The colour of the surrounding skin.
    skin: [f64; 3],
    /// The mean colour of its images.
    mean: [f64; 3],
}

/// A regular pattern.
#[derive(Debug, Clone, Copy, Default)]
struct Texture {
    strength: f64,
    period: f64,
}

#[derive(Debug, Clone, Copy)]
struct Spot {
    center: [f64; 2],
    radius: f64,
    strength: f64,
    look: Look,
}

/// The effect of a round structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Darkens.
    Dark,
    /// Whitens.
    Pale,
    /// Is a separate piece of lesion with a pale rim.
    Lobule,
}

#[cfg(test)]
mod tests;
