//! The weights of a network as named candle variables.

use std::cell::Cell;
use std::ops::Range;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var};
use hamflow_stage_api::Random;

use crate::op::{Initial, ParameterConfig, WeightLayout};
use hamflow_kernels::network::{Level, blend};

/// A weight tensor with its name in the file, e.g. `conv1.weight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name.
    pub name: String,
    /// The shape and initialisation.
    pub config: ParameterConfig,
    /// The range of its gradient in the concatenated gradients.
    pub range: Range<usize>,
}

/// One variable per parameter of a network, in parameter order.
#[derive(Debug, Clone)]
pub struct Weights {
    names: Vec<String>,
    variables: Vec<Var>,
}

impl Weights {
    /// Draws the initial weights.
    pub fn draw<'p>(
        parameters: impl Iterator<Item = &'p Parameter> + Clone,
        random: &mut Random,
    ) -> candle_core::Result<Self> {
        let values = parameters.clone().map(|parameter| match parameter.config.initial {
            Initial::Zeros => vec![0.0; parameter.config.len()],
            Initial::Ones => vec![1.0; parameter.config.len()],
            Initial::GlorotUniform { fan_in, fan_out } => {
                let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
                (0..parameter.config.len()).map(|_| random.uniform(-limit, limit) as f32).collect()
            }
            Initial::HeNormal { fan_out } => {
                let deviation = (2.0 / fan_out as f64).sqrt();
                (0..parameter.config.len()).map(|_| (deviation * normal(random)) as f32).collect()
            }
        });
        Self::from_values(parameters, values)
    }

    /// Creates weights from values in parameter order.
    pub fn from_values<'p>(
        parameters: impl Iterator<Item = &'p Parameter>,
        values: impl Iterator<Item = Vec<f32>>,
    ) -> candle_core::Result<Self> {
        let (mut names, mut variables) = (Vec::new(), Vec::new());
        for (parameter, values) in parameters.zip(values) {
            names.push(parameter.name.clone());
            variables.push(Var::from_vec(values, &parameter.config.shape[..], &Device::Cpu)?);
        }
        Ok(Self { names, variables })
    }

    /// The names and tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(self.variables.iter().map(Var::as_tensor))
    }

    /// A copy that is not affected by later steps.
    pub fn snapshot(&self) -> candle_core::Result<Self> {
        let variables = self.variables.iter().map(|v| Var::from_tensor(&v.copy()?)).collect::<Result<_, _>>()?;
        Ok(Self { names: self.names.clone(), variables })
    }

    /// Moves all weights towards others' by the fraction `share`.
    pub fn blend(&self, level: Level, share: f32, others: &Self) -> candle_core::Result<()> {
        others.with_slices(|slices| {
            let pairs = self.variables.iter().zip(slices);
            pairs
                .into_iter()
                .try_for_each(|(variable, values)| change(variable, |own| blend(level, share, values, own)))
        })?
    }

    /// Whether all weights are finite.
    pub fn are_finite(&self) -> candle_core::Result<bool> {
        self.with_slices(|slices| slices.iter().all(|slice| slice.iter().all(|weight| weight.is_finite())))
    }

    /// Passes the values to `work`, which must not change them.
    pub fn with_slices<R>(&self, work: impl FnOnce(&[&[f32]]) -> R) -> candle_core::Result<R> {
        let storages: Vec<_> = self.variables.iter().map(|variable| variable.storage_and_layout()).collect();
        let slices = storages
            .iter()
            .map(|(storage, layout)| match &**storage {
                Storage::Cpu(storage) => slice(storage, layout),
                _ => candle_core::bail!("the weights are not in CPU memory"),
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(work(&slices))
    }
}

/// A draw from the standard normal distribution (Box, Muller 1958).
fn normal(random: &mut Random) -> f64 {
    let (u, v) = (1.0 - random.unit(), random.unit());
    (-2.0 * libm::log(u)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * v)
}

/// Changes the values of a contiguous tensor in place.
pub fn change(tensor: &Tensor, change: impl FnOnce(&mut [f32])) -> candle_core::Result<()> {
    tensor.inplace_op1(&Change(Cell::new(Some(change))))
}

struct Change<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("weights must be contiguous f32");
        };
        if let Some(change) = self.0.take() {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}

/// The values of a weight tensor in PyTorch's order of dimensions.
pub fn public_values(parameter: &Parameter, tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    let ordered = match parameter.config.layout {
        WeightLayout::Same => tensor.clone(),
        WeightLayout::Conv => tensor.permute((3, 2, 0, 1))?,
        WeightLayout::Depthwise => tensor.permute((2, 0, 1))?,
        WeightLayout::Dense => tensor.t()?,
    };
    ordered.contiguous()?.flatten_all()?.to_vec1()
}

/// The values of a contiguous tensor.
pub fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("the tensor is not contiguous"),
    }
}
