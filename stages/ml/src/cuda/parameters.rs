//! The memory layout of the weights on the device.
//!
//! The host stores a convolution's weights as `[k, k, inputs, outputs]`, cuDNN requires `[outputs, k, k, inputs]`. On the
//! device, the first convolution has additional inputs that are always 0. Every parameter is aligned for tensor cores.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::weights::Parameter;

/// The alignment of parameters, in elements.
const ALIGNMENT: usize = 64;

/// The location of every parameter on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    places: Vec<Place>,
    host_length: usize,
    length: usize,
}

/// The weights of a convolution of cuDNN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters {
    /// The number of inputs of an output on the host.
    pub inputs: usize,
    /// The number of inputs of an output on the device.
    pub padded: usize,
    /// The number of outputs.
    pub outputs: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: Range<usize>,
    device: Range<usize>,
    /// `None` if the order is the same.
    filters: Option<Filters>,
}

impl Placement {
    /// Lays out parameters; `filters` has those that are weights of convolutions of cuDNN, by index.
    pub fn new(parameters: &[Parameter], filters: &BTreeMap<usize, Filters>) -> Self {
        let (mut places, mut end) = (Vec::new(), 0usize);
        for (index, parameter) in parameters.iter().enumerate() {
            let start = end.next_multiple_of(ALIGNMENT);
            let filters = filters.get(&index).copied();
            let length = parameter.config.len();
            end = start + filters.map_or(length, |Filters { inputs, padded, .. }| length / inputs * padded);
            places.push(Place { host: parameter.range.clone(), device: start..end, filters });
        }
        let host_length = parameters.last().map_or(0, |parameter| parameter.range.end);
        Self { places, host_length, length: end.next_multiple_of(ALIGNMENT) }
    }

    /// The number of elements on the device.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The range of a parameter, given by index, on the device.
    pub fn range(&self, parameter: usize) -> Range<usize> {
        self.places[parameter].device.clone()
    }

    /// Converts from the host's to the device's layout; padding is 0.
    pub fn to_device(&self, host: &[f32]) -> Vec<f32> {
        let mut device = vec![0.0; self.length];
        self.each(|from, to| device[to] = host[from]);
        device
    }

    /// Converts from the device's to the host's layout.
    pub fn to_host(&self, device: &[f32]) -> Vec<f32> {
        let mut host = vec![0.0; self.host_length];
        self.each(|to, from| host[to] = device[from]);
        host
    }

    /// Visits the host and device index of every weight.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        for Place { host, device, filters } in &self.places {
            match filters {
                None => host.clone().zip(device.clone()).for_each(|(host, device)| visit(host, device)),
                Some(Filters { inputs, padded, outputs }) => {
                    let taps = host.len() / inputs / outputs;
                    for (i, host) in host.clone().enumerate() {
                        let (output, input, tap) = (i % outputs, i / outputs % inputs, i / outputs / inputs);
                        visit(host, device.start + (output * taps + tap) * padded + input);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Initial, ParameterConfig, WeightLayout};

    fn parameter(name: &'static str, shape: Vec<usize>, start: usize) -> Parameter {
        let config = ParameterConfig { name, shape, initial: Initial::Zeros, layout: WeightLayout::Same };
        Parameter { name: name.to_owned(), range: start..start + config.len(), config }
    }

    #[test]
    fn weights_round_trip() {
        let parameters =
            [parameter("w", vec![3, 3, 3, 5], 0), parameter("b", vec![5], 135), parameter("v", vec![3, 3, 5, 2], 140)];
        let filters = |inputs, padded, outputs| Filters { inputs, padded, outputs };
        let placement = Placement::new(&parameters, &[(0, filters(3, 4, 5)), (2, filters(5, 5, 2))].into());
        assert_eq!(placement.range(0), 0..180);
        assert_eq!(placement.range(1), 192..197);
        assert_eq!(placement.range(2), 256..346);
        let host: Vec<f32> = (1..=230).map(|i| i as f32).collect();
        let device = placement.to_device(&host);
        assert_eq!(placement.to_host(&device), host);
        // The weight of tap 4 from input 2 to output 3.
        assert_eq!(device[(3 * 9 + 4) * 4 + 2], host[(4 * 3 + 2) * 5 + 3]);
        assert!((0..45).all(|row| device[row * 4 + 3] == 0.0), "the padded input has zero weight");
    }
}
