//! The two passes over an image: horizontal, then vertical.

use super::CHANNELS;
use super::axis::Axis;
#[cfg(target_arch = "x86_64")]
use super::lanes::WithAvx2;
use super::lanes::{Instructions, Kernel, LANES, Lanes, NO_PAIRS, Pairs, Portable, transposed};
use super::source::Source;

/// Buffers between the passes, reused from image to image.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Sixteen rows: pairs of columns, with one byte of each row.
    wide: Vec<Pairs>,
    /// The same rows after resizing: columns.
    narrow: Vec<[Lanes; CHANNELS]>,
    /// The whole image after the first pass: pairs of rows, in blocks of sixteen pixels.
    narrowed: Vec<Pairs>,
}

/// Resizes the rows of an image, then its columns; `None` keeps an axis.
pub(super) fn resize<S: Source>(
    instructions: Instructions,
    source: &S,
    (across, down): (Option<&Axis>, Option<&Axis>),
    buffers: &mut Buffers,
    target: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn with_avx2<S: Source>(
        source: &S,
        axes: (Option<&Axis>, Option<&Axis>),
        buffers: &mut Buffers,
        target: &mut [u8],
    ) {
        resize_by::<WithAvx2, S>(source, axes, buffers, target);
    }
    match instructions {
        Instructions::Baseline => resize_by::<Portable, S>(source, (across, down), buffers, target),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor supports its `Instructions`.
        Instructions::Avx2 => unsafe { with_avx2(source, (across, down), buffers, target) },
    }
}

#[inline(always)]
fn resize_by<K: Kernel, S: Source>(
    source: &S,
    (across, down): (Option<&Axis>, Option<&Axis>),
    buffers: &mut Buffers,
    target: &mut [u8],
) {
    let (width, height) = source.size();
    let narrow = across.map_or(width, Axis::resized);
    let pieces = narrow.div_ceil(LANES);
    let Buffers { wide, narrow: columns, narrowed } = buffers;
    wide.resize(width.div_ceil(LANES) * LANES / 2, NO_PAIRS);
    columns.resize(pieces.max(width.div_ceil(LANES)) * LANES, [[0; LANES]; CHANNELS]);
    narrowed.resize(height.div_ceil(LANES) * LANES / 2 * pieces, NO_PAIRS);
    for row in (0..height).step_by(LANES) {
        match across {
            Some(axis) => {
                for (piece, pairs) in wide.chunks_exact_mut(LANES / 2).enumerate() {
                    let columns = source.columns(row, piece * LANES);
                    for (pairs, two) in pairs.iter_mut().zip(columns.chunks_exact(2)) {
                        *pairs = K::beside(two[0].each_ref(), two[1].each_ref());
                    }
                }
                for (column, (first, weights)) in columns.iter_mut().zip(axis.windows()) {
                    *column = K::weigh(&wide[first..], 1, weights);
                }
            }
            None => {
                for (piece, columns) in columns.chunks_exact_mut(LANES).enumerate().take(pieces) {
                    columns.copy_from_slice(&source.columns(row, piece * LANES));
                }
            }
        }
        for (piece, columns) in columns.chunks_exact(LANES).enumerate().take(pieces) {
            let rows = turned_back(columns);
            if down.is_some() {
                for (pair, two) in rows.chunks_exact(2).enumerate() {
                    let place = (row / 2 + pair) * pieces + piece;
                    narrowed[place] = K::beside(two[0].each_ref(), two[1].each_ref());
                }
            } else {
                for (row, pixels) in target.chunks_exact_mut(narrow * CHANNELS).skip(row).zip(&rows) {
                    put(pixels, piece, row);
                }
            }
        }
    }
    let Some(axis) = down else { return };
    for (row, (first, weights)) in target.chunks_exact_mut(narrow * CHANNELS).zip(axis.windows()) {
        for piece in 0..pieces {
            put(&K::weigh(&narrowed[first * pieces + piece..], pieces, weights), piece, row);
        }
    }
}

/// Transposes sixteen columns to rows: for each row, the bytes of its sixteen pixels in order.
#[inline(always)]
fn turned_back(columns: &[[Lanes; CHANNELS]]) -> [[Lanes; CHANNELS]; LANES] {
    let mut rows = [[[0; LANES]; CHANNELS]; LANES];
    for (part, columns) in columns.as_flattened().chunks_exact(LANES).enumerate() {
        let transposed = transposed(std::array::from_fn(|i| columns[i]));
        for (row, transposed) in rows.iter_mut().zip(transposed) {
            row[part] = transposed;
        }
    }
    rows
}

/// Writes the bytes of sixteen pixels to their position in a row, as far as there is room.
#[inline(always)]
fn put(pixels: &[Lanes; CHANNELS], piece: usize, row: &mut [u8]) {
    let rest = &mut row[piece * LANES * CHANNELS..];
    let pixels = pixels.as_flattened();
    match rest.get_mut(..pixels.len()) {
        Some(whole) => whole.copy_from_slice(pixels),
        None => rest.copy_from_slice(&pixels[..rest.len()]),
    }
}
