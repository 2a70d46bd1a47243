//! What a JPEG consists of, and which decoder makes the right picture of it.
//!
//! No decoder here supports every JPEG. zune-jpeg makes other pixels, without an error, of some files whose components
//! lie in separate scans or whose chroma is finer than luma; jpeg-decoder of some unusual samplings. `tests/jpegs.py`
//! makes a file of every structure, and a test compares all of them with libjpeg-turbo.

use std::borrow::Cow;
use std::ops::Range;

use image::metadata::Orientation;

use super::frame::EXIF;
use crate::imaging::pixels::BadImage;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const QUANTISATION_TABLES: u8 = 0xdb;
const HUFFMAN_TABLES: u8 = 0xc4;
const LINES: u8 = 0xdc;
const HIERARCHY: u8 = 0xde;
const EXPANSION: u8 = 0xdf;
const JFIF_SEGMENT: u8 = 0xe0;
const EXIF_SEGMENT: u8 = 0xe1;
const ADOBE_SEGMENT: u8 = 0xee;
/// The frame of a progressive file with Huffman codes.
const PROGRESSIVE: u8 = 0xc2;

/// The segment of a frame of Motion JPEG, for which jpeg-decoder has the tables of ITU-T T.81, K.3.
const MOTION_JPEG: &[u8] = b"\xff\xe0\0\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// The colour space of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// A decoder that makes the same picture as libjpeg-turbo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// zune-jpeg, which is faster.
    Zune,
    /// jpeg-decoder, which has to be told the colour space.
    JpegDecoder(Colours),
}

/// A component of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Component {
    id: u8,
    across: u8,
    down: u8,
}

/// A frame header.
#[derive(Debug, Clone)]
struct Frame {
    /// The marker, which tells the coding process.
    process: u8,
    precision: u8,
    width: u32,
    height: u32,
    components: Vec<Component>,
}

/// The information in a JPEG's segments.
#[derive(Debug, Default)]
pub(super) struct Survey<'a> {
    bytes: &'a [u8],
    frame: Option<Frame>,
    /// The ids of each scan's components.
    scans: Vec<Vec<u8>>,
    has_jfif: bool,
    /// The colour transform of the last Adobe segment before the first scan.
    adobe: Option<u8>,
    has_adobe_after_scan: bool,
    has_quantisation_after_scan: bool,
    /// Which Huffman tables are defined: DC 0 to 15, then AC.
    huffman: [bool; 32],
    uses_undefined_table: bool,
    /// The first EXIF block, starting at its TIFF header.
    exif: Option<&'a [u8]>,
    unsupported: Option<&'static str>,
    /// Markers and segments without a meaning, at which the decoders here stop.
    meaningless: Vec<Range<usize>>,
}

impl<'a> Survey<'a> {
    /// Walks over the segments of a JPEG up to its end marker.
    ///
    /// Decoders pad missing data at the end of a file. This check detects truncated files.
    pub fn of(bytes: &'a [u8]) -> Result<Self, BadImage> {
        let truncated = || {
            BadImage::new(format!("is truncated: the JPEG has no end within its {} bytes", bytes.len())).at(bytes.len())
        };
        let mut survey = Self { bytes, ..Self::default() };
        let mut position = 0;
        let mut in_scan = false;
        loop {
            position = next_marker(bytes, position).ok_or_else(truncated)?;
            let (marker, start) = (bytes[position], position - 1);
            position += 1;
            match marker {
                END_OF_IMAGE => break,
                // Markers without a segment: the start of the image, and restarts.
                START_OF_IMAGE => {}
                0x01 | 0xd0..=0xd7 if in_scan => {}
                0x01 | 0xd0..=0xd7 => survey.meaningless.push(start..position),
                _ => {
                    let length = bytes.get(position..position + 2).ok_or_else(truncated)?;
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    let segment = bytes.get(position..position + length).ok_or_else(truncated)?;
                    position += length;
                    let content = segment.get(2..).unwrap_or_default();
                    survey.take(marker, content)?;
                    if is_meaningless(marker, content) {
                        survey.meaningless.push(start..position);
                    }
                    in_scan = marker == START_OF_SCAN;
                }
            }
        }
        Ok(survey)
    }

