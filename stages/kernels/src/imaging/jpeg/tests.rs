//! Tests of JPEG decoding: SIMD does not change pixels, reduced images match the full ones, and corruption is detected.

use super::*;
use crate::test_support::jpegs;

/// Decodes at reduced size and converts to RGB.
fn decode_reduced(
    bytes: &[u8],
    least: impl Fn(usize, usize) -> f64,
    scratch: &mut Scratch,
    image: &mut Pixels,
) -> Option<Orientation> {
    let (planes, orientation) = super::decode_reduced(bytes, least, scratch)?;
    planes.write_to(image);
    Some(orientation)
}

macro_rules! fixtures {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../fixtures/", $name)).as_slice())),*]
    };
}

fn fast_and_portable(bytes: &[u8]) -> [Pixels; 2] {
    [DecoderOptions::new_fast(), DecoderOptions::new_safe()].map(|options| {
        let mut image = Pixels::default();
        decode_with(bytes, options, &mut image).unwrap();
        image
    })
}

// The fixtures contain the hardest case: noise at low quality, with widths that are not multiples of the vector size.
#[test]
fn simd_and_portable_code_give_identical_pixels() {
    for (name, bytes) in fixtures!(
        "grey.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "noise-420.jpg",
        "noise-420-progressive.jpg",
        "noise-422.jpg",
        "noise-422-progressive.jpg",
        "noise-444.jpg",
        "noise-444-progressive.jpg"
    ) {
        let [fast, portable] = fast_and_portable(bytes);
        assert!(fast == portable, "{name}");
    }
}

#[test]
fn simd_and_portable_code_give_identical_pixels_for_noise_of_every_quality() {
    let mut random = hamflow_stage_api::Random::new(3, "noise");
    for quality in [1, 5, 20, 50, 80, 100] {
        let noise =
            image::RgbImage::from_fn(67, 51, |_, _| image::Rgb([0; 3].map(|_: u8| (random.below(3) * 127) as u8)));
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&noise).unwrap();
        let [fast, portable] = fast_and_portable(&bytes);
        assert!(fast == portable, "quality {quality}");
    }
}

#[test]
#[ignore = "needs the real data"]
fn simd_and_portable_code_give_identical_pixels_for_real_images() {
    let files = jpegs("ham10000-originals", 6);
    for (number, bytes) in files.iter().enumerate() {
        let [fast, portable] = fast_and_portable(bytes);
        assert!(fast == portable, "original {}", number * 6);
    }
}

/// The mean over squares of pixels.
fn averaged(image: &Pixels, side: usize) -> Vec<u8> {
    let mut means = Vec::new();
    for y in 0..image.height / side {
        for x in 0..image.width / side {
            for channel in 0..3 {
                let at = |i: usize| ((y * side + i / side) * image.width + x * side + i % side) * 3 + channel;
                let sum: usize = (0..side * side).map(|i| usize::from(image.bytes[at(i)])).sum();
                means.push(((sum + side * side / 2) / (side * side)) as u8);
            }
        }
    }
    means
}

// An image at an eighth of the size consists of the means of its blocks, so it must agree with an independent
// decoder: a single misread bit shifts everything after it. The originals are mostly 4:4:4, the smaller images 4:2:0.
#[test]
#[ignore = "needs the real data"]
fn an_eighth_is_the_mean_of_each_block_of_the_full_image() {
    for (folder, step, tolerance) in [("ham10000-originals", 3, 4), ("ham10000/HAM10000_images_part_1", 200, 12)] {
        let files = jpegs(folder, step);
        let (mut whole, mut reduced) = (Pixels::default(), Pixels::default());
        for bytes in files {
            decode(&bytes, &mut whole).unwrap();
            decode_reduced(&bytes, |_, _| 0.1, &mut Scratch::default(), &mut reduced).unwrap();
            assert_eq!((reduced.width, reduced.height), (whole.width.div_ceil(8), whole.height.div_ceil(8)));
            let (columns, rows) = (whole.width / 8, whole.height / 8);
            let means = averaged(&whole, 8);
            for (row, means) in reduced.bytes.chunks_exact(reduced.width * 3).zip(means.chunks_exact(columns * 3)) {
                for (found, wanted) in row.iter().zip(means) {
                    let difference = found.abs_diff(*wanted);
                    assert!(difference <= tolerance, "{folder}: {found} is not {wanted} ({rows} rows)");
                }
            }
        }
    }
}

#[test]
fn restarts_and_every_scale_decode() {
    let (mut whole, mut reduced) = (Pixels::default(), Pixels::default());
    // The tolerated mean difference between a pixel and the mean of the pixels it represents; the scenes have sharp edges.
    for (name, bytes) in fixtures!("grey.jpg", "restarts-420.jpg", "restarts-444.jpg") {
        decode(bytes, &mut whole).unwrap();
        for (eighths, tolerance) in [(1, 2.0), (2, 8.0), (4, 8.0)] {
            let least = |_, _| eighths as f64 / 8.0;
            decode_reduced(bytes, least, &mut Scratch::default(), &mut reduced).unwrap_or_else(|| panic!("{name}"));
            let size = (reduced.width, reduced.height);
            assert_eq!(size, ((whole.width * eighths).div_ceil(8), (whole.height * eighths).div_ceil(8)), "{name}");
            let side = 8 / eighths;
            let (columns, means) = (whole.width / side, averaged(&whole, side));
            let rows = reduced.bytes.chunks_exact(reduced.width * 3).zip(means.chunks_exact(columns * 3));
            let differences =
                rows.flat_map(|(row, means)| row.iter().zip(means)).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = differences.sum::<f64>() / means.len() as f64;
            assert!(mean < tolerance, "{name} at {eighths}/8 differs by {mean}");
        }
        assert!(decode_reduced(bytes, |_, _| 0.6, &mut Scratch::default(), &mut reduced).is_none(), "{name} is whole");
    }
    for (name, bytes) in fixtures!("noise-420.jpg", "noise-422.jpg", "noise-444.jpg") {
        for least in [0.1, 0.2, 0.5] {
            assert!(decode_reduced(bytes, |_, _| least, &mut Scratch::default(), &mut reduced).is_some(), "{name}");
        }
    }
}

