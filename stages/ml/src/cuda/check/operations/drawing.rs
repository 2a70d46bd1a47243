//! From image bytes to the network's input.

use super::{Device, IMAGES, SHAPE};
use crate::augment::{Affine, Augmentation, Draw, change_colours, erase};
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number, bytes_of};
use crate::cuda::check::Finding;
use crate::cuda::epoch_buffer::{BLENDED, EpochBuffer, EpochValues, rectangle};
use crate::cuda::kernel::Kernel;
use crate::cuda::queue::{
    Argument::{self, Nothing, U32},
    Queue,
};
use crate::loss::Target;
use crate::mixup::Mix;
use crate::normalisation::{Channels, Normalisation};

/// The number of values per pixel, including padding.
const STRIDE: usize = 8;

const AUGMENT: Augmentation = Augmentation {
    rotation: 40.0,
    zoom: 0.1,
    shift: 0.1,
    flip_horizontal: true,
    flip_vertical: true,
    brightness: 0.3,
    contrast: 0.4,
    saturation: 0.5,
    crop: 0.5,
    quarter_turns: true,
    erasing: 0.7,
};

impl<Q: Queue> Device<'_, Q> {
    pub(super) fn drawing(&mut self) -> Result<Vec<Finding>, CudaError> {
        let (all, stride) = (2 * IMAGES, STRIDE);
        let images: Vec<Vec<u8>> =
            (0..all).map(|_| (0..SHAPE.len()).map(|_| self.random.below(256) as u8).collect()).collect();
        let draws: Vec<Draw> = (0..all).map(|_| AUGMENT.draw(&mut self.random)).collect();
        let order: Vec<u32> = (0..all as u32).map(|i| (i * 7 + 3) % all as u32).collect();
        let mixed = Mix::draw(&mut self.random, 1.0, IMAGES);
        let pasted = Mix::cut(&mut self.random, 1.0, IMAGES, SHAPE);
        let epoch = EpochBuffer::new(self.queue, all, 2, 0)?;
        let values = epoch_values(&draws, &order, &mixed);
        epoch.upload(self.queue, &values)?;
        let (cursor, _) = self.begun()?;
        let bytes = self.queue.allocate(Number::U8, all * SHAPE.len())?;
        self.queue.upload(bytes, &images.concat())?;
        let (mean, deviation) = ([131.0, 120.0, 99.0], [47.0, 45.0, 51.0]);
        let normalisation = Normalisation { mean: Channels::Each(mean), standard_deviation: Channels::Each(deviation) };
        let table = self.floats(&normalisation.table().concat())?;
        let scales = self.queue.allocate(Number::F64, 6)?;
        self.queue.upload(scales, &bytes_of(&[mean, deviation].concat(), f64::to_le_bytes))?;
        let output = self.queue.allocate(self.number, IMAGES * SHAPE.len() / 3 * stride)?;
        let pixels = self.queue.allocate(Number::F32, IMAGES * SHAPE.len())?;
        let area = SHAPE.height * SHAPE.width;

        let mut findings = Vec::new();
        let mut expected = vec![0.0; IMAGES * SHAPE.len()];
        let steps: [(&str, bool); 2] = [("bytes are normalised", false), ("images are moved", true)];
        for (what, is_moved) in steps {
            for (expected, place) in expected.chunks_mut(SHAPE.len()).zip(IMAGES..) {
                let image = &images[order[place] as usize];
                let draw = if is_moved { draws[place] } else { Draw::NONE };
                Affine::new(&draw, SHAPE).apply(SHAPE, image, &normalisation.table(), expected);
            }
            let moves = if is_moved { Argument::Buffer(epoch.moves) } else { Nothing };
            let inputs = [Argument::Buffer(bytes), Argument::Buffer(epoch.order), moves, Argument::Buffer(table)];
            let sizes = [IMAGES, SHAPE.height, SHAPE.width, SHAPE.channels].map(|size| U32(size as u32));
            let to = [Argument::Buffer(cursor), Argument::Buffer(output)];
            let kernel = self.either(Kernel::DrawF32, Kernel::DrawBf16);
            let arguments = [&inputs[..], &to, &sizes, &[U32(stride as u32)]].concat();
            self.launch(kernel, IMAGES * area, &arguments)?;
            let drawn = without_padding(&self.read(output)?);
            findings.push(self.finding(what, &drawn, &expected));
            let to = [Argument::Buffer(cursor), Argument::Buffer(pixels)];
            self.launch(Kernel::DrawF32, IMAGES * area, &[&inputs[..], &to, &sizes, &[U32(3)]].concat())?;
        }

        for (expected, place) in expected.chunks_mut(SHAPE.len()).zip(IMAGES..) {
            change_colours(draws[place].colour, &normalisation, expected);
        }
        let arguments = [pixels, epoch.colours, cursor].map(Argument::Buffer);
        let numbers = [U32(area as u32), Argument::Buffer(scales)];
        self.queue.launch(Kernel::ChangeColours, IMAGES, &[&arguments[..], &numbers].concat())?;
        let coloured = self.read(pixels)?;
        findings.push(Finding::new(self.named("colours change"), &coloured, &expected, 1e-5));

        for (expected, place) in expected.chunks_mut(SHAPE.len()).zip(IMAGES..) {
            if let Some(part) = draws[place].erased {
                erase(part, SHAPE, expected);
            }
        }
        let buffers = [pixels, cursor, output];
        findings.push(self.mixing("images are mixed", &mixed, &epoch, buffers, expected.clone())?);
        epoch.upload(self.queue, &epoch_values(&draws, &order, &pasted))?;
        findings.push(self.mixing("rectangles are pasted", &pasted, &epoch, buffers, expected)?);
        Ok(findings)
    }

    /// Erases and mixes pixels; `expected` are the erased ones.
    fn mixing(
        &mut self,
        what: &str,
        mix: &Mix,
        epoch: &EpochBuffer,
        [pixels, cursor, output]: [Buffer; 3],
        mut expected: Vec<f32>,
    ) -> Result<Finding, CudaError> {
        mix.apply(SHAPE, &mut expected, &mut [Target::new(0, 1.0); IMAGES]);
        let buffers = [pixels, epoch.erased, epoch.shares, epoch.pasted, epoch.partners, cursor, output];
        let sizes = [IMAGES, SHAPE.height, SHAPE.width, 3, STRIDE].map(|size| U32(size as u32));
        let kernel = self.either(Kernel::MixF32, Kernel::MixBf16);
        let values = IMAGES * SHAPE.height * SHAPE.width;
        self.launch(kernel, values, &[&buffers.map(Argument::Buffer)[..], &sizes].concat())?;
        let ours = without_padding(&self.read(output)?);
        Ok(self.finding(what, &ours, &expected))
    }
}

/// The parameters of an epoch of two steps that draw these images.
fn epoch_values(draws: &[Draw], order: &[u32], mix: &Mix) -> EpochValues {
    let partners: Vec<u32> = mix.partners().iter().map(|&partner| partner as u32).collect();
    let pasted = mix.pasted().map_or([BLENDED, 0, 0, 0], rectangle);
    let values = EpochValues {
        order: order.to_vec(),
        partners: partners.repeat(2),
        shares: vec![mix.share() as f32; 2],
        pasted: pasted.repeat(2),
        ..EpochValues::default()
    };
    values.moved(draws, SHAPE)
}

/// Pixels without their zero padding.
fn without_padding(padded: &[f32]) -> Vec<f32> {
    let pixels = padded.chunks(STRIDE);
    pixels.flat_map(|pixel| if pixel[3..] == [0.0; 5] { &pixel[..3] } else { &[] }).copied().collect()
}