    fn take(&mut self, marker: u8, content: &'a [u8]) -> Result<(), BadImage> {
        let has_scans = !self.scans.is_empty();
        match marker {
            // A start of frame of any coding process; c4, c8 and cc are other markers.
            0xc0..=0xcf if !matches!(marker, HUFFMAN_TABLES | 0xc8 | 0xcc) => self.take_frame(marker, content)?,
            HUFFMAN_TABLES => self.take_huffman(content),
            QUANTISATION_TABLES => self.has_quantisation_after_scan |= has_scans,
            LINES => self.unsupported = Some("stores its height after the pixels"),
            HIERARCHY | EXPANSION => self.unsupported = Some("is hierarchical"),
            START_OF_SCAN => self.take_scan(content)?,
            JFIF_SEGMENT if !has_scans => self.has_jfif |= content.len() >= 14 && content.starts_with(b"JFIF\0"),
            ADOBE_SEGMENT if content.len() >= 12 && content.starts_with(b"Adobe") => {
                if has_scans {
                    self.has_adobe_after_scan = true;
                } else {
                    self.adobe = Some(content[11]);
                }
            }
            EXIF_SEGMENT if !has_scans && content.starts_with(EXIF) => {
                self.exif = self.exif.or(Some(&content[EXIF.len()..]));
            }
            _ => {}
        }
        Ok(())
    }

    fn take_frame(&mut self, process: u8, content: &[u8]) -> Result<(), BadImage> {
        let damaged = || BadImage::new("is a damaged JPEG: its frame header has a wrong length");
        let [precision, height_high, height_low, width_high, width_low, count, specs @ ..] = content else {
            return Err(damaged());
        };
        if specs.len() != usize::from(*count) * 3 {
            return Err(damaged());
        }
        if self.frame.is_some() {
            return Err(BadImage::new("is a damaged JPEG: it has two frames"));
        }
        let component = |spec: &[u8]| Component { id: spec[0], across: spec[1] >> 4, down: spec[1] & 15 };
        self.frame = Some(Frame {
            process,
            precision: *precision,
            height: u32::from(u16::from_be_bytes([*height_high, *height_low])),
            width: u32::from(u16::from_be_bytes([*width_high, *width_low])),
            components: specs.chunks_exact(3).map(component).collect(),
        });
        Ok(())
    }

    fn take_huffman(&mut self, mut content: &[u8]) {
        while let Some((&which, rest)) = content.split_first() {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else { return };
            self.huffman[usize::from(which & 31)] = true;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            content = rest.get(total..).unwrap_or_default();
        }
    }

    fn take_scan(&mut self, content: &[u8]) -> Result<(), BadImage> {
        let damaged = |problem: &str| BadImage::new(format!("is a damaged JPEG: {problem}"));
        let frame = self.frame.as_ref().ok_or_else(|| damaged("it has no frame"))?;
        let count = content.first().map_or(0, |count| usize::from(*count));
        let specs = content.get(1..1 + count * 2).ok_or_else(|| damaged("a scan header is too short"))?;
        if frame.process != PROGRESSIVE {
            let is_undefined =
                |spec: &[u8]| !self.huffman[usize::from(spec[1] >> 4)] || !self.huffman[16 + usize::from(spec[1] & 15)];
            self.uses_undefined_table |= specs.chunks_exact(2).any(is_undefined);
        }
        let ids: Vec<u8> = specs.chunks_exact(2).map(|spec| spec[0]).collect();
        let place = |id: &u8| frame.components.iter().position(|component| component.id == *id);
        let places: Vec<Option<usize>> = ids.iter().map(place).collect();
        // libjpeg refuses them, too.
        if !frame.has_repeated_id() && (places.contains(&None) || !places.is_sorted()) {
            return Err(damaged("a scan has other components than the frame, or in another order"));
        }
        self.scans.push(ids);
        Ok(())
    }

    /// The width and height.
    pub fn size(&self) -> Result<(u32, u32), BadImage> {
        let frame = self.frame()?;
        Ok((frame.width, frame.height))
    }

