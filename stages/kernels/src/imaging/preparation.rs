//! Preprocessing of an image to a tensor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::constancy::shades_of_grey;
use super::decode::Decoded;
use super::hair::HairRemover;
use super::resize::Span;
use super::{BadImage, Decoder, Filter, Resizer};

/// How an image with a different aspect ratio is fitted to the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Scale width and height independently.
    #[default]
    Stretch,
    /// Crop the largest centred region with the tensor's aspect ratio, as Pillow's `ImageOps.fit`.
    CenterCrop,
    /// Keep the whole image and add black borders, as Pillow's `ImageOps.pad`.
    Pad,
}

/// Whether a JPEG may be decoded at reduced size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decoding {
    /// Decode at a half, a quarter or an eighth of the size if that is at least the target size.
    #[default]
    Reduced,
    /// Always decode at full size.
    Exact,
}

/// The colour constancy method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColourConstancy {
    /// Keep the colours.
    #[default]
    None,
    /// Shades of grey with p = 6 (Finlayson, Trezzi 2004; Barata, Celebi, Marques 2015).
    ShadesOfGrey,
}

/// The hair removal method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HairRemoval {
    /// Keep hairs.
    #[default]
    None,
    /// Detect hairs as dark thin lines at the original size and fill them in (Lee et al. 1997).
    Dullrazor,
}

/// All parameters that determine the pixels of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Preparation {
    /// The height of the tensor in pixels.
    pub height: usize,
    /// The width of the tensor in pixels.
    pub width: usize,
    /// The resampling filter.
    pub filter: Filter,
    /// How a different aspect ratio is fitted.
    pub fit: Fit,
    /// Whether images may be decoded at reduced size.
    pub decode: Decoding,
    /// The colour constancy method.
    pub colour_constancy: ColourConstancy,
    /// The hair removal method.
    pub hair_removal: HairRemoval,
}

/// Preprocesses images one after the other with reusable buffers and tables.
pub struct Preparer {
    preparation: Preparation,
    decoder: Decoder,
    resizer: Resizer,
    /// For `pad`: the image without the borders.
    inner: Vec<u8>,
    hair: HairRemover,
}

impl Preparer {
    /// Creates a preparer with the given parameters.
    pub fn new(preparation: Preparation) -> Self {
        let (decoder, hair) = (Decoder::default(), HairRemover::default());
        Self { preparation, decoder, resizer: Resizer::new(preparation.filter), inner: Vec::new(), hair }
    }

    /// Converts an image file to a tensor, which must have exactly height × width × 3 bytes.
    pub fn prepare(&mut self, bytes: &[u8], tensor: &mut [u8]) -> Result<(), BadImage> {
        let Preparation { height, width, filter, fit, decode, colour_constancy, hair_removal } = self.preparation;
        // `nearest` takes single pixels, which in a reduced image would be averages of their surroundings. Hairs are
        // detected by their width.
        let whole = decode == Decoding::Exact || filter == Filter::Nearest || hair_removal != HairRemoval::None;
        let mut image = if whole {
            Decoded::Pixels(self.decoder.decode(bytes)?)
        } else {
            self.decoder.decode_planes(bytes, |from_width, from_height| {
                let (across, down) = (width as f64 / from_width as f64, height as f64 / from_height as f64);
                if fit == Fit::Pad { across.min(down) } else { across.max(down) }
            })?
        };
        if hair_removal == HairRemoval::Dullrazor
            && let Decoded::Pixels(image) = &mut image
        {
            self.hair.remove(image);
        }
        let (resizer, spans) = (&mut self.resizer, spans(&image));
        match fit {
            Fit::Stretch => resize(resizer, &image, spans, (width, height), tensor),
            Fit::CenterCrop => resize(resizer, &image, crop(spans, width, height), (width, height), tensor),
            Fit::Pad => pad(&image, (width, height), resizer, &mut self.inner, tensor),
        }
        if colour_constancy == ColourConstancy::ShadesOfGrey {
            shades_of_grey(tensor);
        }
        Ok(())
    }
}

/// The columns and rows covered by the image.
fn spans(image: &Decoded<'_>) -> (Span, Span) {
    match image {
        Decoded::Planes(image) => (image.across, image.down),
        Decoded::Pixels(image) => (image.across, image.down),
    }
}

fn resize(resizer: &mut Resizer, image: &Decoded<'_>, spans: (Span, Span), size: (usize, usize), target: &mut [u8]) {
    match image {
        Decoded::Planes(image) => resizer.resize_planes(image, spans, size, target),
        Decoded::Pixels(image) => resizer.resize_box(image, spans, size, target),
    }
}

/// The largest centred region with the target's aspect ratio (Pillow's `ImageOps.fit` with default centring).
fn crop((across, down): (Span, Span), width: usize, height: usize) -> (Span, Span) {
    let (from_width, from_height) = (f64::from(across.length()), f64::from(down.length()));
    let ratio = width as f64 / height as f64;
    let (crop_width, crop_height) = match from_width / from_height {
        same if same == ratio => (from_width, from_height),
        wider if wider >= ratio => (ratio * from_height, from_height),
        _ => (from_width, from_width / ratio),
    };
    let around = |span: Span, part: f64| {
        let start = f64::from(span.start) + (f64::from(span.length()) - part) * 0.5;
        Span { start: start as f32, end: (start + part) as f32 }
    };
    (around(across, crop_width), around(down, crop_height))
}

/// Centres the whole image on a black background (Pillow's `ImageOps.pad`).
fn pad(
    image: &Decoded<'_>,
    (width, height): (usize, usize),
    resizer: &mut Resizer,
    inner: &mut Vec<u8>,
    tensor: &mut [u8],
) {
    let (across, down) = spans(image);
    let (from_width, from_height) = (f64::from(across.length()), f64::from(down.length()));
    let (from, to) = (from_width / from_height, width as f64 / height as f64);
    // Python rounds half to even; no side may become 0.
    let side = |length: f64| (length.round_ties_even() as usize).max(1);
    let (inner_width, inner_height) = if from > to {
        (width, side(from_height / from_width * width as f64).min(height))
    } else {
        (side(from_width / from_height * height as f64).min(width), height)
    };
    inner.resize(inner_width * inner_height * 3, 0);
    resize(resizer, image, (across, down), (inner_width, inner_height), inner);
    let start = |outer: usize, inner: usize| ((outer - inner) as f64 * 0.5).round_ties_even() as usize;
    let (left, top) = (start(width, inner_width), start(height, inner_height));
    tensor.fill(0);
    let rows = tensor.chunks_exact_mut(width * 3).skip(top);
    for (row, source) in rows.zip(inner.chunks_exact(inner_width * 3)) {
        row[left * 3..][..inner_width * 3].copy_from_slice(source);
    }
}

#[cfg(test)]
#[path = "preparation_tests.rs"]
mod tests;
