//! Random augmentation of training images: geometric as in Keras's `ImageDataGenerator`, colour as in torchvision's
//! `ColorJitter`.

use std::ops::Range;

use hamflow_stage_api::Random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::normalisation::{Normalisation, Table};
use hamflow_kernels::imaging::warp;
use hamflow_kernels::shape::MapShape;

/// Random augmentation of training images, drawn anew in each epoch. Pixels outside the image repeat the nearest pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Maximum rotation in degrees, in either direction.
    #[schemars(range(min = 0, max = 180))]
    pub rotation: f64,
    /// Maximum relative zoom, in or out, drawn independently for height and width.
    #[schemars(range(min = 0, max = 0.9))]
    pub zoom: f64,
    /// Maximum shift as a fraction of the height and of the width.
    #[schemars(range(min = 0, max = 1))]
    pub shift: f64,
    /// Flips images horizontally with probability 0.5.
    pub flip_horizontal: bool,
    /// Flips images vertically with probability 0.5.
    pub flip_vertical: bool,
    /// Maximum relative change of brightness, up or down.
    #[schemars(range(min = 0, max = 1))]
    pub brightness: f64,
    /// Maximum relative change of contrast, up or down.
    #[schemars(range(min = 0, max = 1))]
    pub contrast: f64,
    /// Maximum relative change of saturation, up or down.
    #[schemars(range(min = 0, max = 1))]
    pub saturation: f64,
    /// Minimum area of a random crop, as a fraction of the image, resized to the whole image (Szegedy et al. 2015); 1
    /// disables it. The aspect ratio changes by up to 4 : 3.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    #[serde(skip_serializing_if = "is_one")]
    pub crop: f64,
    /// Rotates images by a random multiple of 90°; those that are not square are stretched to their frame.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub quarter_turns: bool,
    /// Probability of erasing a random rectangle (Zhong et al. 2020).
    #[schemars(range(min = 0, max = 1))]
    #[serde(skip_serializing_if = "is_zero")]
    pub erasing: f64,
}

/// Parameters that came later are left out of the key at their defaults, so that older results stay valid.
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            rotation: 10.0,
            zoom: 0.1,
            shift: 0.1,
            flip_horizontal: false,
            flip_vertical: false,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            crop: 1.0,
            quarter_turns: false,
            erasing: 0.0,
        }
    }
}

/// The random augmentation of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// The angle in degrees.
    pub rotation: f64,
    /// Fractions of height and width.
    pub shift: [f64; 2],
    /// Zoom factors of height and width.
    pub zoom: [f64; 2],
    /// Whether the order of rows and of columns is reversed.
    pub flip: [bool; 2],
    /// Factors of brightness, contrast and saturation.
    pub colour: [f64; 3],
    /// The number of quarter turns.
    pub quarter_turns: u8,
    /// The rectangle that is erased: its first row and column, height and width, as fractions of the image.
    pub erased: Option<[f64; 4]>,
}

impl Draw {
    /// No change.
    pub const NONE: Self = Self {
        rotation: 0.0,
        shift: [0.0; 2],
        zoom: [1.0; 2],
        flip: [false; 2],
        colour: [1.0; 3],
        quarter_turns: 0,
        erased: None,
    };
}

impl Augmentation {
    /// Draws the augmentation of one image in Keras's order: rotation, shift of rows, shift of columns, the two
    /// zooms; then the flips, the colours, the crop, the turns and the rectangle.
    pub fn draw(&self, random: &mut Random) -> Draw {
        let mut draw = Draw {
            rotation: random.uniform(-self.rotation, self.rotation),
            shift: [random.uniform(-self.shift, self.shift), random.uniform(-self.shift, self.shift)],
            zoom: [random.uniform(1.0 - self.zoom, 1.0 + self.zoom), random.uniform(1.0 - self.zoom, 1.0 + self.zoom)],
            flip: [self.flip_vertical, self.flip_horizontal].map(|wanted| random.unit() < 0.5 && wanted),
            colour: [self.brightness, self.contrast, self.saturation]
                .map(|share| random.uniform(1.0 - share, 1.0 + share)),
            ..Draw::NONE
        };
        if self.crop < 1.0 {
            draw.crop(random.uniform(self.crop, 1.0), random);
        }
        if self.quarter_turns {
            draw.quarter_turns = random.below(4) as u8;
        }
        if random_below(self.erasing, random) {
            draw.erased = Some(rectangle(random));
        }
        draw
    }
}

