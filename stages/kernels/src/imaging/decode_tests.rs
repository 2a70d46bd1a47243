//! Tests of decoding: supported formats, and invalid files.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, Rgba, RgbaImage};

use super::*;

// # Pillow 13.0; run in this folder.
// import io, random
// from PIL import Image
// W, H = 45, 35
// random.seed(1)
// def scene(mode):
//     image = Image.new("RGB", (W, H))
//     image.putdata([((x * 5) % 256, (y * 7) % 256, ((x + y) * 3) % 256) for y in range(H) for x in range(W)])
//     return image.convert(mode)
// scene("L").save("grey.jpg", quality=90)
// scene("CMYK").save("cmyk.jpg", quality=90)
// data = bytearray(open("cmyk.jpg", "rb").read())
// data[data.index(b"Adobe") + 11] = 2  # says that the same numbers are YCCK
// open("ycck.jpg", "wb").write(data)
// scene("RGB").quantize(32).save("palette.png", optimize=True)
// for s in ("4:4:4", "4:2:0"):
//     scene("RGB").save(f"restarts-{s.replace(':', '')}.jpg", quality=90, subsampling=s, restart_marker_blocks=2)
// for name in ("grey.jpg", "cmyk.jpg", "ycck.jpg", "palette.png", "restarts-444.jpg", "restarts-420.jpg"):
//     Image.open(name).convert("RGB").save(name + ".expected.png", optimize=True)
// noise = Image.new("RGB", (W, H))
// noise.putdata([tuple(random.choice((0, 255, random.randrange(256))) for _ in range(3)) for _ in range(W * H)])
// for sampling in ("4:4:4", "4:2:2", "4:2:0"):
//     for progressive in (False, True):
//         name = f"noise-{sampling.replace(':', '')}{'-progressive' if progressive else ''}.jpg"
//         noise.save(name, quality=30, subsampling=sampling, progressive=progressive)
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name)).as_slice()
    };
}

fn largest_difference(image: &RgbImage, expected: &RgbImage) -> u8 {
    assert_eq!(image.dimensions(), expected.dimensions());
    let pairs = image.as_raw().iter().zip(expected.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn grey_cmyk_and_ycck_jpegs_match_pillow() {
    for (name, bytes, expected, tolerance) in [
        ("grey", fixture!("grey.jpg"), fixture!("grey.jpg.expected.png"), 1),
        ("cmyk", fixture!("cmyk.jpg"), fixture!("cmyk.jpg.expected.png"), 2),
        ("ycck", fixture!("ycck.jpg"), fixture!("ycck.jpg.expected.png"), 2),
    ] {
        let difference = largest_difference(&decode(bytes).unwrap(), &decode(expected).unwrap());
        assert!(difference <= tolerance, "{name} differs by {difference}");
    }
}

// From the same script. zune-jpeg upsamples chroma like libjpeg-turbo, with slightly different rounding.
#[test]
fn colours_match_libjpeg_turbo() {
    for (name, bytes, expected) in [
        ("4:4:4", fixture!("restarts-444.jpg"), fixture!("restarts-444.jpg.expected.png")),
        ("4:2:0", fixture!("restarts-420.jpg"), fixture!("restarts-420.jpg.expected.png")),
    ] {
        let difference = largest_difference(&decode(bytes).unwrap(), &decode(expected).unwrap());
        assert!(difference <= 3, "{name} differs by {difference}");
    }
}

#[test]
fn a_palette_png_matches_pillow() {
    assert_eq!(decode(fixture!("palette.png")), decode(fixture!("palette.png.expected.png")));
}

fn png(data: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes).write_image(data, width, height, colour).unwrap();
    bytes
}

#[test]
fn sixteen_bits_are_reduced_to_eight_and_alpha_is_dropped() {
    let deep: Vec<u8> = [0u16, 257, 65535, 32896].iter().flat_map(|value| value.to_ne_bytes()).collect();
    let grey = decode(&png(&deep, 2, 2, ExtendedColorType::L16)).unwrap();
    assert_eq!(grey.pixels().map(|pixel| pixel.0).collect::<Vec<_>>(), [[0; 3], [1; 3], [255; 3], [128; 3]]);

    let transparent = RgbaImage::from_pixel(3, 1, Rgba([1, 2, 3, 0]));
    let decoded = decode(&png(&transparent, 3, 1, ExtendedColorType::Rgba8)).unwrap();
    assert!(decoded.pixels().all(|pixel| *pixel == Rgb([1, 2, 3])));
}

/// A JPEG of four quadrants: red green / blue white.
fn quadrants() -> Vec<u8> {
    let image = RgbImage::from_fn(48, 32, |x, y| match (x < 24, y < 16) {
        (true, true) => Rgb([255, 0, 0]),
        (false, true) => Rgb([0, 255, 0]),
        (true, false) => Rgb([0, 0, 255]),
        (false, false) => Rgb([255, 255, 255]),
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&image).unwrap();
    bytes
}

fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    // One TIFF directory with one entry: tag 0x0112, type 3 (short), one value.
    let exif =
        [b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0]]
            .concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

// The corners from the top left in reading order, as shown by Pillow's ImageOps.exif_transpose.
#[test]
fn the_exif_orientation_is_applied() {
    let jpeg = quadrants();
    for (orientation, corners) in
        [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (7, "wgbr"), (8, "gwrb")]
    {
        let image = decode(&with_orientation(&jpeg, orientation)).unwrap();
        let (width, height) = image.dimensions();
        assert_eq!((width, height), if orientation < 5 { (48, 32) } else { (32, 48) });
        let seen: String = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
            .iter()
            .map(|(x, y)| match image.get_pixel(*x, *y).0.map(|value| value > 128) {
                [true, false, false] => 'r',
                [false, true, false] => 'g',
                [false, false, true] => 'b',
                _ => 'w',
            })
            .collect();
        assert_eq!(seen, corners, "orientation {orientation}");
    }
}

// Pillow's ImageOps.exif_transpose turns both files alike; the checksum is Python's zlib.crc32.
#[test]
fn pixels_of_eight_bits_are_converted_like_those_of_the_image_crate() {
    let values: Vec<u8> = (0..4 * 256).map(|place| (place * 7 + place / 4) as u8).collect();
    let side = |channels: usize| (values.len() / channels) as u32;
    for image in [
        DynamicImage::ImageLuma8(image::ImageBuffer::from_raw(side(1), 1, values.clone()).unwrap()),
        DynamicImage::ImageLumaA8(image::ImageBuffer::from_raw(side(2), 1, values.clone()).unwrap()),
        DynamicImage::ImageRgba8(image::ImageBuffer::from_raw(side(4), 1, values.clone()).unwrap()),
    ] {
        assert_eq!(rgb(image.clone()), image.into_rgb8());
    }
}

#[test]
fn the_exif_orientation_of_a_png_is_applied_wherever_it_is() {
    let plain = png(&[1, 2, 3, 4, 5, 6], 2, 1, ExtendedColorType::Rgb8);
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let chunk = [&(exif.len() as u32).to_be_bytes()[..], b"eXIf", exif, &[0x84, 0x5f, 0x64, 0xce]].concat();
    // Behind the header (33 bytes), and in front of the last chunk (12 bytes).
    for place in [33, plain.len() - 12] {
        let turned = [&plain[..place], &chunk[..], &plain[place..]].concat();
        let pixels: Vec<[u8; 3]> = decode(&turned).unwrap().pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[4, 5, 6], [1, 2, 3]], "at byte {place}");
    }
}

