//! The device-side state of an epoch: the position of the current step and the accumulated results.

/// The `Cursor` of `source/prelude.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cursor {
    /// The number of optimiser steps so far.
    pub step: u64,
    /// The first step with a non-finite loss, or 0.
    pub bad_step: u64,
    /// The number of steps in this epoch.
    pub index: u64,
    /// The position of the step's first image in the epoch's order.
    pub first: u64,
    /// The position of the next step's first image.
    pub next: u64,
    /// The sum of the image losses.
    pub loss: f64,
    /// The number of correctly classified images.
    pub correct: u64,
    /// The factor by which clipping scales the gradients.
    pub factor: f32,
}

impl Cursor {
    /// The size on the device in bytes.
    pub const SIZE: usize = 64;

    /// Serialises to the device's layout.
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { step, bad_step, index, first, next, loss, correct, factor } = self;
        let words = [step, bad_step, index, first, next, loss.to_bits(), correct];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(factor.to_le_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// Deserialises from the device's layout.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| {
            let chunk = bytes[8 * i..].first_chunk().expect("a cursor has eight words");
            u64::from_le_bytes(*chunk)
        };
        Self {
            step: word(0),
            bad_step: word(1),
            index: word(2),
            first: word(3),
            next: word(4),
            loss: f64::from_bits(word(5)),
            correct: word(6),
            factor: f32::from_bits(word(7) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_round_trips() {
        let cursor = Cursor { step: 7, bad_step: 1 << 40, loss: -0.5, correct: 3, factor: 0.25, ..Cursor::default() };
        assert_eq!(cursor.to_bytes().len(), Cursor::SIZE);
        assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), cursor);
    }
}