/// Whether a draw is below a probability. Nothing is drawn if it is 0.
fn random_below(probability: f64, random: &mut Random) -> bool {
    probability > 0.0 && random.unit() < probability
}

impl Draw {
    /// Restricts the image to a random part of this area, with an aspect ratio between 3 : 4 and 4 : 3 of the image's, as
    /// torchvision's `RandomResizedCrop`.
    fn crop(&mut self, area: f64, random: &mut Random) {
        // With a ratio beyond this, a side would be longer than the image's.
        let limit = libm::log(4.0 / 3.0).min(-libm::log(area));
        let ratio = libm::exp(random.uniform(-limit, limit));
        for (axis, part) in [(area / ratio).sqrt(), (area * ratio).sqrt()].into_iter().enumerate() {
            let part = part.min(1.0);
            self.zoom[axis] *= part;
            self.shift[axis] += random.uniform(-0.5, 0.5) * (1.0 - part);
        }
    }
}

/// A rectangle with 2 % to 33 % of the area and an aspect ratio between 0.3 and 3.3, as torchvision's `RandomErasing`.
fn rectangle(random: &mut Random) -> [f64; 4] {
    let area = random.uniform(0.02, 0.33);
    let ratio = libm::exp(random.uniform(libm::log(0.3), libm::log(3.3)));
    let (height, width) = ((area * ratio).sqrt().min(1.0), (area / ratio).sqrt().min(1.0));
    [random.uniform(0.0, 1.0 - height), random.uniform(0.0, 1.0 - width), height, width]
}

/// The rows and columns of a rectangle that is given as fractions of the image.
pub fn erased_pixels([top, left, height, width]: [f64; 4], shape: MapShape) -> [Range<usize>; 2] {
    let range = |start: f64, part: f64, length: usize| {
        let at = |fraction: f64| ((fraction * length as f64 + 0.5) as usize).min(length);
        at(start)..at(start + part)
    };
    [range(top, height, shape.height), range(left, width, shape.width)]
}

/// Sets a rectangle of a normalised image to the mean.
pub fn erase(rectangle: [f64; 4], shape: MapShape, pixels: &mut [f32]) {
    let [rows, columns] = erased_pixels(rectangle, shape);
    let columns = columns.start * shape.channels..columns.end * shape.channels;
    for row in rows {
        pixels[row * shape.width * shape.channels..][columns.clone()].fill(0.0);
    }
}

/// An affine map from output to input pixels: `rows[i] · (row, column, 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    rows: [[f64; 3]; 2],
}

/// Composes a map with quarter turns of the output, stretched to its frame.
fn turned_by(turns: u8, [height, width]: [f64; 2], rows: [[f64; 3]; 2]) -> [[f64; 3]; 2] {
    // The row and the column of the source, as functions of the output's.
    let (row, column) = match turns {
        1 => ([0.0, height / width, 0.0], [-width / height, 0.0, width]),
        2 => ([-1.0, 0.0, height], [0.0, -1.0, width]),
        3 => ([0.0, -height / width, height], [width / height, 0.0, 0.0]),
        _ => return rows,
    };
    // These hold for edges of pixels; centres are half a pixel further.
    let centred = |[a, b, c]: [f64; 3]| [a, b, c + 0.5 * a + 0.5 * b - 0.5];
    let (row, column) = (centred(row), centred(column));
    rows.map(|[a, b, c]| std::array::from_fn(|i| a * row[i] + b * column[i] + if i == 2 { c } else { 0.0 }))
}