    /// The orientation in the first EXIF block.
    pub fn orientation(&self) -> Orientation {
        orientation(self.exif)
    }

    fn frame(&self) -> Result<&Frame, BadImage> {
        self.frame.as_ref().ok_or_else(|| BadImage::new("is a damaged JPEG: it has no frame"))
    }

    /// Chooses a decoder, or says why none supports the file.
    pub fn route(&self) -> Result<Route, BadImage> {
        let frame = self.frame()?;
        let unsupported = |what: &str| BadImage::new(format!("is a JPEG that {what}, which is not supported"));
        if let Some(what) = self.unsupported.or_else(|| frame.unsupported()) {
            return Err(unsupported(what));
        }
        if self.scans.is_empty() {
            return Err(BadImage::new("is a damaged JPEG: it has no pixels"));
        }
        self.check_length(frame)?;
        let colours = self.colours(frame);
        if self.is_right_with_zune(frame, colours) {
            return Ok(Route::Zune);
        }
        if self.scans.iter().any(|scan| frame.is_misread_alone(scan)) {
            return Err(unsupported("has an unusual sampling"));
        }
        if frame.process == PROGRESSIVE && self.has_quantisation_after_scan {
            return Err(unsupported("changes its quantisation while it is progressive"));
        }
        Ok(Route::JpegDecoder(colours))
    }

    /// Fails if the file is too short for its size, before memory is allocated: each block has at least one bit.
    fn check_length(&self, frame: &Frame) -> Result<(), BadImage> {
        let [across, down] = frame.largest();
        let side = |length: u32, factor: u8, largest: u8| {
            u64::from(length * u32::from(factor)).div_ceil(8 * u64::from(largest))
        };
        let blocks = |component: &Component| {
            side(frame.width, component.across, across) * side(frame.height, component.down, down)
        };
        if self.bytes.len() as u64 * 8 >= frame.components.iter().map(blocks).sum() {
            return Ok(());
        }
        let (length, Frame { width, height, .. }) = (self.bytes.len(), frame);
        Err(BadImage::new(format!("is truncated: {length} bytes cannot hold {width}×{height} pixels")))
    }

    /// The colour space, as libjpeg chooses it (`default_decompress_parms` in `jdapimin.c`).
    fn colours(&self, frame: &Frame) -> Colours {
        match (frame.components.len(), self.has_jfif, self.adobe) {
            (1, ..) => Colours::Grey,
            (3, true, _) => Colours::YCbCr,
            (3, false, Some(0)) => Colours::Rgb,
            (3, false, Some(_)) => Colours::YCbCr,
            (3, false, None) if frame.has_ids(*b"RGB") => Colours::Rgb,
            (3, false, None) => Colours::YCbCr,
            (_, _, None | Some(0)) => Colours::Cmyk,
            (_, _, Some(_)) => Colours::Ycck,
        }
    }

    fn is_right_with_zune(&self, frame: &Frame, colours: Colours) -> bool {
        // The colour space that zune-jpeg chooses: it ignores JFIF.
        let chosen = match (frame.components.len(), self.adobe) {
            (1, _) => Some(Colours::Grey),
            (3, _) if frame.has_ids(*b"RGB") => Some(Colours::Rgb),
            (3, Some(0)) => Some(Colours::Rgb),
            (3, None | Some(1)) => Some(Colours::YCbCr),
            (4, None | Some(0)) => Some(Colours::Cmyk),
            (4, Some(2)) => Some(Colours::Ycck),
            _ => None,
        };
        let is_interleaved =
            frame.process == PROGRESSIVE || matches!(&self.scans[..], [scan] if scan.len() == frame.components.len());
        chosen == Some(colours)
            && !self.has_adobe_after_scan
            && !self.uses_undefined_table
            && is_interleaved
            && frame.has_usual_sampling()
    }