fn quarter(bytes: &[u8]) -> Option<Pixels> {
    let mut image = Pixels::default();
    decode_reduced(bytes, |_, _| 0.25, &mut Scratch::default(), &mut image).map(|_| image)
}

#[test]
fn irrelevant_differences_of_files_do_not_change_pixels() {
    let colour = include_bytes!("../fixtures/restarts-444.jpg");
    let expected = quarter(colour).unwrap();
    let filled = [&colour[..colour.len() - 2], &[0xff, 0xff, 0xff, 0xd9]].concat();
    assert!(quarter(&filled).unwrap() == expected, "bytes of ones before the end");
    assert!(quarter(&[colour, &b"trailing"[..]].concat()).unwrap() == expected, "what follows the end");
    let adobe = |transform: u8| {
        let segment = [b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat();
        [&colour[..2], &segment, &colour[2..]].concat()
    };
    assert!(quarter(&adobe(1)).unwrap() == expected, "Adobe says YCbCr");
    assert!(quarter(&adobe(0)).is_none(), "Adobe says RGB");

    let mut grey = include_bytes!("../fixtures/grey.jpg").to_vec();
    let expected = quarter(&grey).unwrap();
    let frame = grey.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    grey[frame + 11] = 0x22;
    assert!(quarter(&grey).unwrap() == expected, "factors of a single component say nothing");
}

#[test]
fn a_file_that_claims_too_many_blocks_gets_no_memory() {
    let original = include_bytes!("../fixtures/restarts-444.jpg");
    let frame = original.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut large = original.to_vec();
    large[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    let mut scratch = Scratch::default();
    assert!(decode_reduced(&large, |_, _| 0.5, &mut scratch, &mut Pixels::default()).is_none());
    // A million markers with nothing in between.
    let scan = original.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
    let restarts = (0..1_000_000).flat_map(|number| [0xff, 0xd0 + (number % 8) as u8]);
    let empty: Vec<u8> = original[..scan].iter().copied().chain(restarts).chain([0xff, 0xd9]).collect();
    assert!(decode_reduced(&empty, |_, _| 0.5, &mut scratch, &mut Pixels::default()).is_none());
    assert!(scratch.memory() < 3_000_000, "{} bytes", scratch.memory());
}

#[test]
fn a_height_after_the_pixels_is_reported() {
    let mut bytes = include_bytes!("../fixtures/restarts-444.jpg").to_vec();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].fill(0);
    let error = decode(&bytes, &mut Pixels::default()).unwrap_err();
    assert!(error.reason.contains("stores its height after the pixels"), "{error}");
}

#[test]
fn corruption_is_left_to_the_full_decoder_or_only_changes_pixels() {
    let mut random = hamflow_stage_api::Random::new(11, "damage");
    let mut reduced = Pixels::default();
    for (name, original) in fixtures!("noise-420.jpg", "restarts-444.jpg", "grey.jpg") {
        for _ in 0..2000 {
            let mut bytes = original.to_vec();
            for _ in 0..=random.below(4) {
                let position = 2 + random.below(bytes.len() as u64 - 2) as usize;
                bytes[position] = random.next_u64() as u8;
            }
            bytes.truncate(bytes.len() - random.below(3) as usize);
            if decode_reduced(&bytes, |_, _| 0.25, &mut Scratch::default(), &mut reduced).is_some() {
                assert_eq!(reduced.bytes.len(), reduced.width * reduced.height * 3, "{name}");
            }
        }
    }
}

// Invalid bits: no code begins with seventeen ones, and a byte of ones is followed by a stuffed zero.
#[test]
fn corruption_of_the_codes_is_reported_at_its_position() {
    let original = include_bytes!("../fixtures/noise-444.jpg");
    let scan = original.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
    for start in [scan + 40, scan + 401, original.len() - 60] {
        let mut bytes = original.to_vec();
        for pair in bytes[start..start + 12].chunks_exact_mut(2) {
            pair.copy_from_slice(&[0xff, 0]);
        }
        let error = decode(&bytes, &mut Pixels::default()).unwrap_err();
        let offset = error.offset.unwrap_or_else(|| panic!("{error}"));
        assert!((start - 4..start + 14).contains(&offset), "{offset} is not near {start}: {error}");
    }
    let error = decode(&original[..500], &mut Pixels::default()).unwrap_err();
    assert_eq!((error.offset, error.to_string().contains("noticed at byte 500")), (Some(500), true));
}

#[test]
#[ignore = "needs the real data"]
fn newer_instructions_do_not_change_a_reduced_image() {
    let mut files = jpegs("ham10000-originals", 9);
    files.extend(jpegs("ham10000/HAM10000_images_part_2", 500));
    let (mut newer, mut portable) = (Pixels::default(), Pixels::default());
    for bytes in files {
        for least in [0.1, 0.2, 0.5] {
            decode_reduced(&bytes, |_, _| least, &mut Scratch::default(), &mut newer).unwrap();
            let mut scratch = Scratch::default();
            scratch.portable = true;
            decode_reduced(&bytes, |_, _| least, &mut scratch, &mut portable).unwrap();
            assert!(newer == portable, "at {least}");
        }
    }
}
