//! Every operation by itself, on odd sizes.

use hamflow_stage_api::Random;

use super::{Finding, of_products, of_values};
use crate::ml::augment::{Affine, Augmentation, Draw, change_colours};
use crate::ml::cuda::CudaError;
use crate::ml::cuda::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use crate::ml::cuda::cursor::Cursor;
use crate::ml::cuda::epoch_buffer::{EpochBuffer, EpochValues};
use crate::ml::cuda::kernel::{BLOCK, Kernel};
use crate::ml::cuda::queue::{
    Argument::{self, F32, F64, Nothing, U32, U64},
    Convolution, ConvolutionPass, Matrix, Product, Queue,
};
use crate::ml::kernels::{
    AdamStep, ConvShape, Epilogue, Level, adam, conv3x3, conv3x3_weight_gradient, flip, max_pool, max_pool_gradient,
};
use crate::ml::layer::{Dense, ImageDropout, ImageLayer, ImageSeen, Pass, RowLayer, RowsSeen, mix};
use crate::ml::loss::{Loss, Target};
use crate::ml::mixup::Mix;
use crate::ml::normalisation::Normalisation;
use crate::ml::precision::Precision;
use crate::ml::shape::MapShape;

const SEED: u64 = 11;
const IMAGES: usize = 5;
const SHAPE: MapShape = MapShape { height: 13, width: 19, channels: 3 };
/// Of the layer of dropout.
const LAYER: u32 = 6;
const RATE: f64 = 0.4;

/// A queue with what the checks need again and again.
struct Device<'q, Q> {
    queue: &'q mut Q,
    precision: Precision,
    number: Number,
    random: Random,
}

pub(super) fn check<Q: Queue>(
    queue: &mut Q,
    precision: Precision,
    findings: &mut Vec<Finding>,
) -> Result<(), CudaError> {
    let number = if precision == Precision::Bf16 { Number::Bf16 } else { Number::F32 };
    let mut device = Device { queue, precision, number, random: Random::new(SEED, "check") };
    let mut found = device.drawing()?;
    found.extend(device.pooling()?);
    found.extend(device.bias()?);
    found.extend(device.dropping()?);
    found.extend(device.losses()?);
    found.extend(device.optimising()?);
    found.extend(device.convolving()?);
    found.extend(device.multiplying()?);
    findings.extend(found);
    Ok(())
}

