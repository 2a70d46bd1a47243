//! Whether a device computes what the processor does: every operation by itself, then whole trainings.
//!
//! `cargo bench --bench cuda` asks it of the device that is there; the tests ask it of the same orders and kernels on the processor.

mod operations;
mod training;

use hamflow_stage_api::StageError;

use super::queue::Queue;
use crate::ml::precision::Precision;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What was compared.
    pub what: String,
    /// The largest difference, as a share of the largest value.
    pub difference: f64,
    /// How much is allowed.
    pub allowed: f64,
}

impl Finding {
    /// Compares values with those of the processor.
    fn new(what: impl Into<String>, ours: &[f32], theirs: &[f32], allowed: f64) -> Self {
        let largest = theirs.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let apart = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { f64::from(a - b).abs() };
        let pairs = ours.iter().zip(theirs);
        // A difference that is no number must not get lost in a maximum.
        let difference = pairs.map(apart).fold(0.0, |most: f64, next| if next <= most { most } else { next });
        let same_length = ours.len() == theirs.len();
        let difference = if same_length { difference / f64::from(largest).max(1e-30) } else { f64::INFINITY };
        Self { what: what.into(), difference, allowed }
    }

    /// Whether it is small enough.
    pub fn is_good(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// Makes every comparison in a precision, with queues that `make` makes.
pub fn check<Q: Queue, E: Into<StageError>>(
    precision: Precision,
    mut make: impl FnMut(Precision) -> Result<Q, E>,
) -> Result<Vec<Finding>, StageError> {
    let mut findings = Vec::new();
    operations::check(&mut make(precision).map_err(Into::into)?, precision, &mut findings)?;
    training::check(|| make(precision).map_err(Into::into), precision, &mut findings)?;
    Ok(findings)
}

/// How far products may lie apart, as a share of the largest value.
fn of_products(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Tf32 => 4e-3,
        Precision::Bf16 => 3e-2,
    }
}

/// How far other values may lie apart: bf16 is rounded to 8 bits where it is stored.
fn of_values(precision: Precision) -> f64 {
    if precision == Precision::Bf16 { 1.0 / 128.0 } else { 1e-5 }
}
