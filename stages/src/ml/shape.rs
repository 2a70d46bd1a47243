//! The shape and memory layout of feature maps.

use serde::{Deserialize, Serialize};

/// The height, width and channels of a feature map.
///
/// In memory, a map has a border of one zero pixel on each side, so that 3×3 windows never leave it:
/// `[height + 2, width + 2, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapShape {
    /// The number of rows.
    pub height: usize,
    /// The number of pixels per row.
    pub width: usize,
    /// The number of values per pixel.
    pub channels: usize,
}

impl MapShape {
    /// The number of values without the border.
    pub const fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there are no values.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of values with the border.
    pub const fn bordered_len(self) -> usize {
        (self.height + 2) * self.bordered_row()
    }

    /// The number of values per row with the border.
    pub const fn bordered_row(self) -> usize {
        (self.width + 2) * self.channels
    }

    /// The shape of half the height and width, rounded down.
    pub const fn halved(self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, channels: self.channels }
    }

    /// Row `y` of a bordered map, without the border.
    pub fn row(self, map: &[f32], y: usize) -> &[f32] {
        &map[(y + 1) * self.bordered_row() + self.channels..][..self.width * self.channels]
    }

    /// Row `y` of a bordered map, without the border, mutable.
    pub fn row_mut(self, map: &mut [f32], y: usize) -> &mut [f32] {
        &mut map[(y + 1) * self.bordered_row() + self.channels..][..self.width * self.channels]
    }

    /// Rows `y` and `y + 1`, mutable.
    pub fn two_rows_mut(self, map: &mut [f32], y: usize) -> (&mut [f32], &mut [f32]) {
        let row = self.bordered_row();
        let (upper, lower) = map[(y + 1) * row..(y + 3) * row].split_at_mut(row);
        let inside = self.channels..self.channels * (self.width + 1);
        (&mut upper[inside.clone()], &mut lower[inside])
    }

    /// Copies an image without a border into a bordered map.
    pub fn put(self, image: &[f32], map: &mut [f32]) {
        for (y, row) in image.chunks_exact(self.width * self.channels).enumerate() {
            self.row_mut(map, y).copy_from_slice(row);
        }
    }

    /// Copies a bordered map into an image without a border.
    pub fn take(self, map: &[f32], image: &mut [f32]) {
        for (y, row) in image.chunks_exact_mut(self.width * self.channels).enumerate() {
            row.copy_from_slice(self.row(map, y));
        }
    }
}
