//! Turns, zooms and shifts training images at random, as Keras's `ImageDataGenerator` does.

use hamflow_stage_api::Random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::shape::MapShape;

/// How far training images are moved at random, each epoch anew; what comes in at the border repeats the nearest pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Turns by up to this many degrees, either way.
    pub rotation: f64,
    /// Zooms height and width, each on its own, by up to this share, in or out.
    pub zoom: f64,
    /// Shifts by up to this share of the height and of the width.
    pub shift: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { rotation: 10.0, zoom: 0.1, shift: 0.1 }
    }
}

/// What was drawn for one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Degrees.
    pub rotation: f64,
    /// Shares of height and width.
    pub shift: [f64; 2],
    /// Factors of height and width.
    pub zoom: [f64; 2],
}

impl Augmentation {
    /// Draws for one image, in Keras's order: rotation, shift of rows, shift of columns, the two zooms.
    pub fn draw(&self, random: &mut Random) -> Draw {
        Draw {
            rotation: random.uniform(-self.rotation, self.rotation),
            shift: [random.uniform(-self.shift, self.shift), random.uniform(-self.shift, self.shift)],
            zoom: [random.uniform(1.0 - self.zoom, 1.0 + self.zoom), random.uniform(1.0 - self.zoom, 1.0 + self.zoom)],
        }
    }
}

/// Where the pixel (row, column) of a moved image comes from: `rows[i] · (row, column, 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    rows: [[f64; 3]; 2],
}

impl Affine {
    /// Rotation × shift × zoom about the image's centre.
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
        Self { rows: [[a, b, c + centre[0]], [d, e, f + centre[1]]] }
    }

    /// Writes the moved image: bilinear, outside the image its nearest pixel. `values` says what a byte stands for.
    pub fn apply(&self, shape: MapShape, image: &[u8], values: &[f32; 256], output: &mut [f32]) {
        let row_length = shape.width * shape.channels;
        for (y, row) in output.chunks_exact_mut(row_length).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(shape.channels).enumerate() {
                let [source_y, source_x] = self.rows.map(|[a, b, c]| (y as f64).mul_add(a, (x as f64).mul_add(b, c)));
                let (upper, lower, down) = neighbours(source_y, shape.height);
                let (left, right, across) = neighbours(source_x, shape.width);
                let at = |y: usize, x: usize| &image[y * row_length + x * shape.channels..][..shape.channels];
                let corners = [at(upper, left), at(upper, right), at(lower, left), at(lower, right)];
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let [a, b, c, d] = corners.map(|corner| values[usize::from(corner[channel])]);
                    let (above, below) = (across.mul_add(b - a, a), across.mul_add(d - c, c));
                    *value = down.mul_add(below - above, above);
                }
            }
        }
    }
}

/// The two pixels around a coordinate, moved to the border where it lies outside, and how far it is towards the second.
fn neighbours(coordinate: f64, length: usize) -> (usize, usize, f32) {
    let inside = coordinate.clamp(0.0, (length - 1) as f64);
    let first = inside as usize;
    (first, (first + 1).min(length - 1), (inside - first as f64) as f32)
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
    fn the_same_draw_moves_an_image_as_keras_does() {
        let draw = Draw { rotation: 9.0, shift: [0.07, -0.04], zoom: [1.08, 0.93] };
        let affine = Affine::new(&draw, SHAPE);
        for (ours, keras) in affine.rows.iter().flatten().zip(MATRIX) {
            assert!((ours - keras).abs() < 1e-12, "{ours} {keras}");
        }
        let image: Vec<u8> = (0..30u32).map(|i| (i * 37 % 256) as u8).collect();
        let values = std::array::from_fn(|i| i as f32);
        let mut output = vec![0.0; 30];
        affine.apply(SHAPE, &image, &values, &mut output);
        for (ours, keras) in output.iter().zip(IMAGE) {
            assert!((f64::from(*ours) - keras).abs() < 1e-3, "{ours} {keras}");
        }
    }

    #[test]
    fn nothing_drawn_moves_nothing() {
        let still = Augmentation { rotation: 0.0, zoom: 0.0, shift: 0.0 }.draw(&mut Random::new(1, "augment"));
        let image: Vec<u8> = (0..30).collect();
        let values = std::array::from_fn(|i| i as f32);
        let mut output = vec![0.0; 30];
        Affine::new(&still, SHAPE).apply(SHAPE, &image, &values, &mut output);
        assert_eq!(output, image.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());
    }
}