impl Affine {
    /// Rotation × shift × zoom about the centre of the image.
    pub fn new(draw: &Draw, shape: MapShape) -> Self {
        let theta = draw.rotation.to_radians();
        let (sin, cos) = (libm::sin(theta), libm::cos(theta));
        let (height, width) = (shape.height as f64, shape.width as f64);
        let shift = [draw.shift[0] * height, draw.shift[1] * width];
        let turned = [[cos, -sin], [sin, cos]];
        let centre = [height / 2.0 - 0.5, width / 2.0 - 0.5];
        let rows = turned.map(|[a, b]| {
            let (p, q) = (a * draw.zoom[0], b * draw.zoom[1]);
            [p, q, a * shift[0] + b * shift[1] - p * centre[0] - q * centre[1]]
        });
        let [[a, b, c], [d, e, f]] = rows;
        let moved = [[a, b, c + centre[0]], [d, e, f + centre[1]]];
        let last = [height - 1.0, width - 1.0];
        let flipped = |axis: usize, [a, b, c]: [f64; 3]| match (axis, draw.flip[axis]) {
            (0, true) => [-a, b, c + a * last[0]],
            (1, true) => [a, -b, c + b * last[1]],
            _ => [a, b, c],
        };
        let rows = moved.map(|row| flipped(1, flipped(0, row)));
        Self { rows: turned_by(draw.quarter_turns, [height, width], rows) }
    }

    /// The two rows of the matrix.
    pub fn rows(&self) -> [[f64; 3]; 2] {
        self.rows
    }

    /// Writes the transformed image with bilinear interpolation; outside the image, the nearest pixel is repeated.
    /// `values` maps bytes to normalised values.
    pub fn apply(&self, shape: MapShape, image: &[u8], values: &Table, output: &mut [f32]) {
        warp(self.rows, shape, image, values, output);
    }
}

