//! Max pooling: over 2×2 windows, or over larger, overlapping ones.

use super::{Backward, ImagePass, MapOp, OpWeights, Padding, Requires, Scratch, Sink, Source, Window};
use crate::op::access::{TILE, part};
use hamflow_kernels::network::{Windows, max_pool, max_pool_gradient, window_max, window_max_gradient};
use hamflow_kernels::shape::{MapShape, spans};

/// `[height, width, channels]` → `[height', width', channels]`; no weights.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    input: MapShape,
    output: MapShape,
    /// Size, stride and padding of overlapping windows; `None` for 2×2 windows without overlap.
    overlapping: Option<[usize; 3]>,
}

impl MaxPool {
    /// Over 2×2 windows; an odd last row or column is ignored. The error is the end of a sentence.
    pub fn halving(input: MapShape) -> Result<Self, String> {
        let output = input.halved();
        match output.is_empty() {
            true => Err(format!("a map of {}×{} is too small for 2×2 pooling", input.height, input.width)),
            false => Ok(Self { input, output, overlapping: None }),
        }
    }

    /// Over 3×3 windows at a distance of 2, with padding of 1, as in ResNet. The error is the end of a sentence.
    pub fn overlapping(input: MapShape) -> Result<Self, String> {
        let [size, stride, padding] = [3, 2, 1];
        let length = |length: usize| Padding::Both(padding).resolve(length, size, stride).map(|(_, count)| count);
        let (Some(height), Some(width)) = (length(input.height), length(input.width)) else {
            return Err(format!("a map of {}×{} is too small for 3×3 pooling", input.height, input.width));
        };
        Ok(Self { input, output: MapShape { height, width, ..input }, overlapping: Some([size, stride, padding]) })
    }

    /// The window.
    pub fn window(&self) -> Window {
        match self.overlapping {
            // An odd last row or column is ignored, as it is in ONNX without padding.
            None => Window { size: 2, stride: 2, padding: [0; 4] },
            Some([size, stride, padding]) => Window::new(size, stride, [padding; 2], [self.input, self.output]),
        }
    }

    /// Whether the windows are 2×2 and do not overlap.
    pub fn is_halving(&self) -> bool {
        self.overlapping.is_none()
    }
}

impl MapOp for MaxPool {
    fn kind(&self) -> String {
        match self.overlapping {
            None => "max pool 2×2".to_owned(),
            Some([size, stride, _]) => format!("max pool {size}×{size}, stride {stride}"),
        }
    }

    fn output(&self) -> MapShape {
        self.output
    }

    fn requires(&self) -> Requires {
        Requires::Values
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        _scratch: &mut Scratch,
    ) {
        let (level, input) = (pass.pass.level, inputs[0]);
        match self.overlapping {
            None => max_pool(level, input.layout, output.layout, input.stored, output.values),
            Some([size, stride, padding]) => {
                let windows = Windows { input: input.layout, output: output.layout, size, stride, padding };
                window_max(level, windows, input.stored, output.values);
            }
        }
        spans(&[output.layout], TILE).for_each(|span| output.finish(level, span));
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        Backward { inputs, output, input_gradients, .. }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let Some(input_gradient) = &mut input_gradients[0] else { return };
        let (level, input, adds) = (pass.pass.level, inputs[0], input_gradient.adds);
        spans(&[output.layout], TILE).for_each(|span| {
            output.resolve(level, span);
        });
        let all = || spans(&[input.layout], TILE);
        match self.overlapping {
            None if !adds => {
                max_pool_gradient(
                    level,
                    input.layout,
                    output.layout,
                    input.stored,
                    output.gradient,
                    input_gradient.gradient,
                );
            }
            None => {
                let result = part(&mut scratch.result, input.layout.len());
                max_pool_gradient(level, input.layout, output.layout, input.stored, output.gradient, result);
                all().for_each(|span| input_gradient.put(span, &result[input.layout.range(span)]));
            }
            Some([size, stride, padding]) => {
                if !adds {
                    all().for_each(|span| input_gradient.span(span).fill(0.0));
                }
                let windows = Windows { input: input.layout, output: output.layout, size, stride, padding };
                window_max_gradient(level, windows, input.stored, output.gradient, input_gradient.gradient);
            }
        }
        all().for_each(|span| input_gradient.finish(level, span));
    }
}