fn reason(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().reason
}

#[test]
fn a_jpeg_truncated_at_any_byte_is_rejected() {
    let jpeg = quadrants();
    for length in 3..jpeg.len() {
        assert!(reason(&jpeg[..length]).contains("truncated"), "{length} of {} bytes", jpeg.len());
    }
    // Data after the end of the image is ignored.
    assert!(decode(&[&jpeg[..], b"trailing"].concat()).is_ok());
}

#[test]
fn a_truncated_png_is_rejected() {
    let png = fixture!("palette.png");
    // Without the last chunk, which is empty, all pixels are present.
    for length in 8..png.len() - 12 {
        assert!(decode(&png[..length]).is_err(), "{length} of {} bytes", png.len());
    }
}

#[test]
fn files_that_are_not_images_are_identified() {
    assert_eq!(reason(b""), "is empty");
    assert_eq!(reason(b"image_id,dx\nISIC_0000000,nv\n"), "is text, not an image");
    assert_eq!(reason(b"GIF89a\x01\0"), "is a GIF, neither JPEG nor PNG");
    assert_eq!(reason(&[0; 40]), "is neither JPEG nor PNG");
}

#[test]
fn too_large_images_are_rejected_before_memory_is_allocated() {
    let mut jpeg = quadrants();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert!(reason(&jpeg).contains("claims 60000×60000 pixels"), "{}", reason(&jpeg));

    // A header for 8-bit RGB; the checksum was computed with Python's zlib.crc32.
    let header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0\x0f\xb0\xe2\x15";
    let png = [header.as_slice(), b"\0\0\0\0IDAT\x35\xaf\x06\x1e"].concat();
    assert!(reason(&png).contains("claims 60000×60000 pixels"), "{}", reason(&png));
}

#[test]
fn corrupt_bytes_never_crash_the_decoder() {
    let mut random = hamflow_stage_api::Random::new(7, "damage");
    for original in [quadrants(), fixture!("noise-420.jpg").to_vec(), fixture!("noise-444-progressive.jpg").to_vec()] {
        for _ in 0..300 {
            let mut bytes = original.clone();
            for _ in 0..=random.below(4) {
                let position = 2 + random.below(bytes.len() as u64 - 2) as usize;
                bytes[position] = random.next_u64() as u8;
            }
            // Both success and an error are valid; only a panic is not.
            let _ = decode(&bytes);
        }
    }
}
