//! The commands of a device, executed in order.

use super::CudaError;
use super::buffer::{Buffer, Number};
use super::kernel::Kernel;
use crate::op;
use hamflow_kernels::shape::MapShape;

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// A pointer.
    Buffer(Buffer),
    /// A null pointer.
    Nothing,
    /// A 32-bit unsigned integer.
    U32(u32),
    /// A 64-bit unsigned integer.
    U64(u64),
    /// A single precision float.
    F32(f32),
    /// A double precision float.
    F64(f64),
    /// A window.
    Window(Window),
}

/// The sizes of a map and of the windows over it: `Window` in `source/maps.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Window {
    /// The shape of the input.
    pub height: u32,
    /// As above.
    pub width: u32,
    /// As above.
    pub channels: u32,
    /// The shape of the output.
    pub out_height: u32,
    /// As above.
    pub out_width: u32,
    /// The height and width of a window.
    pub size: u32,
    /// The distance between windows.
    pub stride: u32,
    /// The padding above.
    pub top: u32,
    /// The padding to the left.
    pub left: u32,
}

impl Window {
    /// A window over a map.
    pub fn new(window: op::Window, input: MapShape, output: MapShape) -> Self {
        let [height, width, channels] = [input.height, input.width, input.channels].map(|size| size as u32);
        let [out_height, out_width] = [output.height, output.width].map(|size| size as u32);
        let [top, left, ..] = window.padding.map(|size| size as u32);
        let [size, stride] = [window.size, window.stride].map(|size| size as u32);
        Self { height, width, channels, out_height, out_width, size, stride, top, left }
    }
}

/// A convolution on maps of shape `[images, height, width, channels]`, with the same padding on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// The number of images.
    pub images: usize,
    /// The height in pixels.
    pub height: usize,
    /// The width in pixels.
    pub width: usize,
    /// The number of input channels.
    pub inputs: usize,
    /// The number of output channels.
    pub outputs: usize,
    /// The height and width of the kernel.
    pub kernel: usize,
    /// The distance between windows.
    pub stride: usize,
    /// The rows of zeros above and below, and the columns to the left and to the right.
    pub padding: [usize; 2],
    /// The number of groups of channels.
    pub groups: usize,
}

impl Convolution {
    /// The height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let count = |length: usize, padding: usize| (length + 2 * padding - self.kernel) / self.stride + 1;
        [count(self.height, self.padding[0]), count(self.width, self.padding[1])]
    }

    /// The number of input values.
    pub fn input_len(&self) -> usize {
        self.images * self.height * self.width * self.inputs
    }

    /// The number of output values.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.images * height * width * self.outputs
    }

    /// The number of weights, `[outputs, kernel, kernel, inputs / groups]`.
    pub fn filter_len(&self) -> usize {
        self.kernel * self.kernel * self.inputs / self.groups * self.outputs
    }
}

/// One of the passes of a convolution. All maps and filters have the same element type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConvolutionPass {
    /// Computes the output.
    Forward {
        /// The input.
        input: Buffer,
        /// The weights.
        filters: Buffer,
        /// The output.
        output: Buffer,
    },
    /// Computes the gradient of the input.
    InputGradient {
        /// The weights.
        filters: Buffer,
        /// The gradient of the output.
        gradient: Buffer,
        /// The gradient of the input.
        input_gradient: Buffer,
        /// Whether it is added to what is there.
        adds: bool,
    },
    /// Computes the gradient of the weights.
    FilterGradient {
        /// The input.
        input: Buffer,
        /// The gradient of the output.
        gradient: Buffer,
        /// The gradient of the weights.
        filter_gradient: Buffer,
    },
}

/// A row-major matrix, optionally transposed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix {
    /// The elements.
    pub buffer: Buffer,
    /// Whether it is transposed.
    pub is_transposed: bool,
}

impl Matrix {
    /// The matrix as stored.
    pub fn plain(buffer: Buffer) -> Self {
        Self { buffer, is_transposed: false }
    }

    /// The transposed matrix.
    pub fn transposed(buffer: Buffer) -> Self {
        Self { buffer, is_transposed: true }
    }
}

/// A product of row-major matrices: `[rows, inner] · [inner, columns]`.
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
    /// Whether it is added to what is there.
    pub adds: bool,
}

/// A device that executes commands in order.
///
/// Methods return before the commands are executed, except for [`upload`](Self::upload) and [`download`](Self::download).
pub trait Queue {
    /// A recorded sequence of commands.
    type Recording;

    /// Allocates zeroed memory, which is valid as long as the queue.
    fn allocate(&mut self, number: Number, length: usize) -> Result<Buffer, CudaError>;

    /// Copies bytes to the device; `bytes` must fit.
    fn upload(&mut self, to: Buffer, bytes: &[u8]) -> Result<(), CudaError>;

    /// Copies bytes from the device after all previous commands have completed.
    fn download(&mut self, from: Buffer) -> Result<Vec<u8>, CudaError>;

    /// Launches a kernel with a number of blocks.
    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError>;

    /// Prepares convolutions. Must be called for all of them before the first one is computed.
    fn prepare(&mut self, convolutions: &[Convolution]) -> Result<(), CudaError>;

    /// Computes a pass of a convolution.
    fn convolve(&mut self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError>;

    /// Multiplies matrices.
    fn multiply(&mut self, product: &Product) -> Result<(), CudaError>;

    /// Starts to record commands instead of executing them. Allocations and copies are not allowed until the
    /// recording ends.
    fn begin_recording(&mut self) -> Result<(), CudaError>;

    /// Ends the recording and returns it.
    fn end_recording(&mut self) -> Result<Self::Recording, CudaError>;

    /// Executes a recording.
    fn replay(&mut self, recording: &Self::Recording) -> Result<(), CudaError>;

    /// Enqueues a copy of a small buffer to one of two slots on the host.
    fn send_back(&mut self, from: Buffer, slot: usize) -> Result<(), CudaError>;

    /// The content of a slot. Waits for its copy, but not for later commands.
    fn received(&mut self, slot: usize) -> Result<Vec<u8>, CudaError>;
}
