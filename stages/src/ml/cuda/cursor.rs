//! Where a step is in its epoch and what came out so far, as the device keeps it.

/// The `Cursor` of `source/prelude.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cursor {
    /// Steps of the optimiser.
    pub step: u64,
    /// The first step whose loss is no number, or 0.
    pub bad_step: u64,
    /// Steps of this epoch.
    pub index: u64,
    /// The place of the step's first image in the epoch's order.
    pub first: u64,
    /// The place of the next step's.
    pub next: u64,
    /// The sum of the images' losses.
    pub loss: f64,
    /// Images whose class has the largest value.
    pub correct: u64,
    /// The learning rate with Adam's corrections.
    pub alpha: f32,
    /// What clipping multiplies the gradients with.
    pub factor: f32,
}

impl Cursor {
    /// Bytes on the device.
    pub const SIZE: usize = 64;

    /// As the device keeps it.
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { step, bad_step, index, first, next, loss, correct, alpha, factor } = self;
        let words = [step, bad_step, index, first, next, loss.to_bits(), correct];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(alpha.to_le_bytes());
        bytes.extend(factor.to_le_bytes());
        bytes
    }

    /// From what the device keeps.
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
            alpha: f32::from_bits(word(7) as u32),
            factor: f32::from_bits((word(7) >> 32) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let cursor = Cursor {
            step: 7,
            bad_step: 1 << 40,
            loss: -0.5,
            correct: 3,
            alpha: 1e-3,
            factor: 0.25,
            ..Cursor::default()
        };
        assert_eq!(cursor.to_bytes().len(), Cursor::SIZE);
        assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), cursor);
    }
}
