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
pub mod switch;
pub mod tensorboard;
pub mod trainer;
pub mod tta;
pub mod weights;
