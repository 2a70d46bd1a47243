//! Softmax and cross-entropy, with the gradient of both.

/// The target of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The class index.
    pub class: usize,
    /// The weight of its loss; 1 without class weights.
    pub weight: f64,
    /// The class mixed in by MixUp and the weight of its loss, if any.
    pub mixed: Option<(usize, f64)>,
}

impl Target {
    /// A target with a single class.
    pub const fn new(class: usize, weight: f64) -> Self {
        Self { class, weight, mixed: None }
    }
}

/// The loss function; the default is plain cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// The share of the target that is distributed uniformly over all classes (Szegedy et al., CVPR 2016).
    pub label_smoothing: f64,
    /// The exponent γ of the factor (1 − p) before each logarithm (focal loss: Lin et al., ICCV 2017); 0 for cross-entropy.
    pub focal_gamma: f64,
}

/// The loss of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchLoss {
    /// The sum of the weighted image losses.
    pub sum: f64,
    /// The number of images whose class has the largest logit.
    pub correct: usize,
}

/// The softmax of one image's logits; the probabilities sum to 1.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&value| libm::exp(f64::from(value) - f64::from(largest))).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The index of the largest value; the first one in a tie.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

impl Loss {
    /// The loss of logits of shape `[images, classes]`, and the gradient of its mean.
    ///
    /// With the probabilities p and the smoothed targets q of an image, the loss is −Σ q (1 − p)^γ ln p times its
    /// weight. As in Keras, the mean is the weighted sum divided by the number of images, not by the sum of the
    /// weights.
    pub fn of(&self, logits: &[f32], targets: &[Target]) -> (BatchLoss, Vec<f32>) {
        let classes = logits.len() / targets.len().max(1);
        let mut loss = BatchLoss { sum: 0.0, correct: 0 };
        let mut gradient = Vec::with_capacity(logits.len());
        let mut distribution = vec![0.0; classes];
        for (logits, target) in logits.chunks_exact(classes.max(1)).zip(targets) {
            let weight = self.target_distribution(target, &mut distribution);
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shifted = |value: f32| f64::from(value) - f64::from(largest);
            let sum: f64 = logits.iter().map(|&value| libm::exp(shifted(value))).sum();
            let log_sum = libm::log(sum);
            loss.correct += usize::from(argmax(logits) == target.class);
            let share = weight / targets.len() as f64;
            if self.focal_gamma > 0.0 {
                let logs: Vec<f64> = logits.iter().map(|&value| shifted(value) - log_sum).collect();
                loss.sum += weight * self.focal_gradient(&logs, &distribution, share, &mut gradient);
                continue;
            }
            let terms = distribution.iter().zip(logits).filter(|(distribution, _)| **distribution > 0.0);
            loss.sum +=
                weight * terms.map(|(distribution, &value)| distribution * (log_sum - shifted(value))).sum::<f64>();
            let gradients = logits.iter().zip(&distribution);
            gradient.extend(
                gradients
                    .map(|(&value, distribution)| ((libm::exp(shifted(value)) / sum - distribution) * share) as f32),
            );
        }
        (loss, gradient)
    }

    /// Writes the target distribution, which sums to 1; returns the weight of the target.
    fn target_distribution(&self, target: &Target, distribution: &mut [f64]) -> f64 {
        distribution.fill(0.0);
        let weight = target.weight + target.mixed.map_or(0.0, |(_, weight)| weight);
        if weight > 0.0 {
            distribution[target.class] = target.weight / weight;
            if let Some((class, mixed)) = target.mixed {
                distribution[class] += mixed / weight;
            }
        }
        if self.label_smoothing > 0.0 {
            let even = self.label_smoothing / distribution.len() as f64;
            distribution
                .iter_mut()
                .for_each(|distribution| *distribution = *distribution * (1.0 - self.label_smoothing) + even);
        }
        weight
    }

