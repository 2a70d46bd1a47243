//! Compares a device with the CPU reference: every operation in isolation, then whole training runs.
//!
//! `cargo bench --bench cuda` runs the checks on a real device. The tests run the same commands and kernels on the CPU.

mod operations;
mod training;

use hamflow_stage_api::StageError;

use super::queue::Queue;
use crate::model::Model;
use crate::precision::Precision;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is compared.
    pub what: String,
    /// The maximum difference, relative to the maximum value.
    pub difference: f64,
    /// The tolerance.
    pub allowed: f64,
}

impl Finding {
    /// Compares values with the reference.
    fn new(what: impl Into<String>, ours: &[f32], theirs: &[f32], allowed: f64) -> Self {
        let largest = theirs.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // A NaN counts as infinitely far, since `max` would drop it.
        let apart = |(a, b): (&f32, &f32)| match f64::from(a - b).abs() {
            _ if a == b => 0.0,
            apart if apart.is_nan() => f64::INFINITY,
            apart => apart,
        };
        let difference = ours.iter().zip(theirs).map(apart).fold(0.0, f64::max);
        let same_length = ours.len() == theirs.len();
        let difference = if same_length { difference / f64::from(largest).max(1e-30) } else { f64::INFINITY };
        Self { what: what.into(), difference, allowed }
    }

    /// Whether the difference is within the tolerance.
    pub fn is_good(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// Runs every comparison in one precision, on queues created by `make`, and trains some models.
pub fn check<Q: Queue, E: Into<StageError>>(
    precision: Precision,
    models: &[&Model],
    mut make: impl FnMut(Precision) -> Result<Q, E>,
) -> Result<Vec<Finding>, StageError> {
    let mut findings = Vec::new();
    operations::check(&mut make(precision).map_err(Into::into)?, precision, &mut findings)?;
    training::check(|| make(precision).map_err(Into::into), precision, &mut findings)?;
    training::check_models(|| make(precision).map_err(Into::into), precision, models, &mut findings)?;
    training::check_inference(|| make(precision).map_err(Into::into), precision, models, &mut findings)?;
    Ok(findings)
}

/// Compares single operations.
#[cfg(test)]
pub fn check_operations<Q: Queue>(queue: &mut Q, precision: Precision) -> Result<Vec<Finding>, StageError> {
    let mut findings = Vec::new();
    operations::check(queue, precision, &mut findings)?;
    Ok(findings)
}

#[cfg(test)]
pub use training::train_for_an_epoch;

/// The tolerance for products, relative to the maximum value.
fn of_products(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Tf32 => 4e-3,
        Precision::Bf16 => 3e-2,
    }
}

/// The tolerance for other values: bf16 rounds stored values to 8 bits.
fn of_values(precision: Precision) -> f64 {
    if precision == Precision::Bf16 { 1.0 / 128.0 } else { 1e-5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_numbers_or_missing_are_never_good() {
        let is_good = |ours: &[f32], theirs: &[f32]| Finding::new("values", ours, theirs, 0.1).is_good();
        assert!(is_good(&[9.0, 0.52, 1.0], &[9.0, 0.5, 1.0]));
        assert!(!is_good(&[9.0, f32::NAN, 1.0], &[9.0, 0.5, 1.0]));
        assert!(!is_good(&[9.0, 0.5, 1.0], &[9.0, f32::NAN, 1.0]));
        assert!(!is_good(&[f32::INFINITY, 1.0], &[0.5, 1.0]));
        assert!(!is_good(&[9.0, 0.5], &[9.0, 0.5, 1.0]));
        assert!(!is_good(&[9.0, 4.0, 1.0], &[9.0, 0.5, 1.0]));
    }
}
