//! Machine learning: operations with gradients, graphs, models, optimiser, augmentation, training and inference.

pub mod augment;
pub mod backend;
pub mod card;
pub mod classifier;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod examples;
pub mod graph;
pub mod kernels;
pub mod loss;
pub mod mixup;
pub mod model;
pub mod network;
pub mod normalisation;
pub mod op;
pub mod optim;
pub mod precision;
pub mod pretrained;
pub mod recipe;
pub mod schedule;
pub mod shape;
pub mod switch;
pub mod tensorboard;
pub mod trainer;
pub mod tta;
pub mod weights;

/// Values in [-0.5, 0.5) · `scale` by a formula that `fixtures/reference.py` also implements.
#[cfg(test)]
fn wave(salt: u32, count: usize, scale: f32) -> Vec<f32> {
    (1..=count as u32)
        .map(|i| {
            let hash = i.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503));
            let hash = (hash ^ (hash >> 15)).wrapping_mul(2_246_822_519);
            ((hash >> 8) as f32 / 16_777_216.0 - 0.5) * scale
        })
        .collect()
}
