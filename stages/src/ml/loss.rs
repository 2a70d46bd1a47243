//! Softmax and cross-entropy, with the gradient of both.

/// What an image shows, and how much it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The class.
    pub class: usize,
    /// The weight of its loss; 1 where classes are not weighted.
    pub weight: f64,
}

/// The loss of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchLoss {
    /// The sum of the images' weighted losses.
    pub sum: f64,
    /// How many images have their largest value at their class.
    pub correct: usize,
}

/// The probabilities that belong to one image's values, summing to 1.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&value| libm::exp(f64::from(value) - f64::from(largest))).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The index of the largest value, the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

/// The loss of `[images, classes]` values, and the gradient of its mean.
///
/// As in Keras, the mean is the weighted sum divided by the number of images, not by the sum of the weights.
pub fn cross_entropy(logits: &[f32], targets: &[Target]) -> (BatchLoss, Vec<f32>) {
    let classes = logits.len() / targets.len().max(1);
    let mut loss = BatchLoss { sum: 0.0, correct: 0 };
    let mut gradient = Vec::with_capacity(logits.len());
    for (logits, target) in logits.chunks_exact(classes.max(1)).zip(targets) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = |value: f32| f64::from(value) - f64::from(largest);
        let sum: f64 = logits.iter().map(|&value| libm::exp(shifted(value))).sum();
        loss.sum += target.weight * (libm::log(sum) - shifted(logits[target.class]));
        loss.correct += usize::from(argmax(logits) == target.class);
        let share = target.weight / targets.len() as f64;
        for (class, &value) in logits.iter().enumerate() {
            let wanted = if class == target.class { 1.0 } else { 0.0 };
            gradient.push(((libm::exp(shifted(value)) / sum - wanted) * share) as f32);
        }
    }
    (loss, gradient)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn loss_and_gradient_are_pytorchs() {
        let targets = [Target { class: 2, weight: 2.0 }, Target { class: 1, weight: 0.25 }];
        let (loss, gradient) = cross_entropy(&[0.5, -1.25, 2.0, 3.0, 3.0, -0.5], &targets);
        assert!((loss.sum - 0.6422772215890199).abs() < 1e-12, "{}", loss.sum);
        assert_eq!(loss.correct, 1);
        for (ours, theirs) in gradient.iter().zip(GRADIENT) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-7, "{ours} {theirs}");
        }
    }

    #[test]
    fn probabilities_sum_to_one_even_for_large_values() {
        let probabilities = softmax(&[1e30, 88.0, -1e30]);
        assert_eq!(probabilities, [1.0, 0.0, 0.0]);
        let sum: f64 = softmax(&[0.1, 0.2, 0.3, -4.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-15);
    }
}
