//! Compares fitted shapes with Pillow, and reduced with full decoding.

use super::*;
use crate::test_support::{fnv, jpegs};

fn preparation(filter: Filter, (width, height): (usize, usize)) -> Preparation {
    Preparation {
        height,
        width,
        filter,
        fit: Fit::Stretch,
        decode: Decoding::Exact,
        colour_constancy: ColourConstancy::None,
        hair_removal: HairRemoval::None,
    }
}

fn prepared(preparation: Preparation, bytes: &[u8]) -> Vec<u8> {
    let mut tensor = vec![0; preparation.width * preparation.height * 3];
    Preparer::new(preparation).prepare(bytes, &mut tensor).unwrap();
    tensor
}

// # Pillow 13.0.0, with fnv of resize_tests.rs
// image = Image.open("fixtures/palette.png").convert("RGB")
// for name in ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS"):
//     for size in [(20, 30), (30, 20), (100, 61), (45, 35)]:
//         method = getattr(Image.Resampling, name)
//         print(hex(fnv(ImageOps.fit(image, size, method).tobytes())), hex(fnv(ImageOps.pad(image, size, method).tobytes())))
const PILLOW: [[u64; 2]; 16] = [
    [0x0ed8_d573_2251_bdca, 0xc251_0b58_1b0b_4b5e],
    [0xc1e4_1c97_12e1_c3ae, 0x80b8_83d7_cd25_1f1f],
    [0xf3a5_10c5_f0f4_1d58, 0xa214_d8bf_4154_a96e],
    [0x5f3b_362d_721c_f0dc, 0x5f3b_362d_721c_f0dc],
    [0x6238_bf1e_840b_1ba1, 0xfc6c_18e9_765c_4bfb],
    [0x8f08_e67f_362b_8550, 0xa814_de2f_df24_c5ef],
    [0x8e66_3f39_06c9_335e, 0x89bc_aab6_de39_effa],
    [0x5f3b_362d_721c_f0dc, 0x5f3b_362d_721c_f0dc],
    [0xe00e_8425_5ab3_3ff7, 0x683a_4432_af38_5731],
    [0x4a29_d8b2_48cd_9e78, 0x7d0b_8643_11f0_ad89],
    [0x0239_72c7_7cda_4485, 0x03d5_0f05_deac_c594],
    [0x5f3b_362d_721c_f0dc, 0x5f3b_362d_721c_f0dc],
    [0x7076_f661_848b_8865, 0xe2e7_30d8_2e9f_c8bb],
    [0xaf8a_5616_3bc6_aa81, 0xbed5_6e28_52f6_47e5],
    [0x9951_51ce_573a_671c, 0x52f5_c3a7_eb81_9038],
    [0x5f3b_362d_721c_f0dc, 0x5f3b_362d_721c_f0dc],
];

#[test]
fn cropping_and_padding_match_pillow_exactly() {
    let bytes = include_bytes!("fixtures/palette.png");
    let mut expected = PILLOW.iter();
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        for size in [(20, 30), (30, 20), (100, 61), (45, 35)] {
            let made = [Fit::CenterCrop, Fit::Pad]
                .map(|fit| fnv(&prepared(Preparation { fit, ..preparation(filter, size) }, bytes)));
            assert_eq!(&made, expected.next().unwrap(), "{filter:?} to {size:?}");
        }
    }
}

/// Peak signal-to-noise ratio in decibels.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squares.max(1e-9)).log10()
}

#[test]
#[ignore = "needs the real data"]
fn reduced_decoding_is_close_to_full_decoding_on_the_originals() {
    let files = jpegs("ham10000-originals", 1);
    assert_eq!(files.len(), 114);
    let filters = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
    let mut cases = Vec::new();
    for size in [(100, 75), (224, 224)] {
        cases.extend(filters.map(|filter| (size, preparation(filter, size))));
        cases.extend(
            [Fit::CenterCrop, Fit::Pad].map(|fit| (size, Preparation { fit, ..preparation(Filter::Bicubic, size) })),
        );
    }
    for (size, exact) in cases {
        {
            let Preparation { filter, fit, .. } = exact;
            let reduced = Preparation { decode: Decoding::Reduced, ..exact };
            let mut ratios: Vec<f64> =
                files.iter().map(|bytes| psnr(&prepared(reduced, bytes), &prepared(exact, bytes))).collect();
            ratios.sort_by(f64::total_cmp);
            let (least, median) = (ratios[0], ratios[ratios.len() / 2]);
            println!("{size:?} {filter:?} {fit:?}: median {median:.1} dB, least {least:.1} dB");
            assert!(
                median >= 44.0 && least >= 35.0,
                "{size:?} {filter:?} {fit:?}: median {median:.1} dB, least {least:.1} dB"
            );
            // Identical images would have an infinite ratio.
            assert!(ratios.last().unwrap() < &80.0, "{size:?} {filter:?} {fit:?}: nothing was reduced");
        }
    }
}

#[test]
fn unsupported_files_fall_back_to_full_decoding() {
    let progressive = include_bytes!("fixtures/noise-420-progressive.jpg");
    let exact = preparation(Filter::Bicubic, (10, 8));
    let reduced = Preparation { decode: Decoding::Reduced, ..exact };
    assert_eq!(prepared(reduced, progressive), prepared(exact, progressive));
    let baseline = include_bytes!("fixtures/noise-420.jpg");
    assert_ne!(prepared(reduced, baseline), prepared(exact, baseline));
    let mut tensor = vec![0; 10 * 8 * 3];
    for length in (3..baseline.len()).step_by(7) {
        let error = Preparer::new(reduced).prepare(&baseline[..length], &mut tensor).unwrap_err();
        assert!(error.reason.contains("truncated"), "{length}: {error}");
    }
}

/// A gradient of 45×35 with this EXIF orientation.
fn turned(orientation: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(45, 35, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, 90]));
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95).encode_image(&image).unwrap();
    let exif = [
        b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation, 0, 0, 0, 0, 0, 0],
    ];
    [&jpeg[..2], &exif.concat(), &jpeg[2..]].concat()
}

#[test]
fn an_image_with_exif_orientation_is_reduced_correctly() {
    let mut decoder = Decoder::default();
    let asked = std::cell::Cell::new((0, 0));
    let least = |width, height| {
        asked.set((width, height));
        0.25
    };
    let bytes = turned(6);
    let image = decoder.decode_reduced(&bytes, least).unwrap();
    assert_eq!((asked.get(), image.width, image.height), ((35, 45), 9, 12));
    // A shift by an eighth of a pixel to the wrong side would be visible in the gradient.
    for orientation in 1..=8 {
        let exact = preparation(Filter::Bilinear, if orientation < 5 { (9, 7) } else { (7, 9) });
        let reduced = Preparation { decode: Decoding::Reduced, ..exact };
        let bytes = turned(orientation);
        let ratio = psnr(&prepared(reduced, &bytes), &prepared(exact, &bytes));
        assert!((RATIO..80.0).contains(&ratio), "orientation {orientation}: {ratio:.1} dB");
    }
}

/// The ratio in decibels of a correctly reduced gradient; with the partial pixel missing or at the wrong side, it is lower.
const RATIO: f64 = 44.0;