/// Scales brightness, then contrast, then saturation of a normalised image, clamping each to the range of a byte, by
/// torchvision's formulas (`adjust_brightness`, `adjust_contrast`, `adjust_saturation`).
pub fn change_colours([brightness, contrast, saturation]: [f64; 3], normalisation: &Normalisation, pixels: &mut [f32]) {
    let [mean, deviation] =
        [normalisation.mean, normalisation.standard_deviation].map(|channels| [0, 1, 2].map(|i| channels.of(i)));
    let mut image: Vec<[f64; 3]> =
        pixels.chunks_exact(3).map(|pixel| [0, 1, 2].map(|i| f64::from(pixel[i]) * deviation[i] + mean[i])).collect();
    let inside = |value: f64| value.clamp(0.0, 255.0);
    let grey = |[red, green, blue]: [f64; 3]| 0.2989 * red + 0.587 * green + 0.114 * blue;
    image.iter_mut().for_each(|pixel| *pixel = pixel.map(|value| inside(value * brightness)));
    let middle = image.iter().map(|pixel| grey(*pixel)).sum::<f64>() / image.len().max(1) as f64;
    for pixel in &mut image {
        *pixel = pixel.map(|value| inside(contrast * value + (1.0 - contrast) * middle));
        let own = grey(*pixel);
        *pixel = pixel.map(|value| inside(saturation * value + (1.0 - saturation) * own));
    }
    for (pixel, image) in pixels.chunks_exact_mut(3).zip(image) {
        for (i, (output, value)) in pixel.iter_mut().zip(image).enumerate() {
            *output = ((value - mean[i]) / deviation[i]) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: MapShape = MapShape { height: 5, width: 6, channels: 1 };

    const MATRIX: [f64; 6] = [
        1.0667034078427489,
        -0.14548405248741472,
        0.6135385063509926,
        0.16894922224344935,
        0.9185501567534782,
        -0.3165669753493461,
    ];
    const IMAGE: [f64; 30] = [
        136.2056, 54.0507, 45.2923, 84.2252, 123.158, 158.2188, 198.8718, 140.5231, 46.2199, 54.2084, 93.1412, 132.074,
        163.3931, 202.3259, 121.7051, 41.9184, 63.1244, 102.0572, 133.3763, 172.3091, 207.8962, 99.3577, 41.1463,
        72.0404, 133.2915, 167.2779, 201.2642, 205.8412, 13.2369, 47.2233,
    ];

    // from scipy import ndimage; import numpy as np   # the formulas of Keras's apply_affine_transform
    // h, w, theta, tx, ty, zx, zy = 5, 6, np.deg2rad(9.0), 0.07 * 5, -0.04 * 6, 1.08, 0.93
    // x = np.array([(i * 37) % 256 for i in range(30)], np.float32).reshape(h, w)
    // r = np.array([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]])
    // m = r @ np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]]) @ np.diag([zx, zy, 1])
    // o = np.array([[1, 0, h / 2 - .5], [0, 1, w / 2 - .5], [0, 0, 1]]); n = o @ m @ np.linalg.inv(o)
    // print(n[:2]); print(ndimage.affine_transform(x, n[:2, :2], n[:2, 2], order=1, mode="nearest"))
    #[test]
    fn the_same_draw_transforms_an_image_as_in_keras() {
        let draw = Draw { rotation: 9.0, shift: [0.07, -0.04], zoom: [1.08, 0.93], ..Draw::NONE };
        let affine = Affine::new(&draw, SHAPE);
        for (ours, keras) in affine.rows.iter().flatten().zip(MATRIX) {
            assert!((ours - keras).abs() < 1e-12, "{ours} {keras}");
        }
        let image: Vec<u8> = (0..30u32).map(|i| (i * 37 % 256) as u8).collect();
        let values = [std::array::from_fn(|i| i as f32); 3];
        let mut output = vec![0.0; 30];
        affine.apply(SHAPE, &image, &values, &mut output);
        for (ours, keras) in output.iter().zip(IMAGE) {
            assert!((f64::from(*ours) - keras).abs() < 1e-3, "{ours} {keras}");
        }
    }

    #[test]
    fn the_identity_draw_changes_nothing() {
        let still = Augmentation { rotation: 0.0, zoom: 0.0, shift: 0.0, ..Augmentation::default() };
        let still = still.draw(&mut Random::new(1, "augment"));
        assert_eq!((still.flip, still.colour), ([false; 2], [1.0; 3]));
        let image: Vec<u8> = (0..30).collect();
        let values = [std::array::from_fn(|i| i as f32); 3];
        let mut output = vec![0.0; 30];
        Affine::new(&still, SHAPE).apply(SHAPE, &image, &values, &mut output);
        assert_eq!(output, image.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());
    }

    #[test]
    fn flips_reverse_rows_and_columns() {
        let image: Vec<u8> = (0..30).collect();
        let values = [std::array::from_fn(|i| i as f32); 3];
        let flipped = |flip: [bool; 2]| {
            let draw = Draw { flip, ..Draw::NONE };
            let mut output = vec![0.0; 30];
            Affine::new(&draw, SHAPE).apply(SHAPE, &image, &values, &mut output);
            output
        };
        assert_eq!(flipped([false, true])[..6], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(flipped([true, false])[..6], [24.0, 25.0, 26.0, 27.0, 28.0, 29.0]);
        assert_eq!(flipped([true, true])[..6], [29.0, 28.0, 27.0, 26.0, 25.0, 24.0]);
        let both = Augmentation { flip_horizontal: true, flip_vertical: true, ..Augmentation::default() };
        let drawn: Vec<[bool; 2]> = (0..200).map(|seed| both.draw(&mut Random::new(seed, "flip")).flip).collect();
        for axis in [0, 1] {
            assert!((60..140).contains(&drawn.iter().filter(|flip| flip[axis]).count()));
        }
    }

    const COLOURS: [f64; 12] = [
        7.340786, 84.508786, 161.676786, 188.717448, 242.813448, 0.0, 71.823365, 148.991365, 226.159365, 255.0,
        19.365106, 96.533106,
    ];

    // import torch; from torchvision.transforms.v2 import functional as F
    // x = torch.tensor([(i * 53) % 256 for i in range(12)], dtype=torch.float64).reshape(2, 2, 3).permute(2, 0, 1) / 255
    // y = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(x, 1.3), 0.8), 1.4)
    // print([round(v, 6) for v in (y.permute(1, 2, 0) * 255).flatten().tolist()])
    #[test]
    fn colour_changes_match_torchvision() {
        let normalisation = Normalisation::shared(100.0, 40.0);
        let mut pixels: Vec<f32> = (0..12).map(|i| ((i * 53 % 256) as f32 - 100.0) / 40.0).collect();
        change_colours([1.3, 0.8, 1.4], &normalisation, &mut pixels);
        for (ours, theirs) in pixels.iter().zip(COLOURS) {
            let ours = f64::from(*ours) * 40.0 + 100.0;
            assert!((ours - theirs).abs() < 1e-3, "{ours} {theirs}");
        }
    }

    // import numpy as np; np.rot90(np.arange(16).reshape(4, 4), k)[0]
    #[test]
    fn quarter_turns_match_numpy() {
        let shape = MapShape { height: 4, width: 4, channels: 1 };
        let image: Vec<u8> = (0..16).collect();
        let values = [std::array::from_fn(|i| i as f32); 3];
        let turned = |quarter_turns| {
            let mut output = vec![0.0; 16];
            Affine::new(&Draw { quarter_turns, ..Draw::NONE }, shape).apply(shape, &image, &values, &mut output);
            output[..4].to_vec()
        };
        assert_eq!(turned(0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(turned(1), [3.0, 7.0, 11.0, 15.0]);
        assert_eq!(turned(2), [15.0, 14.0, 13.0, 12.0]);
        assert_eq!(turned(3), [12.0, 8.0, 4.0, 0.0]);
        // An image that is not square is stretched to its frame.
        let corner = |quarter_turns| Affine::new(&Draw { quarter_turns, ..Draw::NONE }, SHAPE).rows;
        for (row, expected) in corner(1).iter().zip([[0.0, 5.0 / 6.0, 0.0], [-6.0 / 5.0, 0.0, 5.0]]) {
            // The centre stays, and edges map to edges.
            let at = |[y, x]: [f64; 2]| row[0] * y + row[1] * x + row[2];
            let centre = if expected[0] == 0.0 { 2.0 } else { 2.5 };
            assert!((at([2.0, 2.5]) - centre).abs() < 1e-12 && (row[0] - expected[0]).abs() < 1e-12);
        }
    }

    #[test]
    fn crops_stay_inside_the_image_and_have_the_area() {
        let augmentation = |minimum| Augmentation {
            rotation: 0.0,
            zoom: 0.0,
            shift: 0.0,
            crop: minimum,
            erasing: 1.0,
            ..Augmentation::default()
        };
        for seed in 0..400 {
            let minimum = if seed % 2 == 0 { 0.3 } else { 0.9 };
            let draw = augmentation(minimum).draw(&mut Random::new(seed, "crop"));
            let area = draw.zoom[0] * draw.zoom[1];
            assert!((minimum - 1e-9..=1.0 + 1e-9).contains(&area), "{draw:?}");
            for axis in [0, 1] {
                // The part of the axis that is visible, from 0 to 1.
                let (centre, half) = (0.5 + draw.shift[axis], draw.zoom[axis] / 2.0);
                assert!(centre - half >= -1e-9 && centre + half <= 1.0 + 1e-9, "{draw:?}");
            }
            let [top, left, height, width] = draw.erased.unwrap();
            assert!(top >= 0.0 && left >= 0.0 && top + height <= 1.0 && left + width <= 1.0);
            let mut pixels = vec![1.0; 40 * 60];
            erase([top, left, height, width], MapShape { height: 40, width: 60, channels: 1 }, &mut pixels);
            let erased = pixels.iter().filter(|value| **value == 0.0).count() as f64 / 2400.0;
            assert!((erased - height * width).abs() < 0.04, "{erased} {}", height * width);
        }
    }
}
