//! Tests that the processor's SIMD level changes no pixel.

use super::*;

macro_rules! fixtures {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("fixtures/", $name)).as_slice())),*]
    };
}

fn fast_and_portable(bytes: &[u8]) -> [RgbImage; 2] {
    [DecoderOptions::new_fast(), DecoderOptions::new_safe()].map(|options| decode_with(bytes, options).unwrap().0)
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
        let noise = RgbImage::from_fn(67, 51, |_, _| image::Rgb([0; 3].map(|_: u8| (random.below(3) * 127) as u8)));
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
