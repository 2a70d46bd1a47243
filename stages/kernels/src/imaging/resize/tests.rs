//! Compares resizing with Pillow.

use image::{Rgb, RgbImage};

use super::*;
use crate::test_support::fnv;

fn source(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * 7 + y * 13 + c * 29 + (x * y + c) % 251) % 256) as u8))
    })
}

fn resized(size: (u32, u32), target: (usize, usize), filter: Filter) -> Vec<u8> {
    let mut bytes = vec![0; target.0 * target.1 * 3];
    Resizer::new(filter).resize(&source(size.0, size.1).into(), target, &mut bytes);
    bytes
}

// # Pillow 13.0
// from PIL import Image
// def source(w, h):
//     image = Image.new("RGB", (w, h))
//     image.putdata([tuple((x * 7 + y * 13 + c * 29 + (x * y + c) % 251) % 256 for c in range(3)) for y in range(h) for x in range(w)])
//     return image
// def fnv(data):
//     value = 0xcbf29ce484222325
//     for byte in data:
//         value = ((value ^ byte) * 0x100000001b3) % 2**64
//     return value
// for size in [(600, 450), (200, 150), (450, 600), (50, 40), (100, 150), (100, 75), (7, 5)]:
//     for target in [(100, 75), (224, 224), (3, 2)]:
//         hashes = [fnv(source(*size).resize(target, getattr(Image.Resampling, name)).tobytes())
//                   for name in ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS")]
//         print(f"    ({size}, {target}, [{', '.join(hex(h) for h in hashes)}]),")
type Row = ((u32, u32), (usize, usize), [u64; 4]);
#[rustfmt::skip]
const PILLOW: &[Row] = &[
    ((600, 450), (100, 75), [0xb017_94e0_b281_a790, 0x63f0_185c_db81_1c94, 0xf8a7_629a_4271_9b0a, 0x36ae_162a_b58b_9582]),
    ((600, 450), (224, 224), [0x8774_b665_21da_8bcd, 0xb46e_2de1_a7f6_2ba9, 0x4b70_ee90_2cc2_34be, 0xeec2_2903_721f_7ecc]),
    ((600, 450), (3, 2), [0x7035_a22e_72de_99cb, 0xba68_19dc_6872_a8a5, 0xba68_19dc_6872_a8a5, 0xf5c3_20de_035b_d0a7]),
    ((200, 150), (100, 75), [0xfad0_7177_449f_0b9a, 0xe464_b0f9_8624_133a, 0x68e2_2162_bd99_61a9, 0x1c31_9c5d_5f9d_083c]),
    ((200, 150), (224, 224), [0x8bbe_8bd5_c378_980f, 0x4b01_658b_d1f0_803a, 0x943b_6eb8_8f20_3138, 0x8bd0_dee5_b805_54c8]),
    ((200, 150), (3, 2), [0x127f_5013_2a69_8e7f, 0xb8b0_6738_339a_d981, 0xb8b0_6738_339a_d981, 0x3c89_0b7e_2d62_d1a8]),
    ((450, 600), (100, 75), [0x0130_df46_9854_4bbe, 0x80e7_0259_b9ff_fe50, 0xbfcd_e49d_0ca1_5add, 0x081f_c28c_ffce_71a8]),
    ((450, 600), (224, 224), [0x47f3_98a8_7669_0463, 0x1ccb_8c18_fc5d_7820, 0x9e11_83ab_4683_3c34, 0x6a22_379e_8ac8_19be]),
    ((450, 600), (3, 2), [0x5caf_277d_0b82_7978, 0xe948_eb6d_bdb2_204a, 0x176e_246f_9623_963d, 0x176e_246f_9623_963d]),
    ((50, 40), (100, 75), [0xbf72_4d82_8cf4_ec71, 0xbb4e_8247_e144_42c2, 0xff79_137c_0ed9_0d7a, 0xb704_6616_83e6_05de]),
    ((50, 40), (224, 224), [0x437e_610e_067d_8ca6, 0x9f6b_7962_a324_161e, 0x5c20_a6de_09c0_6c1d, 0xf2b7_68e8_f449_91a8]),
    ((50, 40), (3, 2), [0xa005_935d_7fb8_ff98, 0xd719_b1aa_be07_6750, 0x438f_bae8_bdf8_e84c, 0x5b03_4fa3_4a13_c059]),
    ((100, 150), (100, 75), [0x688a_b3ef_f8fb_5dea, 0xeb9f_e248_4673_388e, 0x5211_71bd_c600_89e6, 0xdabf_af27_98d1_4c3d]),
    ((100, 150), (224, 224), [0x6713_0163_59ab_17d4, 0x0860_4ea5_79ca_bedc, 0x41b7_2ba8_5ec8_2110, 0x64bf_a250_f62d_f4fe]),
    ((100, 150), (3, 2), [0x7c79_14fb_11a2_1c46, 0xc58b_2f4e_b2db_8996, 0xfaf3_d407_2ab4_ff1d, 0xc395_476a_3a88_0c3b]),
    ((100, 75), (100, 75), [0xf1e3_4550_63d6_6570, 0xf1e3_4550_63d6_6570, 0xf1e3_4550_63d6_6570, 0xf1e3_4550_63d6_6570]),
    ((100, 75), (224, 224), [0xe155_f9ba_84aa_816f, 0x8433_6b44_d400_8f2f, 0x07c8_101a_fb41_8275, 0x9124_617d_bf2e_86da]),
    ((100, 75), (3, 2), [0x2a3a_4f54_51a7_74d6, 0xe909_eaf0_ae54_15a3, 0xe909_eaf0_ae54_15a3, 0xe909_eaf0_ae54_15a3]),
    ((7, 5), (100, 75), [0xe7bd_d931_1344_09f9, 0x97fc_5d90_2df7_64a5, 0x1c4f_a6ae_296b_7a5e, 0xb573_ee9e_e2af_3bd3]),
    ((7, 5), (224, 224), [0x1909_1dd8_7e51_00e5, 0x74af_84be_be09_a199, 0x344a_c484_751e_a0ca, 0x950b_c3b7_4496_5487]),
    ((7, 5), (3, 2), [0xa978_15a9_62a8_d6bb, 0x5089_a9f9_632e_375b, 0x5e59_497a_96b9_d6a8, 0xc520_ce5a_a296_7c8f]),
];

