//! The shape and memory layout of feature maps.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The height, width and channels of a feature map.
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
    /// The shape of a vector: one pixel.
    pub const fn vector(channels: usize) -> Self {
        Self { height: 1, width: 1, channels }
    }

    /// The number of values.
    pub const fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// Whether there are no values.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of pixels.
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The shape of half the height and width, rounded down.
    pub const fn halved(self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, channels: self.channels }
    }
}

/// How a map lies in memory: `[height, width, channels]`, for some operations with a border of one zero pixel on each
/// side, so that 3×3 windows never leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The shape, without the border.
    pub shape: MapShape,
    /// The width of the border: 0 or 1.
    border: usize,
}

/// Adjacent pixels of a map, within one row if a layout has a border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The index of the first pixel, counted row by row.
    pub first: usize,
    /// The number of pixels.
    pub count: usize,
}

impl Layout {
    /// Without a border.
    pub const fn plain(shape: MapShape) -> Self {
        Self { shape, border: 0 }
    }

    /// With a border of one pixel.
    pub const fn bordered(shape: MapShape) -> Self {
        Self { shape, border: 1 }
    }

    /// Whether there is a border.
    pub const fn is_bordered(self) -> bool {
        self.border > 0
    }

    /// The number of values, with the border.
    pub const fn len(self) -> usize {
        (self.shape.height + 2 * self.border) * self.row_len()
    }

    /// Whether there are no values.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of values per row, with the border.
    pub const fn row_len(self) -> usize {
        (self.shape.width + 2 * self.border) * self.shape.channels
    }

    /// The index of the first value of a pixel.
    pub const fn at(self, y: usize, x: usize) -> usize {
        (y + self.border) * self.row_len() + (x + self.border) * self.shape.channels
    }

    /// The values of row `y`, without the border.
    pub const fn row_range(self, y: usize) -> Range<usize> {
        let start = self.at(y, 0);
        start..start + self.shape.width * self.shape.channels
    }

    /// Row `y` of a map, without the border.
    pub fn row(self, map: &[f32], y: usize) -> &[f32] {
        &map[self.row_range(y)]
    }

    /// Row `y` of a map, without the border, mutable.
    pub fn row_mut(self, map: &mut [f32], y: usize) -> &mut [f32] {
        &mut map[self.row_range(y)]
    }

    /// Rows `y` and `y + 1`, mutable.
    pub fn two_rows_mut(self, map: &mut [f32], y: usize) -> (&mut [f32], &mut [f32]) {
        let middle = (y + 1 + self.border) * self.row_len();
        let (upper, lower) = map.split_at_mut(middle);
        let inside = self.at(0, 0) - self.border * self.row_len();
        let length = self.shape.width * self.shape.channels;
        let upper_start = middle - self.row_len() + inside;
        (&mut upper[upper_start..][..length], &mut lower[inside..][..length])
    }

    /// Copies values without a border into a map.
    pub fn put(self, values: &[f32], map: &mut [f32]) {
        for (y, row) in values.chunks_exact(self.shape.width * self.shape.channels).enumerate() {
            self.row_mut(map, y).copy_from_slice(row);
        }
    }

    /// Copies a map to values without a border.
    pub fn take(self, map: &[f32], values: &mut [f32]) {
        for (y, row) in values.chunks_exact_mut(self.shape.width * self.shape.channels).enumerate() {
            row.copy_from_slice(self.row(map, y));
        }
    }

    /// The values of a span of pixels.
    pub const fn range(self, span: Span) -> Range<usize> {
        let start = self.at(span.first / self.shape.width, span.first % self.shape.width);
        start..start + span.count * self.shape.channels
    }
}

/// Spans of at most `most` pixels that cover a map of this height and width, each contiguous in all layouts.
pub fn spans(layouts: &[Layout], most: usize) -> impl Iterator<Item = Span> + use<> {
    let MapShape { height, width, .. } = layouts[0].shape;
    let (lines, length) = match layouts.iter().any(|layout| layout.is_bordered()) {
        true => (height, width),
        false => (1, height * width),
    };
    (0..lines).flat_map(move |line| {
        (0..length)
            .step_by(most)
            .map(move |first| Span { first: line * length + first, count: most.min(length - first) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: MapShape = MapShape { height: 3, width: 5, channels: 2 };

    #[test]
    fn a_map_survives_both_layouts() {
        let values: Vec<f32> = (0..30).map(|i| i as f32).collect();
        for layout in [Layout::plain(SHAPE), Layout::bordered(SHAPE)] {
            let mut map = vec![0.0; layout.len()];
            layout.put(&values, &mut map);
            let mut back = vec![0.0; 30];
            layout.take(&map, &mut back);
            assert_eq!(back, values);
            let (upper, lower) = layout.two_rows_mut(&mut map, 1);
            assert_eq!((upper.to_vec(), lower.to_vec()), (values[10..20].to_vec(), values[20..30].to_vec()));
        }
        assert_eq!((Layout::plain(SHAPE).len(), Layout::bordered(SHAPE).len()), (30, 70));
    }

    #[test]
    fn spans_cover_every_pixel_once_and_are_contiguous() {
        let (plain, bordered) = (Layout::plain(SHAPE), Layout::bordered(SHAPE));
        for (layouts, lengths) in [(vec![plain], vec![4, 4, 4, 3]), (vec![plain, bordered], vec![4, 1, 4, 1, 4, 1])] {
            let found: Vec<Span> = spans(&layouts, 4).collect();
            assert_eq!(found.iter().map(|span| span.count).collect::<Vec<_>>(), lengths);
            let firsts: Vec<usize> = found.iter().flat_map(|span| span.first..span.first + span.count).collect();
            assert_eq!(firsts, (0..15).collect::<Vec<_>>());
        }
        assert_eq!(bordered.range(Span { first: 6, count: 3 }), bordered.at(1, 1)..bordered.at(1, 4));
    }
}
