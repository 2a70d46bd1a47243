//! Decodes a JPEG at a half, a quarter or an eighth of its size from the low frequencies of its blocks.
//!
//! A block of 8×8 pixels is a sum of 64 cosines. Its N×N lowest frequencies, scaled by N/8, give the block at N/8 of
//! the size (the method of libjpeg since version 7, `jdmaster.c` and `jidctint.c`). Most of the decoding time is
//! spent on Huffman codes; for unneeded coefficients, only the lengths are decoded.
//!
//! Supports baseline files with 8 bits, grey or YCbCr, in one scan. For any other or slightly corrupt file, the
//! result is `None`, and the full decoder must be used.

use std::ops::Range;

use super::frame::{Component, Frame, HuffmanSpec, ZIGZAG};
use super::huffman::{BitReader, PADDING, Table, first_difference, other_coefficients};
use super::idct;
use crate::imaging::Span;
use crate::imaging::planes::Planes;

/// Buffers and tables that are reused from image to image.
#[derive(Default)]
pub(crate) struct Scratch {
    bits: Vec<u8>,
    /// The ranges of `bits` between restart markers, each with its padding.
    segments: Vec<Range<usize>>,
    planes: [Vec<u8>; 3],
    dc: [Slot; 4],
    ac: [Slot; 4],
    /// The position in `bits` at which the last image became invalid.
    damaged: Option<usize>,
    /// Disables newer instructions as if the processor did not support them, for tests.
    pub(super) portable: bool,
}

#[cfg(test)]
impl Scratch {
    /// The size of the buffers for bits and planes in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bits.capacity()
            + self.segments.capacity() * size_of::<Range<usize>>()
            + self.planes.iter().map(Vec::capacity).sum::<usize>()
    }
}

/// A table with its specification, because many files share the same tables.
#[derive(Default)]
struct Slot {
    /// Whether the table has been built.
    made: bool,
    counts: [u8; 16],
    symbols: Vec<u8>,
    table: Table,
}

impl Slot {
    fn prepare(&mut self, spec: Option<&HuffmanSpec<'_>>, first_coefficients: bool) -> Option<()> {
        let Some(spec @ HuffmanSpec { counts, symbols }) = spec else { return Some(()) };
        if !self.made || self.counts != **counts || self.symbols != *symbols {
            self.made = false;
            self.counts = **counts;
            self.symbols.clear();
            self.symbols.extend_from_slice(symbols);
            self.table.make(spec, first_coefficients)?;
            self.made = true;
        }
        Some(())
    }

    fn table(&self) -> Option<&Table> {
        self.made.then_some(&self.table)
    }
}

/// The number of pixels per eight that remain in each direction: 1, 2 or 4, for a scale of at least `least`.
pub(super) fn eighths(least: f64) -> Option<usize> {
    [1, 2, 4].into_iter().find(|eighths| *eighths as f64 / 8.0 >= least)
}

/// Decodes to `eighths` / 8 of the size (rounded up).
///
/// `None` if the file is unusual or corrupt in any way.
pub(super) fn decode<'a>(frame: &Frame<'_>, eighths: usize, scratch: &'a mut Scratch) -> Option<Planes<'a>> {
    let layout = Layout::new(frame, eighths);
    let Scratch { bits, segments, planes, dc, ac, damaged, portable } = scratch;
    *damaged = None;
    let units = layout.units_across * layout.units_down;
    let in_segment = if frame.restart == 0 { units } else { frame.restart };
    unstuff(frame.scan, units.div_ceil(in_segment), bits, segments)?;
    // A block has at least two bits: if the header claims more blocks, no memory is allocated.
    if bits.len() * 8 < units * frame.components().iter().map(Component::blocks).sum::<usize>() * 2 {
        return None;
    }
    for (plane, part) in planes.iter_mut().zip(layout.parts()) {
        plane.resize(part.stride * part.rows, 0);
    }
    for (slots, specs, first) in [(&mut *dc, &frame.dc, true), (&mut *ac, &frame.ac, false)] {
        for (slot, spec) in slots.iter_mut().zip(specs) {
            slot.prepare(spec.as_ref(), first)?;
        }
    }
    let mut decoder = Decoder::new(frame, &layout, (dc, ac), *portable)?;
    for (number, range) in segments.iter().cloned().enumerate() {
        let first = number * in_segment;
        let start = range.start;
        if let Err(position) =
            decoder.segment(BitReader::new(&bits[range]), first..units.min(first + in_segment), planes)
        {
            *damaged = Some(start + position);
            return None;
        }
    }
    // The last pixels of a row or column may be outside the image.
    let side = |side: usize| Span { start: 0.0, end: (side * eighths) as f32 / 8.0 };
    let [luma, blue, red] = &*planes;
    Some(Planes {
        luma,
        colours: (layout.count > 1).then_some([blue, red]),
        stride: layout.parts[0].stride,
        width: (frame.width * eighths).div_ceil(8),
        height: (frame.height * eighths).div_ceil(8),
        across: side(frame.width),
        down: side(frame.height),
    })
}