#[test]
fn every_filter_matches_pillow_exactly() {
    for (size, target, hashes) in PILLOW {
        for (filter, hash) in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos].iter().zip(hashes) {
            assert_eq!(fnv(&resized(*size, *target, *filter)), *hash, "{size:?} to {target:?} by {filter:?}");
        }
    }
}

// From the same script: source(5, 4).resize((3, 2), Image.Resampling.BICUBIC).tobytes()
#[test]
fn a_few_pixels_match_pillow() {
    let expected = [10, 40, 70, 23, 53, 83, 35, 65, 95, 35, 65, 95, 50, 80, 110, 66, 96, 126];
    assert_eq!(resized((5, 4), (3, 2), Filter::Bicubic), expected);
}

#[test]
fn a_resizer_keeps_no_state_of_the_previous_image() {
    let mut resizer = Resizer::new(Filter::Bicubic);
    let mut bytes = vec![0; 20 * 10 * 3];
    for size in [(50, 40), (13, 90), (20, 10), (50, 40)] {
        resizer.resize(&source(size.0, size.1).into(), (20, 10), &mut bytes);
        assert_eq!(bytes, resized(size, (20, 10), Filter::Bicubic), "{size:?}");
    }
}

/// An image resized with the portable instructions and with the best ones of this processor.
fn by_all_instructions(source: &impl Source, filter: Filter, (narrow, low): (usize, usize)) -> [Vec<u8>; 2] {
    let (width, height) = source.size();
    let (mut across, mut down) = (Axis::default(), Axis::default());
    across.prepare(filter, Span::all_of(width), width, narrow);
    down.prepare(filter, Span::all_of(height), height, low);
    [Instructions::Baseline, Instructions::of_this_processor()].map(|instructions| {
        let mut target = vec![0; narrow * low * CHANNELS];
        let axes = (Some(&across), Some(&down));
        passes::resize(instructions, source, axes, &mut Buffers::default(), &mut target);
        target
    })
}

#[test]
fn newer_instructions_do_not_change_a_resized_image() {
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        for (size, target) in [((157, 91), (44, 37)), ((16, 16), (32, 5)), ((5, 40), (90, 7)), ((33, 1), (1, 3))] {
            let image: Pixels = source(size.0, size.1).into();
            let [any, newer] = by_all_instructions(&image, filter, target);
            assert!(any == newer, "{filter:?} {size:?} {target:?}");
        }
    }
}

#[test]
fn planes_are_resized_like_the_corresponding_rgb_image() {
    let mut random = hamflow_stage_api::Random::new(7, "planes");
    for (width, height, stride, rows) in [(75, 57, 76, 58), (16, 16, 16, 16), (3, 50, 8, 56), (150, 113, 152, 114)] {
        let mut plane = || (0..stride * rows).map(|_| random.below(256) as u8).collect::<Vec<u8>>();
        let (luma, blue, red) = (plane(), plane(), plane());
        for colours in [Some([&blue[..], &red[..]]), None] {
            let (across, down) = (Span::all_of(width), Span { start: 0.0, end: height as f32 - 0.5 });
            let planes = Planes { luma: &luma, colours, stride, width, height, across, down };
            let mut image = Pixels::default();
            planes.write_to(&mut image);
            for size in [(100, 75), (width, 20), (20, height), (7, 3)] {
                let mut targets = [vec![0; size.0 * size.1 * CHANNELS], vec![0; size.0 * size.1 * CHANNELS]];
                let mut resizer = Resizer::new(Filter::Bicubic);
                resizer.resize_planes(&planes, (across, down), size, &mut targets[0]);
                resizer.resize(&image, size, &mut targets[1]);
                assert!(targets[0] == targets[1], "{width}x{height} to {size:?}");
            }
            let [any, newer] = by_all_instructions(&planes, Filter::Lanczos, (31, 40));
            assert!(any == newer, "{width}x{height}");
        }
    }
}