    /// Adds the gradient of one image's focal loss times `share`; returns the loss. `logs` are the logarithms of the
    /// probabilities.
    ///
    /// With f(p) = −(1 − p)^γ ln p, the loss is Σ q f(p), and ∂/∂zⱼ = Σ q f′(p) p (δ − pⱼ), where
    /// f′(p) p = γ p (1 − p)^(γ − 1) ln p − (1 − p)^γ.
    fn focal_gradient(&self, logs: &[f64], distribution: &[f64], share: f64, gradient: &mut Vec<f32>) -> f64 {
        let probabilities: Vec<f64> = logs.iter().map(|log| libm::exp(*log)).collect();
        let mut loss = 0.0;
        let mut slopes = vec![0.0; logs.len()];
        for (class, &distribution) in distribution.iter().enumerate().filter(|(_, distribution)| **distribution > 0.0) {
            let (p, log) = (probabilities[class], logs[class]);
            let rest = (1.0 - p).max(0.0);
            let power = libm::pow(rest, self.focal_gamma);
            loss -= distribution * power * log;
            // For p = 1, both factors vanish.
            let steep =
                if rest > 0.0 { self.focal_gamma * p * libm::pow(rest, self.focal_gamma - 1.0) * log } else { 0.0 };
            slopes[class] = distribution * (steep - power);
        }
        let all: f64 = slopes.iter().sum();
        gradient.extend(slopes.iter().zip(&probabilities).map(|(slope, p)| ((slope - all * p) * share) as f32));
        loss
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::*;

    // import torch
    // x = torch.tensor([[0.5, -1.25, 2.0], [3.0, 3.0, -0.5]], dtype=torch.float64, requires_grad=True)
    // w = torch.tensor([1.0, 0.25, 2.0], dtype=torch.float64); y = torch.tensor([2, 1])
    // l = torch.nn.functional.cross_entropy(x, y, w, reduction='none'); print(l.sum()); (l.sum() / 2).backward(); print(x.grad)
    const GRADIENT: [f64; 6] = [
        0.1768201821074443,
        0.030726740326436432,
        -0.20754692243388073,
        0.061570367995099365,
        -0.06342963200490064,
        0.0018592640098012638,
    ];

    const LOGITS: [f32; 6] = [0.5, -1.25, 2.0, 3.0, 3.0, -0.5];

    #[test]
    fn loss_and_gradient_match_pytorch() {
        let targets = [Target::new(2, 2.0), Target::new(1, 0.25)];
        let (loss, gradient) = Loss::default().of(&LOGITS, &targets);
        assert!((loss.sum - 0.6422772215890199).abs() < 1e-12, "{}", loss.sum);
        assert_eq!(loss.correct, 1);
        for (ours, theirs) in gradient.iter().zip(GRADIENT) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-7, "{ours} {theirs}");
        }
    }

    // A second implementation, with automatic differentiation in f64.
    #[test]
    fn loss_and_gradient_match_candle() {
        let (images, classes) = (32, 7);
        let mut random = hamflow_stage_api::Random::new(11, "loss");
        let logits: Vec<f32> = (0..images * classes).map(|_| random.uniform(-6.0, 6.0) as f32).collect();
        let labels: Vec<usize> = (0..images).map(|image| (image * 5 + image / 3) % classes).collect();
        let targets: Vec<Target> = labels.iter().map(|class| Target::new(*class, 1.0)).collect();
        let (loss, gradient) = Loss::default().of(&logits, &targets);

        let wide: Vec<f64> = logits.iter().map(|value| f64::from(*value)).collect();
        let wide = Var::from_vec(wide, (images, classes), &Device::Cpu).unwrap();
        let labels: Vec<u32> = labels.iter().map(|class| *class as u32).collect();
        let labels = Tensor::from_vec(labels, images, &Device::Cpu).unwrap();
        let theirs = candle_nn::loss::cross_entropy(&wide, &labels).unwrap();
        let slopes = theirs.backward().unwrap();
        let slopes = slopes.get(&wide).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let mean = theirs.to_scalar::<f64>().unwrap();
        assert!((loss.sum / images as f64 - mean).abs() < 1e-12, "{} {mean}", loss.sum);
        for (ours, theirs) in gradient.iter().zip(&slopes) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-8, "{ours} {theirs}");
        }
    }

    // import torch, torch.nn.functional as F
    // x = torch.tensor([[0.5, -1.25, 2.0], [3.0, 3.0, -0.5]], dtype=torch.float64, requires_grad=True)
    // q = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.7, 0.3]], dtype=torch.float64)   # the second is mixed
    // w = torch.tensor([2.0, 1.0], dtype=torch.float64)
    // for eps, gamma in [(0.1, 0.0), (0.0, 2.0), (0.1, 1.5)]:
    //     t = q * (1 - eps) + eps / 3; p = x.softmax(1)
    //     l = (w * -(t * (1 - p) ** gamma * x.log_softmax(1)).sum(1)).sum()
    //     print(l.item(), torch.autograd.grad(l / 2, x)[0].flatten().tolist())
    //     if gamma == 0: print(F.cross_entropy(x[:1], torch.tensor([2]), label_smoothing=eps).item() * 2)
    const OTHERS: [(f64, f64, f64, [f64; 6]); 3] = [
        (
            0.1,
            0.0,
            2.551710321077217,
            [
                0.14348684877411097,
                -0.0026065930068969005,
                -0.14088025576721408,
                0.2296148053137308,
                -0.0853851946862692,
                -0.14422961062746162,
            ],
        ),
        (
            0.0,
            2.0,
            1.3728417764321863,
            [
                0.021146802115969036,
                0.0036747631950581564,
                -0.024821565311027194,
                0.18623189889037134,
                -0.027786291235393657,
                -0.15844560765497767,
            ],
        ),
        (
            0.1,
            1.5,
            1.7753019751971757,
            [
                0.011015503339499848,
                -0.028420986924757797,
                0.017405483585257918,
                0.19373635776029896,
                -0.037527332122113004,
                -0.15620902563818595,
            ],
        ),
    ];

    #[test]
    fn smoothed_focal_and_mixed_losses_match_pytorch() {
        let targets = [Target::new(2, 2.0), Target { class: 1, weight: 0.7, mixed: Some((2, 0.3)) }];
        for (label_smoothing, focal, expected, gradients) in OTHERS {
            let (loss, gradient) = Loss { label_smoothing, focal_gamma: focal }.of(&LOGITS, &targets);
            assert!((loss.sum - expected).abs() < 1e-12, "{label_smoothing} {focal}: {} {expected}", loss.sum);
            for (ours, theirs) in gradient.iter().zip(gradients) {
                assert!((f64::from(*ours) - theirs).abs() < 1e-7, "{label_smoothing} {focal}: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn a_certain_prediction_has_zero_gradient() {
        let (loss, gradient) =
            Loss { label_smoothing: 0.0, focal_gamma: 2.0 }.of(&[900.0, 0.0], &[Target::new(0, 1.0)]);
        assert_eq!((loss.sum, &gradient[..]), (0.0, &[0.0, 0.0][..]));
    }

    #[test]
    fn probabilities_sum_to_one_even_for_large_values() {
        let probabilities = softmax(&[1e30, 88.0, -1e30]);
        assert_eq!(probabilities, [1.0, 0.0, 0.0]);
        let sum: f64 = softmax(&[0.1, 0.2, 0.3, -4.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-15);
    }
}
