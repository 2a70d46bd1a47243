//! Memory of the device: where it is, and what is in it.

use std::ops::Range;

/// The kind of number in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// Bytes, of pixels or of records.
    U8,
    /// 32-bit whole numbers.
    U32,
    /// 64-bit whole numbers.
    U64,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// The upper half of single precision.
    Bf16,
}

impl Number {
    /// Bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Bf16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::U64 | Self::F64 => 8,
        }
    }
}

/// A piece of the device's memory; it lives as long as the queue that allocated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Where it begins.
    pub address: u64,
    /// How many numbers there are.
    pub length: usize,
    /// Of which kind.
    pub number: Number,
}

impl Buffer {
    /// The number of bytes.
    pub const fn bytes(self) -> usize {
        self.length * self.number.size()
    }

    /// Some of its numbers. The range must lie inside.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} lies outside of {}", self.length);
        let address = self.address + (range.start * self.number.size()) as u64;
        Self { address, length: range.len(), number: self.number }
    }

    /// Its first numbers.
    pub fn first(self, length: usize) -> Self {
        self.slice(0..length)
    }

    /// The same bytes as numbers of another kind.
    pub fn cast(self, number: Number) -> Self {
        Self { length: self.bytes() / number.size(), number, ..self }
    }
}

/// Numbers as bytes in the order of the machine, which is the device's, too.
pub fn bytes_of<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

/// Single precision as bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    bytes_of(values, f32::to_le_bytes)
}

/// Bytes as single precision.
pub fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}
