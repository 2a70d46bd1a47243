//! The inner loops of hamflow's stages: decoding and resizing of images, and the operations of networks on slices of `f32`.
//!
//! They are a crate of their own because they are compiled with the highest optimization, in one codegen unit
//! (`[profile.release.package]` in the workspace's `Cargo.toml`); the stages around them compile faster.

pub mod imaging;
pub mod network;
pub mod shape;

#[cfg(test)]
mod test_support;

/// Values in [-0.5, 0.5) · `scale` by a formula that `fixtures/reference.py` of `hamflow-ml` also implements, for tests.
#[doc(hidden)]
pub fn wave(salt: u32, count: usize, scale: f32) -> Vec<f32> {
    (1..=count as u32)
        .map(|i| {
            let hash = i.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503));
            let hash = (hash ^ (hash >> 15)).wrapping_mul(2_246_822_519);
            ((hash >> 8) as f32 / 16_777_216.0 - 0.5) * scale
        })
        .collect()
}
