//! Pooling, bias, ReLU, dropout, and their gradients.

use super::{Device, IMAGES, LAYER, RATE, SHAPE};
use crate::cuda::CudaError;
use crate::cuda::buffer::Number;
use crate::cuda::check::Finding;
use crate::cuda::kernel::Kernel;
use crate::cuda::queue::{
    Argument::{self, U32},
    Queue,
};
use crate::op::{Dense, ImageDropout, ImagePass, MaxPool, RowDropout, RowOp, RowsSeen, apply};
use hamflow_kernels::shape::MapShape;

impl<Q: Queue> Device<'_, Q> {
    pub(super) fn pooling(&mut self, channels: usize) -> Result<Vec<Finding>, CudaError> {
        let shape = MapShape { channels, ..SHAPE };
        let half = shape.halved();
        let (_, keys) = self.begun()?;
        let values = self.numbers(IMAGES * shape.len());
        let slopes = self.numbers(IMAGES * half.len());
        let (mut expected, mut expected_gradient) = (Vec::new(), Vec::new());
        let dropout = ImageDropout::new(half, RATE, LAYER.into());
        let pass = Self::pass();
        let pooling = MaxPool::halving(shape).map_err(|what| CudaError::Unsupported { what })?;
        for image in 0..IMAGES {
            let pass = ImagePass { pass: &pass, image };
            let input = (shape, &values[image * shape.len()..][..shape.len()]);
            let pooled = apply::forward(&pooling, &pass, &[], &[input]);
            expected.extend(apply::forward(&dropout, &pass, &[], &[(half, &pooled)]));
            let gradient = &slopes[image * half.len()..][..half.len()];
            let (_, masked) = apply::backward(&dropout, &pass, &[], &[(half, &pooled)], gradient);
            let (_, back) = apply::backward(&pooling, &pass, &[], &[input], &masked[0]);
            expected_gradient.extend(&back[0]);
        }
        let (input, gradient) = (self.map(&values)?, self.map(&slopes)?);
        let output = self.queue.allocate(self.number, IMAGES * half.len())?;
        // Previous values must be overwritten, including in the odd last row and column.
        let back = self.map(&vec![7.0; IMAGES * shape.len()])?;
        let sizes = [IMAGES, shape.height, shape.width, shape.channels].map(|size| U32(size as u32));
        let dropping = [&[Argument::Buffer(keys)][..], &Self::rate(), &sizes].concat();
        let forward = [&[input, output].map(Argument::Buffer)[..], &dropping].concat();
        let kernel = self.either(Kernel::PoolF32, Kernel::PoolBf16);
        self.launch(kernel, IMAGES * half.len(), &forward)?;
        let backward = [&[input, gradient, back].map(Argument::Buffer)[..], &dropping, &[U32(0)]].concat();
        let kernel = self.either(Kernel::PoolGradientF32, Kernel::PoolGradientBf16);
        self.launch(kernel, IMAGES * shape.len(), &backward)?;
        let (pooled, back) = (self.read(output)?, self.read(back)?);
        Ok(vec![
            self.finding(&format!("{channels} channels are pooled and dropped"), &pooled, &expected),
            self.finding(&format!("the gradient of pooling {channels} channels"), &back, &expected_gradient),
        ])
    }

    pub(super) fn bias(&mut self) -> Result<Vec<Finding>, CudaError> {
        let mut findings = Vec::new();
        for channels in [7, 64, 300] {
            let rows = 137;
            let count = rows * channels;
            let (values, bias, slopes) = (self.numbers(count), self.numbers(channels), self.numbers(count));
            // A dense layer with the identity matrix is just bias and ReLU.
            let layer = Dense::new(channels, channels, true);
            let unit: Vec<f32> =
                (0..channels * channels).map(|i| if i / channels == i % channels { 1.0 } else { 0.0 }).collect();
            let weights: [&[f32]; 2] = [&unit, &bias];
            let (mut output, mut gradient) = (vec![0.0; count], slopes.clone());
            layer.forward(&Self::pass(), &weights, rows, &values, &mut output);
            let seen = RowsSeen { weights: &weights, rows, input: &values, output: &output };
            let (mut of_weights, mut masked) = (vec![0.0; channels * (channels + 1)], vec![0.0; count]);
            layer.backward(&Self::pass(), seen, &mut gradient, &mut of_weights, &mut masked);

            let (input, bias) = (self.map(&values)?, self.floats(&bias)?);
            let sizes = [U32(count as u32), U32(channels as u32), U32(1)];
            let kernel = self.either(Kernel::BiasF32, Kernel::BiasBf16);
            self.launch(kernel, count, &[&[input, bias, input].map(Argument::Buffer)[..], &sizes].concat())?;
            let ours = self.read(input)?;
            findings.push(self.finding(&format!("bias and ReLU of {channels} channels"), &ours, &output));

            let (output, gradient) = (self.map(&output)?, self.map(&slopes)?);
            let (per_block, blocks) = (16, rows.div_ceil(16));
            let partial = self.queue.allocate(Number::F32, blocks * channels)?;
            let sums = self.queue.allocate(Number::F32, channels)?;
            let kernel = self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16);
            let sizes = [U32(rows as u32), U32(channels as u32), U32(per_block), U32(1)];
            let arguments = [output, gradient, gradient, partial].map(Argument::Buffer);
            self.queue.launch(kernel, blocks, &[&arguments[..], &sizes].concat())?;
            let sizes = [U32(blocks as u32), U32(channels as u32)];
            let arguments = [&[partial, sums].map(Argument::Buffer)[..], &sizes].concat();
            self.queue.launch(Kernel::SumPartials, channels, &arguments)?;
            let (ours, sums) = (self.read(gradient)?, self.read(sums)?);
            findings.push(self.finding(&format!("ReLU's gradient of {channels} channels"), &ours, &masked));
            let expected = &of_weights[channels * channels..];
            findings.push(self.finding(&format!("the bias' gradient of {channels} channels"), &sums, expected));
        }
        Ok(findings)
    }

    pub(super) fn dropping(&mut self) -> Result<Vec<Finding>, CudaError> {
        let shape = MapShape { channels: 5, ..SHAPE };
        let (_, keys) = self.begun()?;
        let values = self.numbers(IMAGES * shape.len());
        let mut of_maps = Vec::new();
        let layer = ImageDropout::new(shape, RATE, LAYER.into());
        for (image, values) in values.chunks(shape.len()).enumerate() {
            let pass = Self::pass();
            of_maps.extend(apply::forward(&layer, &ImagePass { pass: &pass, image }, &[], &[(shape, values)]));
        }
        let mut of_rows = vec![0.0; values.len()];
        let layer = RowDropout::new(shape.len(), RATE, LAYER.into());
        layer.forward(&Self::pass(), &[], IMAGES, &values, &mut of_rows);
        let mut findings = Vec::new();
        for (what, length, expected) in
            [("maps are dropped", shape.len(), of_maps), ("rows are dropped", values.len(), of_rows)]
        {
            let (input, output) = (self.map(&values)?, self.queue.allocate(self.number, values.len())?);
            let sizes = [U32(values.len() as u32), U32(length as u32)];
            let arguments = [&[input, output, keys].map(Argument::Buffer)[..], &Self::rate(), &sizes].concat();
            let kernel = self.either(Kernel::DropoutF32, Kernel::DropoutBf16);
            self.launch(kernel, values.len(), &arguments)?;
            let ours = self.read(output)?;
            findings.push(self.finding(what, &ours, &expected));
        }
        Ok(findings)
    }
}
