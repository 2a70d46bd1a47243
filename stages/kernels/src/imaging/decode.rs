//! Decodes image files to upright RGB pixels.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits, RgbImage};

use super::jpeg;
use super::pixels::{BadImage, MAX_PIXELS, Pixels, check_size};
use super::planes::Planes;

/// Decodes images one after the other with reusable buffers.
#[derive(Default)]
pub struct Decoder {
    image: Pixels,
    scratch: jpeg::Scratch,
}

impl Decoder {
    /// Decodes a JPEG or PNG file to 8-bit RGB and applies its EXIF orientation.
    ///
    /// Grey images get three equal channels, CMYK and palettes are converted to RGB, 16 bits are reduced to 8, and
    /// alpha is dropped. ICC profiles are ignored. A truncated file is an error and is never padded with grey.
    /// Corruption that leaves the file's structure intact cannot be detected. The pixels are identical on every
    /// machine.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<&mut Pixels, BadImage> {
        let orientation = decode_whole(bytes, &mut self.image)?;
        Ok(self.upright(orientation))
    }

    /// Like [`decode`](Self::decode), but at a half, a quarter or an eighth of the size if possible: for baseline
    /// JPEGs in one scan.
    ///
    /// `least` returns the minimum scale for an upright image of the given width and height.
    pub fn decode_reduced(
        &mut self,
        bytes: &[u8],
        least: impl Fn(usize, usize) -> f64,
    ) -> Result<&mut Pixels, BadImage> {
        let orientation = match jpeg::decode_reduced(bytes, least, &mut self.scratch) {
            Some((planes, orientation)) => {
                planes.write_to(&mut self.image);
                orientation
            }
            None => decode_whole(bytes, &mut self.image)?,
        };
        Ok(self.upright(orientation))
    }

    /// The same, with luma and chroma planes kept separate if the file stores them that way and the image is upright.
    pub(super) fn decode_planes(
        &mut self,
        bytes: &[u8],
        least: impl Fn(usize, usize) -> f64,
    ) -> Result<Decoded<'_>, BadImage> {
        let Self { image, scratch } = self;
        let orientation = match jpeg::decode_reduced(bytes, least, scratch) {
            Some((planes, Orientation::NoTransforms)) => return Ok(Decoded::Planes(planes)),
            Some((planes, orientation)) => {
                planes.write_to(image);
                orientation
            }
            None => decode_whole(bytes, image)?,
        };
        if orientation != Orientation::NoTransforms {
            image.turn(orientation);
        }
        Ok(Decoded::Pixels(image))
    }

    fn upright(&mut self, orientation: Orientation) -> &mut Pixels {
        if orientation != Orientation::NoTransforms {
            self.image.turn(orientation);
        }
        &mut self.image
    }
}

/// A decoded image in the layout that is fastest to resize.
pub(super) enum Decoded<'a> {
    Planes(Planes<'a>),
    Pixels(&'a mut Pixels),
}

/// Decodes a file as stored; returns its orientation.
fn decode_whole(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, image),
        _ => other(bytes, image),
    }
}

/// Decodes one file like a [`Decoder`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, BadImage> {
    let mut decoder = Decoder::default();
    decoder.decode(bytes)?;
    Ok(decoder.image.into_image())
}

/// Decodes files other than JPEG.
fn other(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    if bytes.is_empty() {
        return Err(BadImage::new("is empty"));
    }
    let (pixels, orientation) = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => png(bytes)?,
        Ok(format) => {
            let name = format.extensions_str().first().map_or_else(String::new, |name| name.to_uppercase());
            return Err(BadImage::new(format!("is a {name}, neither JPEG nor PNG")));
        }
        Err(_) if looks_like_text(bytes) => return Err(BadImage::new("is text, not an image")),
        Err(_) => return Err(BadImage::new("is neither JPEG nor PNG")),
    };
    *image = pixels.into();
    Ok(orientation)
}

fn png(bytes: &[u8]) -> Result<(RgbImage, Orientation), BadImage> {
    let mut limits = Limits::default();
    // Up to 16 bits in four channels.
    limits.max_alloc = Some(MAX_PIXELS * 8);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(bad_png)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let pixels = rgb(DynamicImage::from_decoder(decoder).map_err(bad_png)?);
    let orientation = png_exif(bytes).and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    Ok((pixels, orientation))
}

/// Like `into_rgb8`, which converts each pixel to floating point and back.
fn rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let pixels: Vec<[u8; 3]> = match &image {
        DynamicImage::ImageLuma8(grey) => grey.as_raw().iter().map(|&value| [value; 3]).collect(),
        DynamicImage::ImageLumaA8(grey) => grey.as_raw().as_chunks().0.iter().map(|&[value, _]| [value; 3]).collect(),
        DynamicImage::ImageRgba8(colours) => {
            let chunks = colours.as_raw().as_chunks().0;
            chunks.iter().map(|&[red, green, blue, _]| [red, green, blue]).collect()
        }
        _ => return image.into_rgb8(),
    };
    RgbImage::from_raw(width, height, pixels.into_flattened()).expect("there are three values per pixel")
}

/// The EXIF block of a PNG, which may lie behind the pixels (PNG, third edition, 11.3.4.5).
fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    const SIGNATURE: usize = 8;
    let mut rest = bytes.get(SIGNATURE..)?;
    loop {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let content = behind.get(..length)?;
        if head[4..] == *b"eXIf" {
            return Some(content);
        }
        // Behind the content is its checksum.
        rest = behind.get(length + 4..)?;
    }
}

fn bad_png(error: ImageError) -> BadImage {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            BadImage::new("is truncated: the PNG ends too early")
        }
        ImageError::Decoding(error) => BadImage::new(format!("is a damaged PNG: {error}")),
        error => BadImage::new(format!("cannot be decoded: {error}")),
    }
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(512)];
    start.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