    /// The file without what decoders stop at, and with the default Huffman tables declared if it lacks tables (as do the
    /// frames of Motion JPEG).
    pub fn cleaned(&self) -> Cow<'a, [u8]> {
        if !self.uses_undefined_table && self.meaningless.is_empty() {
            return Cow::Borrowed(self.bytes);
        }
        let mut cleaned = Vec::with_capacity(self.bytes.len() + MOTION_JPEG.len());
        let mut position = 0;
        for range in &self.meaningless {
            cleaned.extend_from_slice(&self.bytes[position..range.start]);
            position = range.end;
        }
        cleaned.extend_from_slice(&self.bytes[position..]);
        if self.uses_undefined_table {
            // Behind the start of the image.
            cleaned.splice(2..2, MOTION_JPEG.iter().copied());
        }
        Cow::Owned(cleaned)
    }
}

impl Frame {
    /// What no decoder here supports, as the end of a sentence.
    fn unsupported(&self) -> Option<&'static str> {
        let [across, down] = self.largest();
        let has_fraction = |component: &Component| {
            let Component { across: x, down: y, .. } = *component;
            x == 0 || y == 0 || !across.is_multiple_of(x) || !down.is_multiple_of(y)
        };
        match self.process {
            0xc0..=0xc2 => {}
            0xc3 | 0xcb => return Some("is lossless"),
            0xc9 | 0xca => return Some("has arithmetic codes"),
            _ => return Some("is hierarchical"),
        }
        match self.components.len() {
            _ if self.precision != 8 => Some("does not have 8 bits per value"),
            _ if self.has_repeated_id() => Some("has several components of the same id"),
            1 | 3 | 4 if self.height == 0 => Some("stores its height after the pixels"),
            1 | 3 | 4 if self.components.iter().any(has_fraction) => Some("has a fractional sampling"),
            1 | 3 | 4 => None,
            _ => Some("does not have one, three or four components"),
        }
    }

    fn has_repeated_id(&self) -> bool {
        let components = self.components.iter().enumerate();
        components.into_iter().any(|(i, one)| self.components[..i].iter().any(|other| other.id == one.id))
    }

    fn has_ids(&self, ids: [u8; 3]) -> bool {
        self.components.iter().map(|component| component.id).eq(ids)
    }

    /// The largest sampling factors.
    fn largest(&self) -> [u8; 2] {
        let largest = |of: fn(&Component) -> u8| self.components.iter().map(of).max().unwrap_or(0);
        [largest(|component| component.across), largest(|component| component.down)]
    }

    /// Whether zune-jpeg knows the sampling: no factor is above 2, and the first component has the largest.
    fn has_usual_sampling(&self) -> bool {
        let [across, down] = self.largest();
        match &self.components[..] {
            // A single component is not interleaved: its factors do not matter, but zune-jpeg does not know 3.
            [_] => across != 3,
            [first, ..] => across <= 2 && down <= 2 && [first.across, first.down] == [across, down],
            [] => false,
        }
    }

    /// Whether jpeg-decoder miscounts the blocks of a scan: that of one component among several whose factors lie
    /// between 1 and the largest.
    fn is_misread_alone(&self, scan: &[u8]) -> bool {
        let [across, down] = self.largest();
        let lies_between =
            |component: &Component| (2..across).contains(&component.across) || (2..down).contains(&component.down);
        let [id] = scan else { return false };
        self.components.len() > 1
            && self.components.iter().any(|component| component.id == *id && lies_between(component))
    }
}

/// Whether a segment says nothing about a file with Huffman codes: conditions of arithmetic codes, and colour transforms
/// of Adobe that nobody has defined.
fn is_meaningless(marker: u8, content: &[u8]) -> bool {
    let is_adobe = marker == ADOBE_SEGMENT && content.starts_with(b"Adobe");
    marker == 0xcc || (is_adobe && content.get(11).is_none_or(|transform| *transform > 2))
}

/// The orientation in an EXIF block.
pub(super) fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// The position of the next marker's second byte; skips scan data, stuffed zeros and fill bytes.
fn next_marker(bytes: &[u8], mut position: usize) -> Option<usize> {
    loop {
        position += bytes.get(position..)?.iter().position(|byte| *byte == 0xff)? + 1;
        match *bytes.get(position)? {
            0x00 => position += 1,
            0xff => {}
            _ => return Some(position),
        }
    }
}
