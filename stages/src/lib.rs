//! The kinds of stage that are built into hamflow: tables, images, training, evaluation, the report; and the commands beside them.
//!
//! The file of a kind or command declares and calls; the work is in the modules below, as functions that know no paths.

pub mod artifact;
pub mod command;
pub mod compare;
pub mod comparison_record;
pub mod detect;
pub mod eda;
pub mod ensemble;
pub mod evaluate;
pub mod export;
mod fast_map;
#[doc(hidden)]
pub mod fuzzing;
pub mod gradcam;
pub mod image_names;
pub mod impute;
pub mod json;
pub mod metadata;
pub mod model_card;
mod paired_predictions;
pub mod plot;
pub mod predict;
pub mod prediction_table;
pub mod preprocess;
pub mod registry;
pub mod report;
pub mod search;
pub mod search_record;
pub mod split;
pub mod synthetic;
pub mod train;
pub mod training;

/// The inner loops, for benchmarks.
pub use hamflow_kernels as kernels;
pub use hamflow_ml as ml;
pub use hamflow_ml::{dataset, shard, table};

#[cfg(test)]
pub mod test_support;
