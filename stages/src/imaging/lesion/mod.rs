//! Draws skin lesions whose classes differ in shape and texture, for data sets that nobody photographed.

mod classes;
mod view;

pub use classes::Diagnosis;

/// Everything about one lesion that its views have in common, in units of its own radius.
///
/// The traits caricature what dermoscopy looks for. Colour is drawn from one distribution for all classes, but for a small
/// shift, so that a classifier has to look at structure.
#[derive(Debug, Clone)]
pub struct Lesion {
    /// Shifts of the outline's radius: cosine and sine of the second, third, … harmonic.
    outline: Vec<[f64; 2]>,
    /// How large it is beside others.
    size: f64,
    /// How much longer than wide.
    elongation: f64,
    /// The width of the border from skin to lesion.
    softness: f64,
    /// How far the lesion hides the skin.
    cover: f64,
    /// A net of thin dark lines.
    network: Texture,
    /// Pale wavy bands.
    scales: Texture,
    /// How much darker one side is than the other.
    asymmetry: f64,
    /// How strong the dark streaks are that run out from the border.
    streaks: f64,
    /// Round structures.
    spots: Vec<Spot>,
    /// Thin red lines from one point to another.
    vessels: Vec<[[f64; 2]; 2]>,
    /// The lesion's own colour.
    tint: [f64; 3],
    /// The skin around it.
    skin: [f64; 3],
    /// The mean colour that its pictures have.
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

/// What a round structure does to what it lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Darkens.
    Dark,
    /// Whitens.
    Pale,
    /// Is a piece of lesion by itself, with a pale rim.
    Lobule,
}

#[cfg(test)]
mod tests;
