//! Clipping, the optimisers, and the moving average of the weights.

use super::Device;
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number};
use crate::cuda::check::Finding;
use crate::cuda::cursor::Cursor;
use crate::cuda::epoch_buffer::{EpochBuffer, EpochValues};
use crate::cuda::kernel::Kernel;
use crate::cuda::queue::{
    Argument::{self, F32, F64, U32},
    Queue,
};
use crate::cuda::rate::Rate;
use crate::optim::{Adam, AdamW, Optimiser, Sgd, Update};
use hamflow_kernels::network::{Level, blend};

const COUNT: usize = 5003;
/// The weights of the first group; those of the second decay, those of the third are frozen.
const GROUPS: [std::ops::Range<usize>; 3] = [0..1800, 1800..4000, 4000..COUNT];
/// The number of the step.
const STEP: u64 = 4;
const MOST: f64 = 10.0;
const LEARNING_RATE: f64 = 1e-2;

/// An optimiser with the rates of its groups, and what its kernel gets after the other arguments.
struct Case {
    name: &'static str,
    optimiser: Box<dyn Optimiser>,
    kernel: Kernel,
    rates: [Rate; 2],
    numbers: Vec<Argument>,
}

fn cases() -> [Case; 3] {
    let adam = Adam::coefficients(LEARNING_RATE, STEP);
    let of_adam = Rate { alpha: adam.alpha, decay: 1.0, epsilon: adam.epsilon, trains: true };
    let step = AdamW::coefficients(LEARNING_RATE, STEP);
    let adam_w = AdamW { weight_decay: 0.3 };
    let of_adam_w = Rate { alpha: step.alpha, decay: 1.0, epsilon: step.epsilon, trains: true };
    let of_sgd = Rate { alpha: LEARNING_RATE as f32, decay: 0.0, epsilon: 0.0, trains: true };
    let numbers = || vec![F32(adam.rate1), F32(adam.rate2)];
    [
        Case { name: "Adam", optimiser: Box::new(Adam), kernel: Kernel::Adam, rates: [of_adam; 2], numbers: numbers() },
        Case {
            name: "AdamW",
            optimiser: Box::new(adam_w),
            kernel: Kernel::Adam,
            rates: [of_adam_w, Rate { decay: adam_w.shrinkage(LEARNING_RATE), ..of_adam_w }],
            numbers: numbers(),
        },
        Case {
            name: "SGD",
            optimiser: Box::new(Sgd { weight_decay: 0.3, momentum: 0.9 }),
            kernel: Kernel::Momentum,
            rates: [of_sgd, Rate { decay: 0.3, ..of_sgd }],
            numbers: vec![F32(0.9)],
        },
    ]
}