impl<Q: Queue> Device<'_, Q> {
    fn named(&self, what: &str) -> String {
        format!("{what}, {:?}", self.precision).to_lowercase()
    }

    /// A comparison of what is only stored in the precision, or is the result of products in it.
    fn finding(&self, what: &str, ours: &[f32], theirs: &[f32]) -> Finding {
        Finding::new(self.named(what), ours, theirs, of_values(self.precision))
    }

    /// Numbers that every precision can hold.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.random.below(256) as f32 - 127.5) / 64.0).collect()
    }

    fn floats(&mut self, values: &[f32]) -> Result<Buffer, CudaError> {
        let buffer = self.queue.allocate(Number::F32, values.len())?;
        self.queue.upload(buffer, &f32_bytes(values))?;
        Ok(buffer)
    }

    /// Values in the precision of maps.
    fn map(&mut self, values: &[f32]) -> Result<Buffer, CudaError> {
        let wide = self.floats(values)?;
        if self.number == Number::F32 {
            return Ok(wide);
        }
        let narrow = self.queue.allocate(self.number, values.len())?;
        let arguments = [Argument::Buffer(wide), Argument::Buffer(narrow), U32(values.len() as u32)];
        self.queue.launch(Kernel::Narrow, values.len().div_ceil(BLOCK), &arguments)?;
        Ok(narrow)
    }

    fn read(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        if buffer.number == Number::F32 {
            return Ok(f32_values(&self.queue.download(buffer)?));
        }
        let wide = self.queue.allocate(Number::F32, buffer.length)?;
        let arguments = [Argument::Buffer(buffer), Argument::Buffer(wide), U32(buffer.length as u32)];
        self.queue.launch(Kernel::Widen, buffer.length.div_ceil(BLOCK), &arguments)?;
        self.read(wide)
    }

    fn either(&self, f32: Kernel, bf16: Kernel) -> Kernel {
        if self.number == Number::Bf16 { bf16 } else { f32 }
    }

    fn launch(&mut self, kernel: Kernel, values: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        // Fewer blocks than values need: the loops over them must go on.
        self.queue.launch(kernel, values.div_ceil(BLOCK).div_ceil(2), arguments)
    }

    /// A cursor at the beginning of its second step of `IMAGES`, and the keys of dropout for it.
    fn begun(&mut self, epoch: &EpochBuffer) -> Result<(Buffer, Buffer), CudaError> {
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        let at = Cursor { step: 6, index: 1, next: IMAGES as u64, ..Cursor::default() };
        self.queue.upload(cursor, &at.to_bytes())?;
        let layers = self.queue.allocate(Number::U32, 2)?;
        self.queue.upload(layers, &bytes_of(&[3, LAYER], u32::to_le_bytes))?;
        let keys = self.queue.allocate(Number::U64, 2 * IMAGES)?;
        let arguments = [cursor, epoch.alphas, keys, layers].map(Argument::Buffer);
        let numbers = [U32(2), U32(IMAGES as u32), U64(SEED)];
        self.queue.launch(Kernel::BeginStep, 1, &[&arguments[..], &numbers].concat())?;
        Ok((cursor, keys.slice(IMAGES..2 * IMAGES)))
    }

    /// How the processor drops in the step that has begun.
    fn pass() -> Pass {
        Pass { level: Level::detect(), dropout: Some(mix(SEED, 7)) }
    }

    /// The threshold and the scale of dropout.
    fn rate() -> [Argument; 2] {
        [U32((RATE * 4_294_967_296.0) as u32), F32((1.0 / (1.0 - RATE)) as f32)]
    }

    fn drawing(&mut self) -> Result<Vec<Finding>, CudaError> {
        let (all, stride) = (2 * IMAGES, 8);
        let images: Vec<Vec<u8>> =
            (0..all).map(|_| (0..SHAPE.len()).map(|_| self.random.below(256) as u8).collect()).collect();
        let augment = Augmentation {
            rotation: 40.0,
            flip_horizontal: true,
            flip_vertical: true,
            brightness: 0.3,
            contrast: 0.4,
            saturation: 0.5,
            ..Augmentation::default()
        };
        let draws: Vec<Draw> = (0..all).map(|_| augment.draw(&mut self.random)).collect();
        let order: Vec<u32> = (0..all as u32).map(|i| (i * 7 + 3) % all as u32).collect();
        let mixed = Mix::draw(&mut self.random, 1.0, IMAGES);
        let partners: Vec<u32> = mixed.partners().iter().map(|&partner| partner as u32).collect();
        let epoch = EpochBuffer::new(self.queue, all, 2)?;
        let values = EpochValues {
            moves: draws.iter().flat_map(|draw| Affine::new(draw, SHAPE).rows().concat()).collect(),
            colours: draws.iter().flat_map(|draw| draw.colour).collect(),
            targets: Vec::new(),
            order: order.clone(),
            partners: [&partners[..], &partners].concat(),
            alphas: vec![0.0; 2],
            shares: vec![mixed.share() as f32; 2],
        };
        epoch.upload(self.queue, &values)?;
        let (cursor, _) = self.begun(&epoch)?;
        let bytes = self.queue.allocate(Number::U8, all * SHAPE.len())?;
        self.queue.upload(bytes, &images.concat())?;
        let normalisation = Normalisation { mean: 131.0, standard_deviation: 47.0 };
        let table = self.floats(&normalisation.table())?;
        let output = self.queue.allocate(self.number, IMAGES * SHAPE.len() / 3 * stride)?;
        let pixels = self.queue.allocate(Number::F32, IMAGES * SHAPE.len())?;
        let area = SHAPE.height * SHAPE.width;

        let mut findings = Vec::new();
        let mut expected = vec![0.0; IMAGES * SHAPE.len()];
        // Pixels without the zeros that are added to them.
        let inside = |padded: Vec<f32>| -> Vec<f32> {
            padded
                .chunks(stride)
                .flat_map(|pixel| if pixel[3..] == [0.0; 5] { &pixel[..3] } else { &[] })
                .copied()
                .collect()
        };
        let steps: [(&str, bool); 2] = [("bytes are normalised", false), ("images are moved", true)];
        for (what, is_moved) in steps {
            for (expected, place) in expected.chunks_mut(SHAPE.len()).zip(IMAGES..) {
                let image = &images[order[place] as usize];
                let draw = if is_moved { draws[place] } else { still() };
                Affine::new(&draw, SHAPE).apply(SHAPE, image, &normalisation.table(), expected);
            }
            let moves = if is_moved { Argument::Buffer(epoch.moves) } else { Nothing };
            let inputs = [Argument::Buffer(bytes), Argument::Buffer(epoch.order), moves, Argument::Buffer(table)];
            let sizes = [IMAGES, SHAPE.height, SHAPE.width, SHAPE.channels].map(|size| U32(size as u32));
            let to = [Argument::Buffer(cursor), Argument::Buffer(output)];
            let kernel = self.either(Kernel::DrawF32, Kernel::DrawBf16);
            let arguments = [&inputs[..], &to, &sizes, &[U32(stride as u32)]].concat();
            self.launch(kernel, IMAGES * area, &arguments)?;
            let drawn = inside(self.read(output)?);
            findings.push(self.finding(what, &drawn, &expected));
            let to = [Argument::Buffer(cursor), Argument::Buffer(pixels)];
            self.launch(Kernel::DrawF32, IMAGES * area, &[&inputs[..], &to, &sizes, &[U32(3)]].concat())?;
        }

        for (expected, place) in expected.chunks_mut(SHAPE.len()).zip(IMAGES..) {
            change_colours(draws[place].colour, &normalisation, expected);
        }
        let arguments = [pixels, epoch.colours, cursor].map(Argument::Buffer);
        let numbers = [U32(area as u32), F64(normalisation.mean), F64(normalisation.standard_deviation)];
        self.queue.launch(Kernel::ChangeColours, IMAGES, &[&arguments[..], &numbers].concat())?;
        let coloured = self.read(pixels)?;
        findings.push(Finding::new(self.named("colours change"), &coloured, &expected, 1e-5));

        mixed.apply(&mut expected, &mut [Target::new(0, 1.0); IMAGES]);
        let arguments = [pixels, epoch.shares, epoch.partners, cursor, output].map(Argument::Buffer);
        let sizes = [IMAGES, area, 3, stride].map(|size| U32(size as u32));
        let kernel = self.either(Kernel::MixF32, Kernel::MixBf16);
        self.launch(kernel, IMAGES * area, &[&arguments[..], &sizes].concat())?;
        let mixed = inside(self.read(output)?);
        findings.push(self.finding("images are mixed", &mixed, &expected));
        Ok(findings)
    }

    fn pooling(&mut self) -> Result<Vec<Finding>, CudaError> {
        let shape = MapShape { channels: 35, ..SHAPE };
        let half = shape.halved();
        let epoch = EpochBuffer::new(self.queue, 2 * IMAGES, 2)?;
        let (_, keys) = self.begun(&epoch)?;
        let values = self.numbers(IMAGES * shape.len());
        let slopes = self.numbers(IMAGES * half.len());
        let (mut expected, mut expected_gradient) = (Vec::new(), Vec::new());
        let dropout = ImageDropout::new(half, RATE, LAYER.into());
        let pass = Self::pass();
        let bordered = |shape: MapShape, values: &[f32]| {
            let mut map = vec![0.0; shape.bordered_len()];
            shape.put(values, &mut map);
            map
        };
        let plain = |shape: MapShape, map: &[f32]| {
            let mut values = vec![0.0; shape.len()];
            shape.take(map, &mut values);
            values
        };
        for image in 0..IMAGES {
            let input = bordered(shape, &values[image * shape.len()..][..shape.len()]);
            let mut gradient = bordered(half, &slopes[image * half.len()..][..half.len()]);
            let [mut pooled, mut dropped, mut masked] = [(); 3].map(|()| vec![0.0; half.bordered_len()]);
            max_pool(pass.level, shape, &input, &mut pooled);
            dropout.forward(&pass, &[], image, &pooled, &mut dropped);
            expected.extend(plain(half, &dropped));
            let seen = ImageSeen { weights: &[], prepared: &[], image, input: &pooled, output: &dropped };
            dropout.backward(&pass, seen, &mut gradient, &mut [], Some(&mut masked));
            let mut back = vec![0.0; shape.bordered_len()];
            max_pool_gradient(pass.level, shape, &input, &masked, &mut back);
            expected_gradient.extend(plain(shape, &back));
        }
        let (input, gradient) = (self.map(&values)?, self.map(&slopes)?);
        let output = self.queue.allocate(self.number, IMAGES * half.len())?;
        // What was there before must not stay, in the odd last row and column either.
        let back = self.map(&vec![7.0; IMAGES * shape.len()])?;
        let sizes = [IMAGES, shape.height, shape.width, shape.channels].map(|size| U32(size as u32));
        let dropping = [&[Argument::Buffer(keys)][..], &Self::rate(), &sizes].concat();
        let forward = [&[input, output].map(Argument::Buffer)[..], &dropping].concat();
        let kernel = self.either(Kernel::PoolF32, Kernel::PoolBf16);
        self.launch(kernel, IMAGES * half.len(), &forward)?;
        let backward = [&[input, gradient, back].map(Argument::Buffer)[..], &dropping].concat();
        let kernel = self.either(Kernel::PoolGradientF32, Kernel::PoolGradientBf16);
        self.launch(kernel, IMAGES * shape.len(), &backward)?;
        let (pooled, back) = (self.read(output)?, self.read(back)?);
        Ok(vec![
            self.finding("windows are pooled and dropped", &pooled, &expected),
            self.finding("the gradient of pooling", &back, &expected_gradient),
        ])
    }

    fn bias(&mut self) -> Result<Vec<Finding>, CudaError> {
        let mut findings = Vec::new();
        for channels in [7, 64, 300] {
            let rows = 137;
            let count = rows * channels;
            let (values, bias, slopes) = (self.numbers(count), self.numbers(channels), self.numbers(count));
            // A dense layer whose matrix changes nothing is the bias and ReLU alone.
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

    fn dropping(&mut self) -> Result<Vec<Finding>, CudaError> {
        let shape = MapShape { channels: 5, ..SHAPE };
        let epoch = EpochBuffer::new(self.queue, 2 * IMAGES, 2)?;
        let (_, keys) = self.begun(&epoch)?;
        let values = self.numbers(IMAGES * shape.len());
        let mut of_maps = Vec::new();
        let layer = ImageDropout::new(shape, RATE, LAYER.into());
        for (image, values) in values.chunks(shape.len()).enumerate() {
            let (mut input, mut output) = (vec![0.0; shape.bordered_len()], vec![0.0; shape.bordered_len()]);
            shape.put(values, &mut input);
            layer.forward(&Self::pass(), &[], image, &input, &mut output);
            let mut plain = vec![0.0; shape.len()];
            shape.take(&output, &mut plain);
            of_maps.extend(plain);
        }
        let mut of_rows = vec![0.0; values.len()];
        let layer = crate::ml::layer::RowDropout::new(shape.len(), RATE, LAYER.into());
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

    fn losses(&mut self) -> Result<Vec<Finding>, CudaError> {
        // More images than a block has threads.
        let (images, classes) = (300, 7);
        let logits: Vec<f32> = self.numbers(images * classes).iter().map(|value| value * 3.0).collect();
        let target = |i: usize| Target {
            class: i % classes,
            weight: 0.3 + (i % 5) as f64,
            mixed: i.is_multiple_of(3).then_some(((i + 2) % classes, 0.4)),
        };
        let targets: Vec<Target> = (0..images).map(target).collect();
        let epoch = EpochBuffer::new(self.queue, images, 1)?;
        epoch.upload(self.queue, &EpochValues { targets: targets.clone(), ..EpochValues::default() })?;
        let buffer = self.floats(&logits)?;
        let slopes = self.queue.allocate(Number::F32, logits.len())?;
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        let mut findings = Vec::new();
        for (label_smoothing, focal) in [(0.0, 0.0), (0.1, 0.0), (0.0, 2.0), (0.1, 1.5)] {
            let (loss, gradient) = Loss { label_smoothing, focal }.of(&logits, &targets);
            self.queue.upload(cursor, &Cursor::default().to_bytes())?;
            let arguments = [buffer, epoch.targets, cursor, slopes].map(Argument::Buffer);
            let numbers = [U32(images as u32), U32(classes as u32), F64(label_smoothing), F64(focal)];
            self.queue.launch(Kernel::LossGradient, 1, &[&arguments[..], &numbers].concat())?;
            let ours = self.read(slopes)?;
            let what = self.named(&format!("the gradient of the loss, smoothed by {label_smoothing}, focal {focal}"));
            findings.push(Finding::new(what, &ours, &gradient, 1e-6));
            let said = Cursor::from_bytes(&self.queue.download(cursor)?);
            let (ours, theirs) = ([said.loss as f32, said.correct as f32], [loss.sum as f32, loss.correct as f32]);
            findings.push(Finding::new(self.named("the loss and the right answers"), &ours, &theirs, 1e-6));
        }
        Ok(findings)
    }

    fn optimising(&mut self) -> Result<Vec<Finding>, CudaError> {
        let count = 5003;
        let (gradient, first, weights) = (self.numbers(count), self.numbers(count), self.numbers(count));
        let second: Vec<f32> = self.numbers(count).iter().map(|value| value * value).collect();
        let step = AdamStep { alpha: 1e-2, rate1: 0.1, rate2: 1e-3, epsilon: 1e-7 };
        let most = 10.0;
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let clipped: Vec<f32> = gradient.iter().map(|value| value * (most / norm) as f32).collect();
        let (mut m, mut v, mut w) = (first.clone(), second.clone(), weights.clone());
        adam(Level::detect(), step, &clipped, &mut m, &mut v, &mut w);

        let buffers = [&gradient, &first, &second, &weights].map(|values| self.floats(values));
        let [gradient, first, second, weights] = buffers;
        let (gradient, first, second, weights) = (gradient?, first?, second?, weights?);
        let narrow = self.queue.allocate(Number::Bf16, count)?;
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        self.queue.upload(cursor, &Cursor { step: 3, alpha: step.alpha, ..Cursor::default() }.to_bytes())?;
        let blocks = 9;
        let sums = self.queue.allocate(Number::F64, blocks)?;
        let arguments = [Argument::Buffer(gradient), Argument::Buffer(sums), U32(count as u32)];
        self.queue.launch(Kernel::SquareSums, blocks, &arguments)?;
        let arguments = [Argument::Buffer(sums), U32(blocks as u32), F64(most), Argument::Buffer(cursor)];
        self.queue.launch(Kernel::ClipFactor, 1, &arguments)?;
        let arguments = [gradient, first, second, weights, narrow, cursor].map(Argument::Buffer);
        let numbers = [U32(count as u32), F32(step.rate1), F32(step.rate2), F32(step.epsilon)];
        let arguments = [&arguments[..], &numbers].concat();
        self.launch(Kernel::Adam, count, &arguments)?;
        let ours = [self.read(first)?, self.read(second)?, self.read(weights)?].concat();
        let mut findings = vec![
            Finding::new(self.named("clipping and Adam"), &ours, &[m, v, w.clone()].concat(), 1e-6),
            Finding::new(self.named("weights in bf16"), &self.read(narrow)?, &w, 1.0 / 256.0),
        ];

        // Behind a bad step nothing moves, and in it the second moments take the gradient.
        self.queue.upload(cursor, &Cursor { step: 4, bad_step: 4, ..Cursor::default() }.to_bytes())?;
        self.launch(Kernel::Adam, count, &arguments)?;
        let (ours, theirs) = ([self.read(weights)?, self.read(second)?].concat(), [w, self.read(gradient)?].concat());
        findings.push(Finding::new(self.named("a bad step"), &ours, &theirs, 1e-6));
        Ok(findings)
    }

    fn convolving(&mut self) -> Result<Vec<Finding>, CudaError> {
        let level = Level::detect();
        let mut findings = Vec::new();
        for (inputs, outputs) in [(8, 32), (32, 64)] {
            let MapShape { height, width, .. } = SHAPE;
            let convolution = Convolution { images: IMAGES, height, width, inputs, outputs };
            let shape = ConvShape { height, width, inputs, outputs };
            let (from, to) = (MapShape { channels: inputs, ..SHAPE }, MapShape { channels: outputs, ..SHAPE });
            let values = self.numbers(convolution.input_len());
            let weights = self.numbers(convolution.filter_len());
            let slopes = self.numbers(convolution.output_len());
            // `[taps, inputs, outputs]` here, `[outputs, taps, inputs]` on the device.
            let turned: Vec<f32> = (0..weights.len())
                .map(|i| weights[(i / inputs % 9 * inputs + i % inputs) * outputs + i / inputs / 9])
                .collect();
            let mut flipped = vec![0.0; weights.len()];
            flip(shape, &weights, &mut flipped);
            let back = ConvShape { inputs: outputs, outputs: inputs, ..shape };
            let [mut forward, mut backward] = [Vec::new(), Vec::new()];
            let mut of_weights = vec![0.0f32; weights.len()];
            for image in 0..IMAGES {
                let [mut input, mut back_map] = [(); 2].map(|()| vec![0.0; from.bordered_len()]);
                let [mut gradient, mut output] = [(); 2].map(|()| vec![0.0; to.bordered_len()]);
                from.put(&values[image * from.len()..][..from.len()], &mut input);
                to.put(&slopes[image * to.len()..][..to.len()], &mut gradient);
                conv3x3(level, shape, &input, &weights, Epilogue::Plain, &mut output);
                conv3x3(level, back, &gradient, &flipped, Epilogue::Plain, &mut back_map);
                let mut sums = vec![0.0; weights.len()];
                conv3x3_weight_gradient(level, shape, &input, &gradient, &mut sums);
                of_weights.iter_mut().zip(sums).for_each(|(sum, value)| *sum += value);
                let mut plain = vec![0.0; to.len()];
                to.take(&output, &mut plain);
                forward.extend(plain);
                let mut plain = vec![0.0; from.len()];
                from.take(&back_map, &mut plain);
                backward.extend(plain);
            }
            let of_weights: Vec<f32> = (0..weights.len())
                .map(|i| of_weights[(i / inputs % 9 * inputs + i % inputs) * outputs + i / inputs / 9])
                .collect();

            self.queue.prepare(&[convolution])?;
            let (input, filters, gradient) = (self.map(&values)?, self.map(&turned)?, self.map(&slopes)?);
            let output = self.queue.allocate(self.number, convolution.output_len())?;
            let input_gradient = self.queue.allocate(self.number, convolution.input_len())?;
            let filter_gradient = self.queue.allocate(self.number, convolution.filter_len())?;
            let passes = [
                ("a convolution", ConvolutionPass::Forward { input, filters, output }, output, &forward),
                (
                    "the gradient of a convolution's input",
                    ConvolutionPass::InputGradient { filters, gradient, input_gradient },
                    input_gradient,
                    &backward,
                ),
                (
                    "the gradient of a convolution's weights",
                    ConvolutionPass::FilterGradient { input, gradient, filter_gradient },
                    filter_gradient,
                    &of_weights,
                ),
            ];
            for (what, pass, result, expected) in passes {
                self.queue.convolve(&convolution, pass)?;
                let ours = self.read(result)?;
                let what = self.named(&format!("{what}, {inputs} to {outputs} channels"));
                findings.push(Finding::new(what, &ours, expected, of_products(self.precision)));
            }
        }
        Ok(findings)
    }

    fn multiplying(&mut self) -> Result<Vec<Finding>, CudaError> {
        let (rows, inner, columns) = (13, 72, 7);
        let (a, b) = (self.numbers(rows * inner), self.numbers(inner * columns));
        let mut expected = vec![0.0f32; rows * columns];
        for (i, sum) in expected.iter_mut().enumerate() {
            let terms =
                (0..inner).map(|k| f64::from(a[i / columns * inner + k]) * f64::from(b[k * columns + i % columns]));
            *sum = terms.sum::<f64>() as f32;
        }
        let turned = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
        };
        let (a_turned, b_turned) = (turned(&a, rows, inner), turned(&b, inner, columns));
        let mut findings = Vec::new();
        for (what, left, right) in [
            ("a product", (&a, false), (&b, false)),
            ("a product with the left turned", (&a_turned, true), (&b, false)),
            ("a product with the right turned", (&a, false), (&b_turned, true)),
        ] {
            let left = Matrix { buffer: self.map(left.0)?, is_turned: left.1 };
            let right = Matrix { buffer: self.map(right.0)?, is_turned: right.1 };
            let output = self.queue.allocate(Number::F32, rows * columns)?;
            self.queue.multiply(&Product { rows, inner, columns, left, right, output })?;
            let ours = self.read(output)?;
            findings.push(Finding::new(self.named(what), &ours, &expected, of_products(self.precision)));
        }
        Ok(findings)
    }
}

/// A draw that moves nothing.
fn still() -> Draw {
    Draw { rotation: 0.0, shift: [0.0; 2], zoom: [1.0; 2], flip: [false; 2], colour: [1.0; 3] }
}
