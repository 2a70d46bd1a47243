//! Tests that the processor's SIMD level changes no pixel.

use super::*;

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

// The fixtures hold the hardest case: noise at a low quality, in widths that no vector divides.
#[test]
fn simd_and_portable_code_decode_alike() {
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
fn simd_and_portable_code_decode_noise_of_every_quality_alike() {
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
fn simd_and_portable_code_decode_the_real_images_alike() {
    let Some(folder) = crate::test_support::shared("ham10000-originals") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    for path in paths.iter().step_by(6) {
        let [fast, portable] = fast_and_portable(&std::fs::read(path).unwrap());
        assert!(fast == portable, "{}", path.display());
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

fn real_images(folder: &str, step: usize) -> Option<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(crate::test_support::shared(folder)?).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    Some(paths.iter().step_by(step).map(|path| std::fs::read(path).unwrap()).collect())
}

// An eighth of an image is the mean of its blocks, so what an independent decoder makes of them must agree: a single bit
// read wrongly shifts all that follows. The originals are 4:4:4 mostly, the smaller images 4:2:0.
#[test]
fn an_eighth_is_the_mean_of_each_block_of_the_whole() {
    for (folder, step, tolerance) in [("ham10000-originals", 3, 4), ("ham10000/HAM10000_images_part_1", 200, 12)] {
        let Some(files) = real_images(folder, step) else { return };
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

// The files with restarts are scene("RGB") of decode_tests.rs, saved with restart_marker_blocks=2 and quality=90.
#[test]
fn restarts_and_every_scale_decode() {
    let (mut whole, mut reduced) = (Pixels::default(), Pixels::default());
    for (name, bytes) in
        fixtures!("grey.jpg", "noise-420.jpg", "noise-422.jpg", "noise-444.jpg", "restarts-420.jpg", "restarts-444.jpg")
    {
        decode(bytes, &mut whole).unwrap();
        for eighths in [1, 2, 4] {
            let least = |_, _| eighths as f64 / 8.0;
            decode_reduced(bytes, least, &mut Scratch::default(), &mut reduced).unwrap_or_else(|| panic!("{name}"));
            let size = (reduced.width, reduced.height);
            assert_eq!(size, ((whole.width * eighths).div_ceil(8), (whole.height * eighths).div_ceil(8)), "{name}");
            let mean = |image: &Pixels| {
                image.bytes.iter().map(|value| f64::from(*value)).sum::<f64>() / image.bytes.len() as f64
            };
            // Blocks at the edges reach beyond the image, the more the smaller they become.
            let tolerance = 24.0 / eighths as f64;
            assert!((mean(&whole) - mean(&reduced)).abs() < tolerance, "{name} at {eighths}/8");
        }
        assert!(decode_reduced(bytes, |_, _| 0.6, &mut Scratch::default(), &mut reduced).is_none(), "{name} is whole");
    }
}

#[test]
fn damage_anywhere_is_left_to_the_whole_decoder_or_shows_in_pixels_alone() {
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

// Bits that are no code: seventeen ones cannot begin one, and a byte of ones is followed by a stuffed zero.
#[test]
fn damage_in_the_codes_is_found_where_it_is() {
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
fn newer_instructions_change_no_bit_of_a_reduced_image() {
    let Some(mut files) = real_images("ham10000-originals", 9) else { return };
    files.extend(real_images("ham10000/HAM10000_images_part_2", 500).unwrap());
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
