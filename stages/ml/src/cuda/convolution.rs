//! Convolutions with cuDNN. Descriptors and algorithms are created once per size and share one workspace.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::from_ref;

use cudarc::cudnn::result;
use cudarc::cudnn::sys::{
    self, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t as Mode, cudnnDataType_t as DataType,
    cudnnDeterminism_t as Determinism, cudnnMathType_t as MathType, cudnnStatus_t as Status,
    cudnnTensorFormat_t as Format,
};
use cudarc::driver::sys::CUstream;

use super::CudaError;
use super::queue::{Convolution, ConvolutionPass};
use crate::precision::Precision;

/// Maximum workspace in bytes; algorithms that need more are not used.
const MAX_WORKSPACE: usize = 1 << 30;

/// Maximum number of algorithms to query; cuDNN has no more of any kind.
const MAX_ALGORITHMS: usize = 16;

/// A descriptor that is destroyed on drop.
macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $destroy:path) => {
        $(#[$doc])*
        struct $name($raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the descriptor exists and is destroyed only here. A failure to destroy it is harmless.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}

descriptor!(
    /// The cuDNN handle.
    Handle, sys::cudnnHandle_t, result::destroy_handle
);
descriptor!(
    /// The shape of a feature map.
    Map, sys::cudnnTensorDescriptor_t, result::destroy_tensor_descriptor
);
descriptor!(
    /// The shape of the weights.
    Filters, sys::cudnnFilterDescriptor_t, result::destroy_filter_descriptor
);
descriptor!(
    /// The window and the precision of the sums.
    Operation, sys::cudnnConvolutionDescriptor_t, result::destroy_convolution_descriptor
);

/// A convolution of one size with its algorithms.
struct Entry {
    input: Map,
    output: Map,
    filters: Filters,
    operation: Operation,
    forward: ForwardAlgorithm,
    data: DataAlgorithm,
    filter: FilterAlgorithm,
}

/// All convolutions of a queue.
pub struct Convolutions {
    // Fields drop in order: descriptors before the handle.
    entries: HashMap<Convolution, Entry>,
    handle: Handle,
    precision: Precision,
    workspace: (u64, usize),
}

fn failed(action: &'static str) -> impl Fn(result::CudnnError) -> CudaError {
    move |error| CudaError::failed(action, error.0)
}

impl Convolutions {
    /// Initialises cuDNN on a stream of the current context.
    pub fn new(stream: CUstream, precision: Precision) -> Result<Self, CudaError> {
        let handle = Handle(result::create_handle().map_err(failed("start cuDNN"))?);
        // SAFETY: both are valid.
        unsafe { result::set_stream(handle.0, stream.cast()) }.map_err(failed("start cuDNN"))?;
        Ok(Self { entries: HashMap::new(), handle, precision, workspace: (0, 0) })
    }

    /// Chooses algorithms for convolutions; returns the required workspace in bytes.
    pub fn prepare(&mut self, convolutions: &[Convolution]) -> Result<usize, CudaError> {
        let mut most = self.workspace.1;
        for convolution in convolutions {
            if !self.entries.contains_key(convolution) {
                let (entry, bytes) = self.entry(convolution)?;
                most = most.max(bytes);
                self.entries.insert(*convolution, entry);
            }
        }
        Ok(most)
    }

    /// Sets a workspace of the size that [`prepare`](Self::prepare) returned.
    pub fn set_workspace(&mut self, address: u64, bytes: usize) {
        self.workspace = (address, bytes);
    }

    /// Whether there is a workspace of this size.
    pub fn has_workspace(&self, bytes: usize) -> bool {
        self.workspace.1 >= bytes
    }

    fn entry(&self, convolution: &Convolution) -> Result<(Entry, usize), CudaError> {
        let Convolution { images, height, width, inputs, outputs, kernel, stride, padding, groups } = *convolution;
        let (number, math) = match self.precision {
            Precision::F32 => (DataType::CUDNN_DATA_FLOAT, MathType::CUDNN_FMA_MATH),
            Precision::Tf32 => (DataType::CUDNN_DATA_FLOAT, MathType::CUDNN_DEFAULT_MATH),
            Precision::Bf16 => (DataType::CUDNN_DATA_BFLOAT16, MathType::CUDNN_TENSOR_OP_MATH),
        };
        let describe = failed("describe a convolution");
        let format = Format::CUDNN_TENSOR_NHWC;
        let map = |[height, width]: [usize; 2], channels: usize| {
            let map = Map(result::create_tensor_descriptor().map_err(&describe)?);
            let sizes = [images, channels, height, width].map(|size| size as c_int);
            // SAFETY: the descriptor was just created.
            unsafe { result::set_tensor4d_descriptor(map.0, format, number, sizes) }.map_err(&describe)?;
            Ok::<_, CudaError>(map)
        };
        let (input, output) = (map([height, width], inputs)?, map(convolution.output(), outputs)?);
        let filters = Filters(result::create_filter_descriptor().map_err(&describe)?);
        let sizes = [outputs, inputs / groups, kernel, kernel].map(|size| size as c_int);
        // SAFETY: the descriptor was just created.
        unsafe { result::set_filter4d_descriptor(filters.0, number, format, sizes) }.map_err(&describe)?;
        let operation = Operation(result::create_convolution_descriptor().map_err(&describe)?);
        let (mode, sums) = (Mode::CUDNN_CROSS_CORRELATION, DataType::CUDNN_DATA_FLOAT);
        // SAFETY: the descriptor was just created.
        let ([top, left], stride) = (padding.map(|padding| padding as c_int), stride as c_int);
        unsafe { result::set_convolution2d_descriptor(operation.0, top, left, stride, stride, 1, 1, mode, sums) }
            .map_err(&describe)?;
        // SAFETY: as above.
        unsafe { sys::cudnnSetConvolutionGroupCount(operation.0, groups as c_int) }.result().map_err(&describe)?;
        // SAFETY: as above.
        unsafe { result::set_convolution_math_type(operation.0, math) }.map_err(&describe)?;
        let (cudnn, x, y, w, c) = (self.handle.0, input.0, output.0, filters.0, operation.0);

        let forward = choose(
            // SAFETY: all descriptors are valid, and the array has room for the requested number of results.
            |most, found, answers| unsafe {
                result::get_convolution_forward_algorithm(cudnn, x, w, c, y, most, found, answers)
            },
            |answer: &sys::cudnnConvolutionFwdAlgoPerf_t| (answer.status, answer.determinism, answer.memory),
        )?;
        let data = choose(
            // SAFETY: as above.
            |most, found, answers| unsafe {
                result::get_convolution_backward_data_algorithm(cudnn, w, y, c, x, most, found, answers)
            },
            |answer: &sys::cudnnConvolutionBwdDataAlgoPerf_t| (answer.status, answer.determinism, answer.memory),
        )?;
        let filter = choose(
            // SAFETY: as above.
            |most, found, answers| unsafe {
                result::get_convolution_backward_filter_algorithm(cudnn, x, y, c, w, most, found, answers)
            },
            |answer: &sys::cudnnConvolutionBwdFilterAlgoPerf_t| (answer.status, answer.determinism, answer.memory),
        )?;
        let (forward, data, filter) = (forward.algo, data.algo, filter.algo);
        // The lists only estimate the workspace; the exact size is queried separately.
        // SAFETY: all descriptors are valid.
        let wanted = unsafe {
            [
                result::get_convolution_forward_workspace_size(cudnn, x, w, c, y, forward),
                result::get_convolution_backward_data_workspace_size(cudnn, w, y, c, x, data),
                result::get_convolution_backward_filter_workspace_size(cudnn, x, y, c, w, filter),
            ]
        };
        let mut bytes = 0;
        for wanted in wanted {
            bytes = bytes.max(wanted.map_err(failed("query the workspace size of a convolution"))?);
        }
        Ok((Entry { input, output, filters, operation, forward, data, filter }, bytes))
    }

    /// Enqueues a pass. The queue checks that the buffers have the sizes of the convolution.
    pub fn convolve(&self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError> {
        let entry =
            self.entries.get(convolution).ok_or_else(|| CudaError::failed("convolve", "this size was not prepared"))?;
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = (from_ref(&one).cast::<c_void>(), from_ref(&zero).cast::<c_void>());
        let (cudnn, c) = (self.handle.0, entry.operation.0);
        let (x, y, w) = (entry.input.0, entry.output.0, entry.filters.0);
        let (work, room) = (self.workspace.0 as *mut c_void, self.workspace.1);
        let read = |buffer: super::buffer::Buffer| buffer.address as *const c_void;
        let write = |buffer: super::buffer::Buffer| buffer.address as *mut c_void;
        // SAFETY: descriptors and workspace are valid, the workspace has the maximum required size, and the buffers
        // have the described sizes.
        let done = unsafe {
            match pass {
                ConvolutionPass::Forward { input, filters, output } => result::convolution_forward(
                    cudnn,
                    one,
                    x,
                    read(input),
                    w,
                    read(filters),
                    c,
                    entry.forward,
                    work,
                    room,
                    zero,
                    y,
                    write(output),
                ),
                ConvolutionPass::InputGradient { filters, gradient, input_gradient, adds } => {
                    let before = if adds { one } else { zero };
                    let (dy, dx) = (read(gradient), write(input_gradient));
                    let filters = read(filters);
                    result::convolution_backward_data(
                        cudnn, one, w, filters, y, dy, c, entry.data, work, room, before, x, dx,
                    )
                }
                ConvolutionPass::FilterGradient { input, gradient, filter_gradient } => {
                    let (dy, dw) = (read(gradient), write(filter_gradient));
                    let input = read(input);
                    result::convolution_backward_filter(
                        cudnn,
                        one,
                        x,
                        input,
                        y,
                        dy,
                        c,
                        entry.filter,
                        work,
                        room,
                        zero,
                        w,
                        dw,
                    )
                }
            }
        };
        done.map_err(failed("convolve"))
    }
}

/// The fastest deterministic algorithm, by cuDNN's estimate, that fits into memory; if there is none, the fastest
/// that fits.
///
/// Estimates depend only on sizes and versions. Benchmarking would make the choice depend on noise.
fn choose<A: Copy>(
    list: impl FnOnce(c_int, &mut c_int, *mut A) -> Result<(), result::CudnnError>,
    facts: impl Fn(&A) -> (Status, Determinism, usize),
) -> Result<A, CudaError> {
    // SAFETY: cuDNN's results are plain data, for which all-zero is valid.
    let mut answers: [A; MAX_ALGORITHMS] = unsafe { std::mem::zeroed() };
    let mut found = 0;
    let listed = list(MAX_ALGORITHMS as c_int, &mut found, answers.as_mut_ptr());
    listed.map_err(failed("list the algorithms of a convolution"))?;
    let works = |answer: &&A| {
        let (status, _, memory) = facts(answer);
        status == Status::CUDNN_STATUS_SUCCESS && memory <= MAX_WORKSPACE
    };
    let repeats = |answer: &&A| works(answer) && facts(answer).1 == Determinism::CUDNN_DETERMINISTIC;
    let answers = &answers[..found as usize];
    let chosen = answers.iter().find(repeats).or_else(|| answers.iter().find(works));
    chosen.copied().ok_or_else(|| CudaError::failed("convolve", "cuDNN has no algorithm for this size and precision"))
}
