//! What stages compute with: tables, shards of images, networks with their training and inference, and metrics.
//!
//! Nothing here knows of stages. All of it is compiled with optimization, unlike the stages themselves.

pub mod augment;
pub mod backend;
pub mod card;
pub mod classifier;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dataset;
pub mod device;
pub mod examples;
pub mod graph;
pub mod loss;
pub mod metric;
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
pub mod shard;
pub mod switch;
pub mod table;
pub mod tensorboard;
pub mod trainer;
pub mod tta;
pub mod weights;

#[cfg(test)]
pub mod test_support;