/// The position in the scan at which the codes become invalid, if they do.
pub(super) fn damage(frame: &Frame<'_>) -> Option<usize> {
    let mut scratch = Scratch::default();
    decode(frame, 1, &mut scratch);
    let wanted = scratch.damaged?;
    // Walks over the scan like `unstuff`.
    let (mut at, mut copied) = (0, 0);
    while copied < wanted {
        let next = frame.scan.get(at..at + 2)?;
        match (next[0], next[1]) {
            (0xff, 0xff) => at += 1,
            (0xff, 0) => (at, copied) = (at + 2, copied + 1),
            (0xff, _) => (at, copied) = (at + 2, copied + PADDING),
            _ => (at, copied) = (at + 1, copied + 1),
        }
    }
    Some(at)
}

/// The destination of a component's blocks.
#[derive(Clone, Copy)]
struct PartLayout {
    /// The width and height of a block in pixels.
    block: (usize, usize),
    /// The row stride of the plane in bytes.
    stride: usize,
    rows: usize,
}

/// The layout of the MCUs at reduced size.
struct Layout {
    units_across: usize,
    units_down: usize,
    parts: [PartLayout; 3],
    count: usize,
}

impl Layout {
    fn new(frame: &Frame<'_>, eighths: usize) -> Self {
        let components = frame.components();
        let most = |of: fn(&Component) -> usize| components.iter().map(of).max().unwrap_or(1);
        let (across, down) = (most(|component| component.across), most(|component| component.down));
        let (units_across, units_down) = (frame.width.div_ceil(8 * across), frame.height.div_ceil(8 * down));
        let part = |component: &Component| {
            // Chroma at half the resolution is decoded at twice the scale, so that all planes have the same size.
            let block = (eighths * across / component.across, eighths * down / component.down);
            let stride = units_across * component.across * block.0;
            PartLayout { block, stride, rows: units_down * component.down * block.1 }
        };
        let parts = [0, 1, 2].map(|i| part(&components[i.min(components.len() - 1)]));
        Self { units_across, units_down, parts, count: components.len() }
    }

    fn parts(&self) -> &[PartLayout] {
        &self.parts[..self.count]
    }
}

/// Copies the bits of a scan without stuffed zeros and records the segments between restart markers.
///
/// `None` if there are not exactly `count` segments, or if there are markers other than ordered restarts and the end
/// of the image.
fn unstuff(scan: &[u8], count: usize, bits: &mut Vec<u8>, segments: &mut Vec<Range<usize>>) -> Option<()> {
    bits.clear();
    segments.clear();
    bits.reserve(scan.len() + PADDING);
    let (mut start, mut rest) = (0, scan);
    loop {
        let ones = memchr::memchr(0xff, rest)?;
        bits.extend_from_slice(&rest[..ones]);
        let marker = *rest.get(ones + 1)?;
        match marker {
            0x00 => bits.push(0xff),
            // Fill bytes may precede a marker.
            0xff => {
                rest = &rest[ones + 1..];
                continue;
            }
            _ => {
                bits.extend_from_slice(&[0; PADDING]);
                segments.push(start..bits.len());
                start = bits.len();
                match (marker, segments.len()) {
                    (0xd9, made) => return (made == count).then_some(()),
                    (0xd0..=0xd7, made) if made < count && usize::from(marker - 0xd0) == (made - 1) % 8 => {}
                    _ => return None,
                }
            }
        }
        rest = &rest[ones + 2..];
    }
}

