//! Buffers in device memory.

use std::ops::Range;

/// The element type of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// Bytes of pixels or structs.
    U8,
    /// 32-bit unsigned integers.
    U32,
    /// 64-bit unsigned integers.
    U64,
    /// Single precision floats.
    F32,
    /// Double precision floats.
    F64,
    /// bfloat16: the upper half of a single precision float.
    Bf16,
}

impl Number {
    /// The size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Bf16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::U64 | Self::F64 => 8,
        }
    }
}

/// A range of device memory; valid as long as the queue that allocated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// The device address.
    pub address: u64,
    /// The number of elements.
    pub length: usize,
    /// The element type.
    pub number: Number,
}

impl Buffer {
    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        self.length * self.number.size()
    }

    /// A subrange of the elements; must be within bounds.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "{range:?} is out of bounds for length {}",
            self.length
        );
        let address = self.address + (range.start * self.number.size()) as u64;
        Self { address, length: range.len(), number: self.number }
    }

    /// The first `length` elements.
    pub fn first(self, length: usize) -> Self {
        self.slice(0..length)
    }

    /// The same bytes with another element type.
    pub fn cast(self, number: Number) -> Self {
        Self { length: self.bytes() / number.size(), number, ..self }
    }
}

/// Elements as bytes in native order, which is also the device's.
pub fn bytes_of<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

/// Single precision floats as bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    bytes_of(values, f32::to_le_bytes)
}

/// Bytes as single precision floats.
pub fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}
