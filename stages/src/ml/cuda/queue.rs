//! What a device is asked to do, one thing after the other.

use super::CudaError;
use super::buffer::{Buffer, Number};
use super::kernel::Kernel;

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// A pointer.
    Buffer(Buffer),
    /// No pointer.
    Nothing,
    /// A whole number of 32 bits.
    U32(u32),
    /// A whole number of 64 bits.
    U64(u64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
}

/// A 3×3 convolution that keeps height and width, of maps `[images, height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Images.
    pub images: usize,
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Channels that go in.
    pub inputs: usize,
    /// Channels that come out.
    pub outputs: usize,
}

impl Convolution {
    /// Values that go in.
    pub fn input_len(&self) -> usize {
        self.images * self.height * self.width * self.inputs
    }

    /// Values that come out.
    pub fn output_len(&self) -> usize {
        self.images * self.height * self.width * self.outputs
    }

    /// Weights, `[outputs, 3, 3, inputs]`.
    pub fn filter_len(&self) -> usize {
        9 * self.inputs * self.outputs
    }
}

/// What of a convolution is computed from what. All maps and filters are of one kind of number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConvolutionPass {
    /// The output.
    Forward {
        /// What goes in.
        input: Buffer,
        /// The weights.
        filters: Buffer,
        /// What comes out.
        output: Buffer,
    },
    /// The gradient of what went in.
    InputGradient {
        /// The weights.
        filters: Buffer,
        /// The gradient of what came out.
        gradient: Buffer,
        /// The gradient of what went in.
        input_gradient: Buffer,
    },
    /// The gradient of the weights.
    FilterGradient {
        /// What went in.
        input: Buffer,
        /// The gradient of what came out.
        gradient: Buffer,
        /// The gradient of the weights.
        filter_gradient: Buffer,
    },
}

/// A matrix in rows, as it is stored, or turned over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix {
    /// The numbers.
    pub buffer: Buffer,
    /// Whether rows stand for columns.
    pub is_turned: bool,
}

impl Matrix {
    /// As it is stored.
    pub fn plain(buffer: Buffer) -> Self {
        Self { buffer, is_turned: false }
    }

    /// Rows for columns.
    pub fn turned(buffer: Buffer) -> Self {
        Self { buffer, is_turned: true }
    }
}

/// A product of matrices in rows: `[rows, inner] · [inner, columns]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Rows of the left factor.
    pub rows: usize,
    /// Columns of the left factor, rows of the right one.
    pub inner: usize,
    /// Columns of the right factor.
    pub columns: usize,
    /// The left factor.
    pub left: Matrix,
    /// The right factor.
    pub right: Matrix,
    /// The product.
    pub output: Buffer,
}

/// A device that does one thing after the other.
///
/// Orders return before they are carried out, but for [`upload`](Self::upload) and [`download`](Self::download), which wait.
pub trait Queue {
    /// Orders that can be given again with one call.
    type Recording;

    /// Memory of zeros; it lives as long as the queue.
    fn allocate(&mut self, number: Number, length: usize) -> Result<Buffer, CudaError>;

    /// Copies bytes to the device; `bytes` must fit.
    fn upload(&mut self, to: Buffer, bytes: &[u8]) -> Result<(), CudaError>;

    /// Copies bytes from the device, after all orders so far.
    fn download(&mut self, from: Buffer) -> Result<Vec<u8>, CudaError>;

    /// Runs a kernel in some blocks.
    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError>;

    /// Makes ready for convolutions; all that will be asked for, before the first of them is.
    fn prepare(&mut self, convolutions: &[Convolution]) -> Result<(), CudaError>;

    /// Computes a pass of a convolution.
    fn convolve(&mut self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError>;

    /// Multiplies matrices.
    fn multiply(&mut self, product: &Product) -> Result<(), CudaError>;

    /// From here on orders are kept instead of carried out. Nothing may be allocated or copied meanwhile.
    fn begin_recording(&mut self) -> Result<(), CudaError>;

    /// Hands over the orders that were kept.
    fn end_recording(&mut self) -> Result<Self::Recording, CudaError>;

    /// Gives recorded orders.
    fn replay(&mut self, recording: &Self::Recording) -> Result<(), CudaError>;

    /// Orders a copy of a small buffer into one of two slots of the host.
    fn send_back(&mut self, from: Buffer, slot: usize) -> Result<(), CudaError>;

    /// What came into a slot; waits for it, and for no later order.
    fn received(&mut self, slot: usize) -> Result<Vec<u8>, CudaError>;
}
