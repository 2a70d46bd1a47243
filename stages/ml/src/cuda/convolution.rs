//! Convolutions with cuDNN. Descriptors and algorithms are created once per size and share one workspace.
//!
//! cuDNN's list of algorithms is an estimate, which depends only on sizes and versions: benchmarking would make the
//! choice depend on noise. Each pass takes the first algorithm of the list that repeats its bits, fits into memory,
//! computes in the wanted precision, and works when it is tried once.

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
use super::buffer::Buffer;
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

        // SAFETY: cuDNN's objects may be used from any thread, one at a time.
        unsafe impl Send for $name {}

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
    /// The window, the precision of the sums and the math type.
    Operation, sys::cudnnConvolutionDescriptor_t, result::destroy_convolution_descriptor
);

/// The shapes of a convolution.
struct Shapes {
    input: Map,
    output: Map,
    filters: Filters,
}

/// The algorithm of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

/// An algorithm as cuDNN lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    algorithm: Algorithm,
    is_deterministic: bool,
    math: MathType,
}

/// A pass of a convolution with its algorithm.
struct Chosen {
    operation: Operation,
    candidate: Candidate,
    /// The size of its workspace.
    bytes: usize,
}

/// A convolution of one size.
struct Entry {
    shapes: Shapes,
    /// Forward, gradient of the input, gradient of the filters.
    passes: [Chosen; 3],
}

/// The index of a pass in an entry.
fn place(pass: &ConvolutionPass) -> usize {
    match pass {
        ConvolutionPass::Forward { .. } => 0,
        ConvolutionPass::InputGradient { .. } => 1,
        ConvolutionPass::FilterGradient { .. } => 2,
    }
}

/// What algorithms are tried with: buffers for the largest convolution, and a workspace that grows.
pub trait Bench {
    /// The input, the output and the filters.
    fn buffers(&self) -> [Buffer; 3];

    /// A workspace of this size, or none if it cannot be allocated. Replaces the one before.
    fn workspace(&mut self, bytes: usize) -> Option<u64>;

    /// Waits until all commands have completed.
    fn wait(&self) -> Result<(), CudaError>;
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

    /// Whether this size has its algorithms.
    pub fn is_prepared(&self, convolution: &Convolution) -> bool {
        self.entries.contains_key(convolution)
    }

    /// Chooses the algorithms of a convolution.
    pub fn prepare(&mut self, convolution: &Convolution, bench: &mut dyn Bench) -> Result<(), CudaError> {
        let shapes = self.shapes(convolution)?;
        let [input, output, filters] = bench.buffers();
        let passes = [
            ConvolutionPass::Forward { input, filters, output },
            ConvolutionPass::InputGradient { filters, gradient: output, input_gradient: input, adds: false },
            ConvolutionPass::FilterGradient { input, gradient: output, filter_gradient: filters },
        ];
        let mut chosen = Vec::with_capacity(passes.len());
        for pass in passes {
            chosen.push(self.choose(convolution, &shapes, pass, bench)?);
        }
        let passes = chosen.try_into().unwrap_or_else(|_| unreachable!("there are three passes"));
        self.entries.insert(*convolution, Entry { shapes, passes });
        Ok(())
    }

    /// The size of the workspace that all prepared convolutions share.
    pub fn wanted_workspace(&self) -> usize {
        self.entries.values().flat_map(|entry| &entry.passes).map(|pass| pass.bytes).max().unwrap_or(0)
    }

    /// Sets a workspace of the size that [`wanted_workspace`](Self::wanted_workspace) returned.
    pub fn set_workspace(&mut self, address: u64, bytes: usize) {
        self.workspace = (address, bytes);
    }

    /// Whether there is a workspace of this size.
    pub fn has_workspace(&self, bytes: usize) -> bool {
        self.workspace.1 >= bytes
    }

    /// For each prepared convolution: the algorithms of its three passes, with their math types.
    pub fn algorithms(&self) -> Vec<(Convolution, [String; 3])> {
        let said = |pass: &Chosen| format!("{:?} {:?}", pass.candidate.algorithm, pass.candidate.math);
        self.entries.iter().map(|(convolution, entry)| (*convolution, entry.passes.each_ref().map(said))).collect()
    }

    /// The math type of products in this precision.
    fn math(&self) -> MathType {
        match self.precision {
            Precision::F32 => MathType::CUDNN_FMA_MATH,
            Precision::Tf32 => MathType::CUDNN_DEFAULT_MATH,
            Precision::Bf16 => MathType::CUDNN_TENSOR_OP_MATH,
        }
    }