impl<Q: Queue> Device<'_, Q> {
    pub(super) fn optimising(&mut self) -> Result<Vec<Finding>, CudaError> {
        let groups = self.queue.allocate(Number::U8, COUNT)?;
        let of_weight = |i: usize| GROUPS.iter().position(|group| group.contains(&i)).unwrap_or(0) as u8;
        self.queue.upload(groups, &(0..COUNT).map(of_weight).collect::<Vec<u8>>())?;
        let mut findings = Vec::new();
        for case in cases() {
            findings.extend(self.one_step(case, groups)?);
        }
        findings.push(self.averaging()?);
        Ok(findings)
    }

    /// Clipping and a step, then a step after a loss that is not finite.
    fn one_step(&mut self, case: Case, groups: Buffer) -> Result<Vec<Finding>, CudaError> {
        let Case { name, optimiser, kernel, rates: [plain, decaying], numbers } = case;
        let (gradient, first, weights) = (self.numbers(COUNT), self.numbers(COUNT), self.numbers(COUNT));
        let second: Vec<f32> = self.numbers(COUNT).iter().map(|value| value * value).collect();
        let trained = 0..GROUPS[2].start;
        let norm = gradient[trained].iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let clipped: Vec<f32> = gradient.iter().map(|value| value * (MOST / norm) as f32).collect();
        let mut expected = [first.clone(), second.clone(), weights.clone()];
        for (group, decays) in GROUPS.into_iter().zip([false, true]) {
            let level = Level::detect();
            let gradient = &clipped[group.clone()];
            let update = Update { level, step: STEP, learning_rate: LEARNING_RATE, decays, gradient };
            let [first, second, weights] = expected.each_mut().map(|values| &mut values[group.clone()]);
            match optimiser.vectors() {
                1 => optimiser.update(update, &mut [first], weights),
                _ => optimiser.update(update, &mut [first, second], weights),
            }
        }

        let epoch = EpochBuffer::new(self.queue, 0, 2, GROUPS.len())?;
        let rates = [plain, decaying, Rate::default()];
        epoch
            .upload(self.queue, &EpochValues { rates: [[Rate::default(); 3], rates].concat(), ..Default::default() })?;
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        let at = Cursor { step: STEP - 1, index: 2, ..Cursor::default() };
        self.queue.upload(cursor, &at.to_bytes())?;
        let buffers = [self.floats(&gradient)?, self.floats(&first)?, self.floats(&second)?, self.floats(&weights)?];
        let [device, first, second, weights] = buffers;
        let narrow = self.queue.allocate(Number::Bf16, COUNT)?;
        let sums = self.queue.allocate(Number::F64, 9)?;
        let of_groups = [Argument::Buffer(epoch.rates), Argument::Buffer(groups), U32(GROUPS.len() as u32)];
        let (cursor_argument, count) = (Argument::Buffer(cursor), U32(COUNT as u32));
        let arguments =
            [&[Argument::Buffer(device)], &of_groups[..], &[cursor_argument, Argument::Buffer(sums), count]].concat();
        self.queue.launch(Kernel::SquareSums, 9, &arguments)?;
        self.queue.launch(Kernel::ClipFactor, 1, &[Argument::Buffer(sums), U32(9), F64(MOST), cursor_argument])?;
        let vectors = if optimiser.vectors() == 1 { vec![first] } else { vec![first, second] };
        let tensors = [vec![device], vectors, vec![weights, narrow]].concat();
        let arguments: Vec<Argument> = tensors
            .into_iter()
            .map(Argument::Buffer)
            .chain(of_groups)
            .chain([cursor_argument, count])
            .chain(numbers)
            .collect();
        self.launch(kernel, COUNT, &arguments)?;
        let ours = [self.read(first)?, self.read(second)?, self.read(weights)?].concat();
        let narrowed = self.read(narrow)?;
        let trained = 0..GROUPS[2].start;
        let mut findings = vec![
            Finding::new(self.named(&format!("clipping and {name}")), &ours, &expected.concat(), 1e-6),
            Finding::new(
                self.named(&format!("weights in bf16 after {name}")),
                &narrowed[trained.clone()],
                &expected[2][trained],
                1.0 / 256.0,
            ),
        ];

        // After a step with a non-finite loss, no weight changes; the first vector receives the gradient of those that train.
        let bad = Cursor { step: STEP, bad_step: STEP, index: 2, ..Cursor::default() };
        self.queue.upload(cursor, &bad.to_bytes())?;
        self.launch(kernel, COUNT, &arguments)?;
        let mut kept = gradient;
        kept[GROUPS[2].clone()].fill(0.0);
        let (ours, theirs) = ([self.read(weights)?, self.read(first)?].concat(), [expected[2].clone(), kept].concat());
        findings.push(Finding::new(self.named(&format!("a bad step of {name}")), &ours, &theirs, 1e-6));
        Ok(findings)
    }

    fn averaging(&mut self) -> Result<Finding, CudaError> {
        let (values, mut averages) = (self.numbers(COUNT), self.numbers(COUNT));
        let epoch = EpochBuffer::new(self.queue, 0, 2, 0)?;
        epoch.upload(self.queue, &EpochValues { averaged: vec![0.5, 0.125], ..Default::default() })?;
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        self.queue.upload(cursor, &Cursor { step: 2, index: 2, ..Cursor::default() }.to_bytes())?;
        let [from, to] = [self.floats(&values)?, self.floats(&averages)?];
        let buffers = [from, to, epoch.averaged, cursor].map(Argument::Buffer);
        self.launch(Kernel::Blend, COUNT, &[&buffers[..], &[U32(COUNT as u32)]].concat())?;
        blend(Level::detect(), 0.125, &values, &mut averages);
        Ok(Finding::new(self.named("the moving average"), &self.read(to)?, &averages, 1e-6))
    }
}
