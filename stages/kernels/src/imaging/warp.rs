//! Affine maps of images.

use crate::shape::MapShape;

/// Writes `image`, mapped from output to input pixels by `rows[i] · (row, column, 1)`, with bilinear interpolation. Outside
/// the image, the nearest pixel is repeated. `values` has the value of each byte, by channel.
pub fn warp(rows: [[f64; 3]; 2], shape: MapShape, image: &[u8], values: &[[f32; 256]], output: &mut [f32]) {
    let row_length = shape.width * shape.channels;
    for (y, row) in output.chunks_exact_mut(row_length).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(shape.channels).enumerate() {
            let [source_y, source_x] = rows.map(|[a, b, c]| (y as f64).mul_add(a, (x as f64).mul_add(b, c)));
            let (upper, lower, down) = neighbours(source_y, shape.height);
            let (left, right, across) = neighbours(source_x, shape.width);
            let at = |y: usize, x: usize| &image[y * row_length + x * shape.channels..][..shape.channels];
            let corners = [at(upper, left), at(upper, right), at(lower, left), at(lower, right)];
            for (channel, value) in pixel.iter_mut().enumerate() {
                let [a, b, c, d] = corners.map(|corner| values[channel][usize::from(corner[channel])]);
                let (above, below) = (across.mul_add(b - a, a), across.mul_add(d - c, c));
                *value = down.mul_add(below - above, above);
            }
        }
    }
}

/// The two pixels next to a coordinate, clamped to the image, and the interpolation weight of the second.
fn neighbours(coordinate: f64, length: usize) -> (usize, usize, f32) {
    let inside = coordinate.clamp(0.0, (length - 1) as f64);
    let first = inside as usize;
    (first, (first + 1).min(length - 1), (inside - first as f64) as f32)
}