    fn shapes(&self, convolution: &Convolution) -> Result<Shapes, CudaError> {
        let Convolution { images, height, width, inputs, outputs, kernel, groups, .. } = *convolution;
        let number = match self.precision {
            Precision::F32 | Precision::Tf32 => DataType::CUDNN_DATA_FLOAT,
            Precision::Bf16 => DataType::CUDNN_DATA_BFLOAT16,
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
        let filters = Filters(result::create_filter_descriptor().map_err(&describe)?);
        let sizes = [outputs, inputs / groups, kernel, kernel].map(|size| size as c_int);
        // SAFETY: the descriptor was just created.
        unsafe { result::set_filter4d_descriptor(filters.0, number, format, sizes) }.map_err(&describe)?;
        Ok(Shapes { input: map([height, width], inputs)?, output: map(convolution.output(), outputs)?, filters })
    }

    fn operation(&self, convolution: &Convolution, math: MathType) -> Result<Operation, CudaError> {
        let Convolution { stride, padding, groups, .. } = *convolution;
        let describe = failed("describe a convolution");
        let operation = Operation(result::create_convolution_descriptor().map_err(&describe)?);
        let (mode, sums) = (Mode::CUDNN_CROSS_CORRELATION, DataType::CUDNN_DATA_FLOAT);
        let ([top, left], stride) = (padding.map(|padding| padding as c_int), stride as c_int);
        // SAFETY: the descriptor was just created.
        unsafe { result::set_convolution2d_descriptor(operation.0, top, left, stride, stride, 1, 1, mode, sums) }
            .map_err(&describe)?;
        // SAFETY: as above.
        unsafe { sys::cudnnSetConvolutionGroupCount(operation.0, groups as c_int) }.result().map_err(&describe)?;
        // SAFETY: as above.
        unsafe { result::set_convolution_math_type(operation.0, math) }.map_err(&describe)?;
        Ok(operation)
    }

    /// The first candidate that works.
    fn choose(
        &self,
        convolution: &Convolution,
        shapes: &Shapes,
        pass: ConvolutionPass,
        bench: &mut dyn Bench,
    ) -> Result<Chosen, CudaError> {
        let listed = self.list(shapes, &self.operation(convolution, self.math())?, &pass)?;
        let mut refused = CudaError::failed("convolve", "cuDNN has no algorithm for this size and precision");
        for candidate in order(listed, self.precision, &pass) {
            let operation = self.operation(convolution, candidate.math)?;
            let bytes = match self.workspace_of(shapes, &operation, candidate.algorithm) {
                Ok(bytes) if bytes <= MAX_WORKSPACE => bytes,
                Ok(_) => continue,
                Err(error) => {
                    refused = failed("query the workspace size of a convolution")(error);
                    continue;
                }
            };
            let Some(address) = bench.workspace(bytes) else { continue };
            let chosen = Chosen { operation, candidate, bytes };
            match self.run(shapes, &chosen, pass, (address, bytes)).and_then(|()| bench.wait()) {
                Ok(()) => return Ok(chosen),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The algorithms of a pass in cuDNN's order, fastest first.
    fn list(
        &self,
        shapes: &Shapes,
        operation: &Operation,
        pass: &ConvolutionPass,
    ) -> Result<Vec<Candidate>, CudaError> {
        let (cudnn, x, y, w, c) = (self.handle.0, shapes.input.0, shapes.output.0, shapes.filters.0, operation.0);
        match pass {
            ConvolutionPass::Forward { .. } => list(
                // SAFETY: all descriptors are valid, and the array has room for the requested number of results.
                |most, found, answers| unsafe {
                    result::get_convolution_forward_algorithm(cudnn, x, w, c, y, most, found, answers)
                },
                |answer: &sys::cudnnConvolutionFwdAlgoPerf_t| {
                    (answer.status, Algorithm::Forward(answer.algo), answer.determinism, answer.mathType)
                },
            ),
            ConvolutionPass::InputGradient { .. } => list(
                // SAFETY: as above.
                |most, found, answers| unsafe {
                    result::get_convolution_backward_data_algorithm(cudnn, w, y, c, x, most, found, answers)
                },
                |answer: &sys::cudnnConvolutionBwdDataAlgoPerf_t| {
                    (answer.status, Algorithm::Data(answer.algo), answer.determinism, answer.mathType)
                },
            ),
            ConvolutionPass::FilterGradient { .. } => list(
                // SAFETY: as above.
                |most, found, answers| unsafe {
                    result::get_convolution_backward_filter_algorithm(cudnn, x, y, c, w, most, found, answers)
                },
                |answer: &sys::cudnnConvolutionBwdFilterAlgoPerf_t| {
                    (answer.status, Algorithm::Filter(answer.algo), answer.determinism, answer.mathType)
                },
            ),
        }
    }

    /// The exact size of the workspace; the lists only estimate it.
    fn workspace_of(
        &self,
        shapes: &Shapes,
        operation: &Operation,
        algorithm: Algorithm,
    ) -> Result<usize, result::CudnnError> {
        let (cudnn, x, y, w, c) = (self.handle.0, shapes.input.0, shapes.output.0, shapes.filters.0, operation.0);
        // SAFETY: all descriptors are valid.
        unsafe {
            match algorithm {
                Algorithm::Forward(algorithm) => {
                    result::get_convolution_forward_workspace_size(cudnn, x, w, c, y, algorithm)
                }
                Algorithm::Data(algorithm) => {
                    result::get_convolution_backward_data_workspace_size(cudnn, w, y, c, x, algorithm)
                }
                Algorithm::Filter(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(cudnn, x, y, c, w, algorithm)
                }
            }
        }
    }

    /// Enqueues a pass. The queue checks that the buffers have the sizes of the convolution.
    pub fn convolve(&self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError> {
        let Some(Entry { shapes, passes }) = self.entries.get(convolution) else {
            return Err(CudaError::failed("convolve", "this size was not prepared"));
        };
        self.run(shapes, &passes[place(&pass)], pass, self.workspace)
    }

    fn run(
        &self,
        shapes: &Shapes,
        chosen: &Chosen,
        pass: ConvolutionPass,
        (work, room): (u64, usize),
    ) -> Result<(), CudaError> {
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = (from_ref(&one).cast::<c_void>(), from_ref(&zero).cast::<c_void>());
        let (cudnn, c) = (self.handle.0, chosen.operation.0);
        let (x, y, w) = (shapes.input.0, shapes.output.0, shapes.filters.0);
        let work = work as *mut c_void;
        let read = |buffer: Buffer| buffer.address as *const c_void;
        let write = |buffer: Buffer| buffer.address as *mut c_void;
        // SAFETY: descriptors and workspace are valid, the workspace has the size of the algorithm, and the buffers have
        // the described sizes.
        let done = unsafe {
            match (pass, chosen.candidate.algorithm) {
                (ConvolutionPass::Forward { input, filters, output }, Algorithm::Forward(algorithm)) => {
                    let (input, filters, output) = (read(input), read(filters), write(output));
                    result::convolution_forward(
                        cudnn, one, x, input, w, filters, c, algorithm, work, room, zero, y, output,
                    )
                }
                (
                    ConvolutionPass::InputGradient { filters, gradient, input_gradient, adds },
                    Algorithm::Data(algorithm),
                ) => {
                    let before = if adds { one } else { zero };
                    let (filters, dy, dx) = (read(filters), read(gradient), write(input_gradient));
                    result::convolution_backward_data(
                        cudnn, one, w, filters, y, dy, c, algorithm, work, room, before, x, dx,
                    )
                }
                (
                    ConvolutionPass::FilterGradient { input, gradient, filter_gradient },
                    Algorithm::Filter(algorithm),
                ) => {
                    let (input, dy, dw) = (read(input), read(gradient), write(filter_gradient));
                    result::convolution_backward_filter(
                        cudnn, one, x, input, y, dy, c, algorithm, work, room, zero, w, dw,
                    )
                }
                (pass, algorithm) => {
                    return Err(CudaError::failed("convolve", format!("{algorithm:?} is not of {pass:?}")));
                }
            }
        };
        done.map_err(failed("convolve"))
    }
}

/// What cuDNN lists, without what it does not support.
fn list<A: Copy>(
    ask: impl FnOnce(c_int, &mut c_int, *mut A) -> Result<(), result::CudnnError>,
    facts: impl Fn(&A) -> (Status, Algorithm, Determinism, MathType),
) -> Result<Vec<Candidate>, CudaError> {
    // SAFETY: cuDNN's results are plain data, for which all-zero is valid.
    let mut answers: [A; MAX_ALGORITHMS] = unsafe { std::mem::zeroed() };
    let mut found = 0;
    let asked = ask(MAX_ALGORITHMS as c_int, &mut found, answers.as_mut_ptr());
    asked.map_err(failed("list the algorithms of a convolution"))?;
    let candidate = |answer: &A| {
        let (status, algorithm, determinism, math) = facts(answer);
        let is_deterministic = determinism == Determinism::CUDNN_DETERMINISTIC;
        (status == Status::CUDNN_STATUS_SUCCESS).then_some(Candidate { algorithm, is_deterministic, math })
    };
    Ok(answers[..found as usize].iter().filter_map(candidate).collect())
}

/// The candidates in the order in which they are tried: those that repeat their bits, those that every version of cuDNN
/// has, and those that do not repeat their bits.
fn order(listed: Vec<Candidate>, precision: Precision, pass: &ConvolutionPass) -> Vec<Candidate> {
    // Strict f32 rounds no factors; other math types may.
    let is_allowed = |math| precision != Precision::F32 || math == MathType::CUDNN_FMA_MATH;
    let (repeating, others): (Vec<_>, Vec<_>) = listed
        .into_iter()
        .filter(|candidate| is_allowed(candidate.math))
        .partition(|candidate| candidate.is_deterministic);
    let usual = match pass {
        ConvolutionPass::Forward { .. } => vec![
            Algorithm::Forward(ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            Algorithm::Forward(ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
        ],
        ConvolutionPass::InputGradient { .. } => {
            vec![Algorithm::Data(DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1)]
        }
        ConvolutionPass::FilterGradient { .. } => {
            vec![Algorithm::Filter(FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1)]
        }
    };
    let maths = match precision {
        Precision::F32 => vec![MathType::CUDNN_FMA_MATH],
        Precision::Tf32 => vec![MathType::CUDNN_DEFAULT_MATH, MathType::CUDNN_FMA_MATH],
        Precision::Bf16 => vec![MathType::CUDNN_TENSOR_OP_MATH, MathType::CUDNN_DEFAULT_MATH],
    };
    let of_math = |algorithm| move |math| Candidate { algorithm, is_deterministic: true, math };
    let usual = usual.into_iter().flat_map(|algorithm| maths.iter().copied().map(of_math(algorithm)));
    let mut order: Vec<Candidate> = Vec::new();
    for candidate in repeating.into_iter().chain(usual).chain(others) {
        if !order.contains(&candidate) {
            order.push(candidate);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::buffer::Number;

    fn forward() -> ConvolutionPass {
        let buffer = Buffer { address: 0, length: 0, number: Number::F32 };
        ConvolutionPass::Forward { input: buffer, filters: buffer, output: buffer }
    }

    fn candidate(algorithm: ForwardAlgorithm, is_deterministic: bool, math: MathType) -> Candidate {
        Candidate { algorithm: Algorithm::Forward(algorithm), is_deterministic, math }
    }

    #[test]
    fn algorithms_that_repeat_their_bits_come_first_then_those_that_are_always_there() {
        use ForwardAlgorithm::{
            CUDNN_CONVOLUTION_FWD_ALGO_GEMM as GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM as IMPLICIT,
            CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM as PRECOMPUTED,
            CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD as WINOGRAD,
        };
        use MathType::{CUDNN_FMA_MATH as FMA, CUDNN_TENSOR_OP_MATH as TENSOR};
        let listed = vec![
            candidate(GEMM, false, FMA),
            candidate(WINOGRAD, true, TENSOR),
            candidate(WINOGRAD, true, FMA),
            candidate(IMPLICIT, true, FMA),
        ];
        assert_eq!(
            order(listed, Precision::F32, &forward()),
            [
                candidate(WINOGRAD, true, FMA),
                candidate(IMPLICIT, true, FMA),
                candidate(PRECOMPUTED, true, FMA),
                candidate(GEMM, false, FMA),
            ]
        );
    }

    #[test]
    fn tensor_cores_keep_the_math_type_of_the_list() {
        let algorithm = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED;
        let listed = vec![candidate(algorithm, true, MathType::CUDNN_TENSOR_OP_MATH)];
        for precision in [Precision::Tf32, Precision::Bf16] {
            assert_eq!(order(listed.clone(), precision, &forward())[0], listed[0]);
        }
    }
}