/// The decoding state of one component.
struct Part<'a> {
    dc: &'a Table,
    ac: &'a Table,
    /// For each zigzag index: the quantisation step (lower 16 bits) and the natural position.
    places: [u32; 64],
    /// The last zigzag index that is needed.
    last: usize,
    across: usize,
    down: usize,
    block: (usize, usize),
    stride: usize,
    /// The DC coefficient of the previous block.
    previous: i32,
}

fn places(steps: &[u16; 64]) -> [u32; 64] {
    std::array::from_fn(|index| u32::from(steps[index]) | u32::from(ZIGZAG[index]) << 16)
}

struct Decoder<'a> {
    units_across: usize,
    /// Whether to disable newer instructions.
    portable: bool,
    /// For grey images, only the first is used.
    parts: [Part<'a>; 3],
    count: usize,
}

impl<'a> Decoder<'a> {
    fn new(
        frame: &'a Frame<'_>,
        layout: &Layout,
        (dc, ac): (&'a [Slot; 4], &'a [Slot; 4]),
        portable: bool,
    ) -> Option<Self> {
        let components = frame.components();
        let part = |i: usize| {
            let i = i.min(components.len() - 1);
            let (component, part) = (&components[i], &layout.parts[i]);
            let last = (0..64).rev().find(|index| {
                let position = usize::from(ZIGZAG[*index]);
                position % 8 < part.block.0 && position / 8 < part.block.1
            });
            Some(Part {
                dc: frame.dc[component.dc].as_ref().and_then(|_| dc[component.dc].table())?,
                ac: frame.ac[component.ac].as_ref().and_then(|_| ac[component.ac].table())?,
                places: places(frame.steps(component)?),
                last: last?,
                across: component.across,
                down: component.down,
                block: part.block,
                stride: part.stride,
                previous: 0,
            })
        };
        let parts = [part(0)?, part(1)?, part(2)?];
        Some(Self { units_across: layout.units_across, portable, parts, count: components.len() })
    }

    /// Decodes the MCUs of one restart interval; the error is the byte position within it.
    ///
    /// Uses only integer arithmetic, so that the result does not depend on the compiler or the processor.
    fn segment(&mut self, bits: BitReader<'_>, units: Range<usize>, planes: &mut [Vec<u8>; 3]) -> Result<(), usize> {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,bmi1,bmi2")]
            fn newer(
                decoder: &mut Decoder<'_>,
                bits: BitReader<'_>,
                units: Range<usize>,
                planes: &mut [Vec<u8>; 3],
            ) -> Result<(), usize> {
                decoder.segment_anywhere(bits, units, planes)
            }
            let able = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            if able && !self.portable {
                // SAFETY: the processor's support was checked just before.
                return unsafe { newer(self, bits, units, planes) };
            }
        }
        self.segment_anywhere(bits, units, planes)
    }

    #[inline(always)]
    fn segment_anywhere(
        &mut self,
        bits: BitReader<'_>,
        units: Range<usize>,
        planes: &mut [Vec<u8>; 3],
    ) -> Result<(), usize> {
        // A local copy stays in registers.
        let mut bits = bits;
        for part in &mut self.parts {
            part.previous = 0;
        }
        for unit in units {
            let (row, column) = (unit / self.units_across, unit % self.units_across);
            for (part, plane) in self.parts[..self.count].iter_mut().zip(planes.iter_mut()) {
                for block in 0..part.across * part.down {
                    let x = (column * part.across + block % part.across) * part.block.0;
                    let y = (row * part.down + block / part.across) * part.block.1;
                    let decoded = part.decode(&mut bits, &mut plane[y * part.stride + x..]);
                    decoded.ok_or_else(|| bits.position())?;
                }
            }
        }
        if bits.is_at_end() { Ok(()) } else { Err(bits.position()) }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn decode(&mut self, reader: &mut BitReader<'_>, target: &mut [u8]) -> Option<()> {
        let mut coefficients = [0i32; 64];
        self.previous = self.previous.wrapping_add(first_difference(reader, self.dc)?);
        // The values of a valid file are far from the limits; those of a corrupt file may wrap around.
        coefficients[0] = self.previous.wrapping_mul((self.places[0] & 0xffff) as i32);
        let places = &self.places;
        other_coefficients(reader, self.ac, self.last, |index, value| {
            let place = places[index & 63];
            coefficients[(place >> 16) as usize & 63] = value.wrapping_mul((place & 0xffff) as i32);
        })?;
        idct::block(&coefficients, self.block, target, self.stride);
        Some(())
    }
}
