//! Images in the memory layouts of the decoders, in blocks of sixteen rows by sixteen columns.

use super::lanes::{LANES, Lanes, transposed};
use super::{CHANNELS, Pixels};
use crate::imaging::planes::{NO_COLOUR, Planes, rgb};

/// Sixteen columns, channel by channel, with one byte of each of sixteen rows.
pub(super) type Columns = [[Lanes; CHANNELS]; LANES];

/// An image that can be resized.
pub(super) trait Source {
    /// The width and height in pixels.
    fn size(&self) -> (usize, usize);

    /// The block of 16 rows and columns starting here. Pixels beyond the edge are unspecified.
    fn columns(&self, row: usize, column: usize) -> Columns;
}

/// Sixteen bytes of a row from `start` on; bytes outside the image are unspecified.
#[inline(always)]
fn lanes(bytes: &[u8], stride: usize, row: usize, start: usize) -> Lanes {
    let start = row * stride + start;
    if let Some(whole) = bytes.get(start..start + LANES) {
        return whole.try_into().expect("the slice has as many bytes as lanes");
    }
    let mut lanes = [0; LANES];
    if let Some(rest) = bytes.get(start..) {
        lanes[..rest.len()].copy_from_slice(rest);
    }
    lanes
}

impl Source for Pixels {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    #[inline(always)]
    fn columns(&self, row: usize, column: usize) -> Columns {
        let stride = self.width * CHANNELS;
        let mut columns = [[[0; LANES]; CHANNELS]; LANES];
        for (part, columns) in columns.as_flattened_mut().chunks_exact_mut(LANES).enumerate() {
            let start = column * CHANNELS + part * LANES;
            let rows = std::array::from_fn(|lane| lanes(&self.bytes, stride, row + lane, start));
            columns.copy_from_slice(&transposed(rows));
        }
        columns
    }
}

impl Source for Planes<'_> {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    #[inline(always)]
    fn columns(&self, row: usize, column: usize) -> Columns {
        let mut rows = [[[0; LANES]; CHANNELS]; LANES];
        for (lane, [reds, greens, blues]) in rows.iter_mut().enumerate() {
            let luma = lanes(self.luma, self.stride, row + lane, column);
            let [blue, red] = match self.colours {
                Some([blue, red]) => {
                    [lanes(blue, self.stride, row + lane, column), lanes(red, self.stride, row + lane, column)]
                }
                None => [[NO_COLOUR; LANES]; 2],
            };
            // One channel after the other, so that the compiler vectorises sixteen equal sums.
            for i in 0..LANES {
                reds[i] = rgb(luma[i], blue[i], red[i])[0];
            }
            for i in 0..LANES {
                greens[i] = rgb(luma[i], blue[i], red[i])[1];
            }
            for i in 0..LANES {
                blues[i] = rgb(luma[i], blue[i], red[i])[2];
            }
        }
        let mut columns = [[[0; LANES]; CHANNELS]; LANES];
        for channel in 0..CHANNELS {
            let transposed = transposed(std::array::from_fn(|lane| rows[lane][channel]));
            for (column, transposed) in columns.iter_mut().zip(transposed) {
                column[channel] = transposed;
            }
        }
        columns
    }
}
