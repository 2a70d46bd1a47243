//! The commands of the layers of vectors, forward and backward.

use super::Session;
use crate::cuda::CudaError;
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::RowPlan;
use crate::cuda::queue::{Matrix, Product, Queue};

impl<Q: Queue> Session<Q> {
    /// Computes the logits from the flattened map.
    pub(super) fn forward_rows(&mut self, images: usize, is_training: bool) -> Result<(), CudaError> {
        let last = self.plan.rows.len() - 1;
        let mut input = self.maps[self.plan.flattened].values;
        for number in 0..=last {
            let output = self.rows[number];
            match self.plan.rows[number].clone() {
                RowPlan::Dropout { length, dropout } => {
                    let dropout = Some(dropout).filter(|_| is_training);
                    self.dropout([input, output], dropout, images, length, false)?;
                }
                RowPlan::Dense { inputs, units, relu, weights, bias } => {
                    self.queue.multiply(&Product {
                        rows: images,
                        inner: inputs,
                        columns: units,
                        left: Matrix::plain(input),
                        right: Matrix::plain(self.used.factors().slice(weights)),
                        output: self.sums.first(images * units),
                        adds: false,
                    })?;
                    let (kernel, output) = match number == last {
                        true => (Kernel::BiasF32, self.logits),
                        false => (self.either(Kernel::BiasF32, Kernel::BiasNarrow), output),
                    };
                    let bias = self.used.weights.slice(bias);
                    self.bias(kernel, [self.sums, bias, output], images * units, units, relu)?;
                }
            }
            input = output;
        }
        Ok(())
    }

    /// Propagates the gradient of the logits to the flattened map.
    pub(super) fn backward_rows(&mut self, images: usize) -> Result<(), CudaError> {
        let last = self.plan.rows.len() - 1;
        // One of the two buffers holds the gradient of the output, the other receives that of the input.
        let [mut here, mut there] = self.row_gradients;
        let flattened = self.maps[self.plan.flattened];
        for number in (0..=last).rev() {
            let output = self.rows[number];
            let (input, to) = match number.checked_sub(1) {
                Some(before) => (self.rows[before], Some(there)),
                None => (flattened.values, self.trainable.wanted[self.plan.flattened].then_some(flattened.gradient)),
            };
            match self.plan.rows[number].clone() {
                RowPlan::Dropout { length, dropout } => {
                    let Some(to) = to else { break };
                    self.dropout([here, to], Some(dropout), images, length, false)?;
                }
                RowPlan::Dense { inputs, units, relu, weights, bias } => {
                    let (kernel, from) = match number == last {
                        true => (self.either(Kernel::BiasGradientF32, Kernel::BiasGradientNarrow), self.slopes),
                        false => (self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16), here),
                    };
                    self.bias_gradient(kernel, [output, from, here], bias, (images, units), relu)?;
                    let gradient = here.first(images * units);
                    self.queue.multiply(&Product {
                        rows: inputs,
                        inner: images,
                        columns: units,
                        left: Matrix::transposed(input.first(images * inputs)),
                        right: Matrix::plain(gradient),
                        output: self.training.gradient.slice(weights.clone()),
                        adds: false,
                    })?;
                    let Some(to) = to else { break };
                    self.queue.multiply(&Product {
                        rows: images,
                        inner: units,
                        columns: inputs,
                        left: Matrix::plain(gradient),
                        right: Matrix::transposed(self.used.factors().slice(weights)),
                        output: to.first(images * inputs),
                        adds: false,
                    })?;
                }
            }
            (here, there) = (there, here);
        }
        Ok(())
    }
}
