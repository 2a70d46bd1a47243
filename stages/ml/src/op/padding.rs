//! The padding of convolutions and pooling.

/// Zeros around a map, so that windows reach over its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The same on both sides, as in PyTorch.
    Both(usize),
    /// As TensorFlow's "SAME": the output has ⌈size / stride⌉ values. If the number of zeros is odd, the last side gets
    /// one more.
    Same,
}

impl Padding {
    /// The number of zeros before the first value, and the number of outputs; `None` if the window does not fit.
    pub fn resolve(self, length: usize, window: usize, stride: usize) -> Option<(usize, usize)> {
        match self {
            Self::Both(padding) => {
                let rest = (length + 2 * padding).checked_sub(window)?;
                Some((padding, rest / stride + 1))
            }
            Self::Same => {
                let count = length.div_ceil(stride);
                let all = ((count.max(1) - 1) * stride + window).saturating_sub(length);
                (count > 0).then_some((all / 2, count))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import tensorflow as tf: tf.nn.max_pool1d(tf.zeros([1, n, 1]), w, s, "SAME").shape[1], and the padding from
    // https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2 ; torch.nn.functional.max_pool1d likewise
    #[test]
    fn sizes_match_tensorflow_and_pytorch() {
        assert_eq!(Padding::Same.resolve(75, 3, 2), Some((1, 38)));
        assert_eq!(Padding::Same.resolve(100, 3, 2), Some((0, 50)));
        assert_eq!(Padding::Same.resolve(150, 5, 2), Some((1, 75)));
        assert_eq!(Padding::Same.resolve(7, 5, 1), Some((2, 7)));
        assert_eq!(Padding::Same.resolve(1, 3, 2), Some((1, 1)));
        assert_eq!(Padding::Both(1).resolve(75, 3, 2), Some((1, 38)));
        assert_eq!(Padding::Both(1).resolve(100, 3, 2), Some((1, 50)));
        assert_eq!(Padding::Both(3).resolve(150, 7, 2), Some((3, 75)));
        assert_eq!(Padding::Both(0).resolve(2, 3, 1), None);
    }
}
