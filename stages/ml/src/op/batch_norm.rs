//! Batch normalisation (Ioffe, Szegedy 2015).
//!
//! With the mean μ and variance σ² of a channel over all pixels of a batch, y = γ (x − μ) / √(σ² + ε) + β. Here it only
//! computes per-channel numbers; the operations before and after it read and write the maps.

use super::{Initial, ParameterConfig};

/// The configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// The number of channels.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// The weight of a batch in the running statistics, as PyTorch's `momentum`.
    pub momentum: f64,
}

/// The numbers of one batch, per channel.
#[derive(Debug, Clone, Default)]
pub struct NormState {
    /// γ / √(σ² + ε).
    pub scale: Vec<f32>,
    /// β − μ · scale.
    pub shift: Vec<f32>,
    /// μ.
    pub mean: Vec<f32>,
    /// 1 / √(σ² + ε).
    pub rate: Vec<f64>,
    /// The unbiased variance, for the running statistics.
    pub variance: Vec<f64>,
    /// The coefficients of the backward pass.
    pub coefficients: [Vec<f32>; 3],
}

impl BatchNorm {
    /// With PyTorch's momentum, 0.1.
    pub fn new(channels: usize, epsilon: f64) -> Self {
        Self { channels, epsilon, momentum: 0.1 }
    }

    /// γ and β.
    pub fn parameters(&self) -> Vec<ParameterConfig> {
        vec![
            ParameterConfig::vector("weight", self.channels, Initial::Ones),
            ParameterConfig::vector("bias", self.channels, Initial::Zeros),
        ]
    }

    /// The running mean and variance.
    pub fn statistics(&self) -> Vec<ParameterConfig> {
        vec![
            ParameterConfig::vector("running_mean", self.channels, Initial::Zeros),
            ParameterConfig::vector("running_var", self.channels, Initial::Ones),
        ]
    }

    /// Computes the numbers of a batch from the sums and sums of squares over `count` pixels.
    pub fn measure(&self, sums: &[f64], squares: &[f64], count: usize, weights: [&[f32]; 2], state: &mut NormState) {
        state.resize(self.channels);
        let count = count as f64;
        for c in 0..self.channels {
            let mean = sums[c] / count;
            let variance = (squares[c] / count - mean * mean).max(0.0);
            state.variance[c] = variance * count / (count - 1.0).max(1.0);
            self.place(c, mean, variance, weights, state);
        }
    }

    /// Takes the running statistics.
    pub fn recall(&self, running: [&[f32]; 2], weights: [&[f32]; 2], state: &mut NormState) {
        state.resize(self.channels);
        for (c, (mean, variance)) in running[0].iter().zip(running[1]).enumerate() {
            state.variance[c] = f64::from(*variance);
            self.place(c, f64::from(*mean), f64::from(*variance), weights, state);
            state.coefficients[0][c] = state.scale[c];
            [state.coefficients[1][c], state.coefficients[2][c]] = [0.0; 2];
        }
    }

    fn place(&self, c: usize, mean: f64, variance: f64, [weight, bias]: [&[f32]; 2], state: &mut NormState) {
        let rate = 1.0 / (variance + self.epsilon).sqrt();
        let scale = f64::from(weight[c]) * rate;
        state.mean[c] = mean as f32;
        state.rate[c] = rate;
        state.scale[c] = scale as f32;
        state.shift[c] = (f64::from(bias[c]) - mean * scale) as f32;
    }

    /// Writes the gradients of γ and β and the coefficients of the gradient of x, from Σ g and Σ g (x − μ) over `count`
    /// pixels, where g is the gradient of y.
    ///
    /// With x̂ = (x − μ) · rate, ∂/∂x = γ · rate · (g − mean(g) − x̂ · mean(g x̂)). With running statistics, it is
    /// γ · rate · g.
    pub fn differentiate(
        &self,
        gradients: &[f64],
        products: &[f64],
        count: usize,
        batch_statistics: bool,
        weight_gradient: &mut [f32],
        state: &mut NormState,
    ) {
        let count = count as f64;
        let (weight, bias) = weight_gradient.split_at_mut(self.channels);
        for c in 0..self.channels {
            let (rate, scale, mean) = (state.rate[c], f64::from(state.scale[c]), f64::from(state.mean[c]));
            let of_weight = products[c] * rate;
            weight[c] = of_weight as f32;
            bias[c] = gradients[c] as f32;
            state.coefficients[0][c] = state.scale[c];
            let [b, c2] = match batch_statistics {
                true => {
                    let slope = -scale * rate * of_weight / count;
                    [slope, -scale * gradients[c] / count - slope * mean]
                }
                false => [0.0; 2],
            };
            state.coefficients[1][c] = b as f32;
            state.coefficients[2][c] = c2 as f32;
        }
    }

    /// Moves running statistics towards a batch's.
    pub fn update(&self, running: &mut [f32], of_batch: impl Iterator<Item = f64>) {
        for (running, value) in running.iter_mut().zip(of_batch) {
            *running = (f64::from(*running) + self.momentum * (value - f64::from(*running))) as f32;
        }
    }
}

impl NormState {
    fn resize(&mut self, channels: usize) {
        for values in [&mut self.scale, &mut self.shift, &mut self.mean] {
            values.resize(channels, 0.0);
        }
        for values in [&mut self.rate, &mut self.variance] {
            values.resize(channels, 0.0);
        }
        self.coefficients.iter_mut().for_each(|values| values.resize(channels, 0.0));
    }
}
