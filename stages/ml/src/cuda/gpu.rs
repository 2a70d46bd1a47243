//! The queue of a real device.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError,
    LaunchConfig, PinnedHostSlice, PushKernelArg, result,
};
use cudarc::nvrtc::Ptx;

use super::buffer::{Buffer, Number};
use super::convolution::{Bench, Convolutions};
use super::cursor::Cursor;
use super::kernel::{BLOCK, Kernel};
use super::product::{Products, WORKSPACE};
use super::queue::{Argument, Convolution, ConvolutionPass, Matrix, Product, Queue, Window};
use super::{CudaError, compile, usable};
use crate::precision::Precision;

/// The first device, with one stream.
pub struct Gpu {
    // Fields drop in order: users of the stream before the stream.
    convolutions: Convolutions,
    products: Products,
    functions: HashMap<Kernel, CudaFunction>,
    slots: [Slot; 2],
    memory: Vec<CudaSlice<u8>>,
    stream: Arc<CudaStream>,
}

/// Host memory that the device copies to, and the event that follows the copy.
struct Slot {
    copied: CudaEvent,
    bytes: PinnedHostSlice<u8>,
}

fn failed(action: impl Into<String>) -> impl Fn(DriverError) -> CudaError {
    let action = action.into();
    move |error| {
        let said = error.error_string().map(|said| said.to_string_lossy().into_owned());
        CudaError::Failed { action: action.clone(), why: said.unwrap_or_else(|_| format!("{error:?}")) }
    }
}

impl Gpu {
    /// Initialises the device, if it and all libraries are available, and compiles the kernels for it.
    pub fn new(precision: Precision) -> Result<Self, CudaError> {
        let usable = usable(precision)?;
        let start = failed("be started");
        let context = CudaContext::new(0).map_err(&start)?;
        // SAFETY: there is only one stream, so no tracking between streams is needed. Events would break the recording.
        // Copies to the host are waited for by events of their own.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(&start)?;
        let module = context
            .load_module(Ptx::from_binary(compile::compiled(usable.capability)?))
            .map_err(failed("load the kernels"))?;
        let mut functions = HashMap::new();
        for kernel in Kernel::ALL {
            functions.insert(*kernel, module.load_function(kernel.name()).map_err(failed("find a kernel"))?);
        }
        let mut memory = Vec::new();
        let workspace = take(&stream, &mut memory, WORKSPACE)?;
        let slot = || {
            // SAFETY: a slot is only read after something was written to it.
            let bytes = unsafe { context.alloc_pinned_with_flags::<u8>(Cursor::SIZE, 0) };
            let copied = context.new_event(None).map_err(failed("create an event"))?;
            Ok::<_, CudaError>(Slot { copied, bytes: bytes.map_err(failed("allocate memory"))? })
        };
        Ok(Self {
            convolutions: Convolutions::new(stream.cu_stream(), precision)?,
            products: Products::new(stream.cu_stream(), workspace, precision)?,
            functions,
            slots: [slot()?, slot()?],
            memory,
            stream,
        })
    }

    /// For each convolution: the algorithms of its three passes, with their math types.
    pub fn algorithms(&self) -> Vec<(Convolution, [String; 3])> {
        self.convolutions.algorithms()
    }

    /// Waits until all commands have completed.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(failed("finish its work"))
    }

    fn bind(&self) -> Result<(), CudaError> {
        self.stream.context().bind_to_thread().map_err(failed("be used from this thread"))
    }
}

/// Allocates zeroed memory, owned by `memory`.
fn take(stream: &Arc<CudaStream>, memory: &mut Vec<CudaSlice<u8>>, bytes: usize) -> Result<u64, CudaError> {
    let slice = stream.alloc_zeros::<u8>(bytes.max(1)).map_err(failed(format!("allocate {bytes} bytes")))?;
    let address = slice.device_ptr(stream).0;
    memory.push(slice);
    Ok(address)
}

/// Memory for trying the algorithms of convolutions, freed afterwards.
struct TrialMemory<'a> {
    stream: &'a Arc<CudaStream>,
    /// Input, output and filters. f32, which has room for bf16 too.
    slices: [CudaSlice<f32>; 3],
    workspace: Option<CudaSlice<u8>>,
}

impl<'a> TrialMemory<'a> {
    fn new(stream: &'a Arc<CudaStream>, convolutions: &[Convolution]) -> Result<Self, CudaError> {
        let slice = |length: fn(&Convolution) -> usize| {
            let length = convolutions.iter().map(length).max().unwrap_or(0);
            stream.alloc_zeros::<f32>(length).map_err(failed("allocate memory for trying convolutions"))
        };
        let slices = [slice(Convolution::input_len)?, slice(Convolution::output_len)?, slice(Convolution::filter_len)?];
        Ok(Self { stream, slices, workspace: None })
    }
}

impl Bench for TrialMemory<'_> {
    fn buffers(&self) -> [Buffer; 3] {
        self.slices.each_ref().map(|slice| {
            let address = slice.device_ptr(self.stream).0;
            Buffer { address, length: slice.len(), number: Number::F32 }
        })
    }

    fn workspace(&mut self, bytes: usize) -> Option<u64> {
        if self.workspace.as_ref().is_none_or(|workspace| workspace.len() < bytes) {
            self.workspace = None;
            self.workspace = Some(self.stream.alloc_zeros::<u8>(bytes.max(1)).ok()?);
        }
        self.workspace.as_ref().map(|workspace| workspace.device_ptr(self.stream).0)
    }

    fn wait(&self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(failed("finish its work"))
    }
}

// SAFETY: it is `repr(C)`, with the fields of the kernels' structure in order.
unsafe impl DeviceRepr for Window {}

/// Rejects commands whose buffers are too small. The device would not reliably detect that.
fn check(action: &str, sizes: &[(Buffer, usize)]) -> Result<(), CudaError> {
    match sizes.iter().find(|(buffer, length)| buffer.length < *length) {
        None => Ok(()),
        Some((buffer, length)) => {
            Err(CudaError::failed(action, format!("a buffer has {} elements instead of {length}", buffer.length)))
        }
    }
}

impl Queue for Gpu {
    type Recording = CudaGraph;

    fn allocate(&mut self, number: Number, length: usize) -> Result<Buffer, CudaError> {
        let address = take(&self.stream, &mut self.memory, length * number.size())?;
        Ok(Buffer { address, length, number })
    }

    fn upload(&mut self, to: Buffer, bytes: &[u8]) -> Result<(), CudaError> {
        check("be written to", &[(to.cast(Number::U8), bytes.len())])?;
        self.bind()?;
        if !bytes.is_empty() {
            // SAFETY: the buffer has room for the bytes, which stay valid until the copy is complete.
            unsafe { result::memcpy_htod_async(to.address, bytes, self.stream.cu_stream()) }
                .map_err(failed("be written to"))?;
        }
        self.wait()
    }

    fn download(&mut self, from: Buffer) -> Result<Vec<u8>, CudaError> {
        self.bind()?;
        let mut bytes = vec![0; from.bytes()];
        if !bytes.is_empty() {
            // SAFETY: the host slice has room for the buffer's bytes until the copy is complete.
            unsafe { result::memcpy_dtoh_async(&mut bytes, from.address, self.stream.cu_stream()) }
                .map_err(failed("be read from"))?;
        }
        self.wait()?;
        Ok(bytes)
    }

    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        let function = &self.functions[&kernel];
        let mut launch = self.stream.launch_builder(function);
        for argument in arguments {
            match argument {
                Argument::Buffer(buffer) => launch.arg(&buffer.address),
                Argument::Nothing => launch.arg(&0u64),
                Argument::U32(value) => launch.arg(value),
                Argument::U64(value) => launch.arg(value),
                Argument::F32(value) => launch.arg(value),
                Argument::F64(value) => launch.arg(value),
                Argument::Window(window) => launch.arg(window),
            };
        }
        let shape =
            LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (BLOCK as u32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the session passes the kernel's parameters in order. The tests run the same launches on the CPU,
        // where wrong arguments are detected.
        unsafe { launch.launch(shape) }.map(|_| ()).map_err(failed(format!("run the kernel `{}`", kernel.name())))
    }

    fn prepare(&mut self, convolutions: &[Convolution]) -> Result<(), CudaError> {
        self.bind()?;
        let is_new = |convolution: &&Convolution| !self.convolutions.is_prepared(convolution);
        let new: Vec<Convolution> = convolutions.iter().filter(is_new).copied().collect();
        if !new.is_empty() {
            let mut bench = TrialMemory::new(&self.stream, &new)?;
            for convolution in &new {
                self.convolutions.prepare(convolution, &mut bench)?;
            }
        }
        let bytes = self.convolutions.wanted_workspace();
        if !self.convolutions.has_workspace(bytes) {
            let address = take(&self.stream, &mut self.memory, bytes)?;
            self.convolutions.set_workspace(address, bytes);
        }
        Ok(())
    }

    fn convolve(&mut self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError> {
        let (x, y, w) = (convolution.input_len(), convolution.output_len(), convolution.filter_len());
        let sizes = match pass {
            ConvolutionPass::Forward { input, filters, output } => [(input, x), (filters, w), (output, y)],
            ConvolutionPass::InputGradient { filters, gradient, input_gradient, .. } => {
                [(filters, w), (gradient, y), (input_gradient, x)]
            }
            ConvolutionPass::FilterGradient { input, gradient, filter_gradient } => {
                [(input, x), (gradient, y), (filter_gradient, w)]
            }
        };
        check("convolve", &sizes)?;
        self.bind()?;
        self.convolutions.convolve(convolution, pass)
    }

    fn multiply(&mut self, product: &Product) -> Result<(), CudaError> {
        let Product { rows, inner, columns, left, right, output, .. } = *product;
        let [Matrix { buffer: left, .. }, Matrix { buffer: right, .. }] = [left, right];
        check("multiply", &[(left, rows * inner), (right, inner * columns), (output, rows * columns)])?;
        self.bind()?;
        self.products.multiply(product)
    }

    fn begin_recording(&mut self) -> Result<(), CudaError> {
        self.wait()?;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed("record a step"))
    }

    fn end_recording(&mut self) -> Result<CudaGraph, CudaError> {
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed("record a step"))?;
        let graph = graph.ok_or_else(|| CudaError::failed("record a step", "it is empty"))?;
        graph.upload().map_err(failed("upload a recorded step"))?;
        Ok(graph)
    }

    fn replay(&mut self, recording: &CudaGraph) -> Result<(), CudaError> {
        recording.launch().map_err(failed("replay a step"))
    }

    fn send_back(&mut self, from: Buffer, slot: usize) -> Result<(), CudaError> {
        let view = self
            .memory
            .iter()
            .find(|slice| slice.device_ptr(&self.stream).0 == from.address)
            .ok_or_else(|| CudaError::failed("send back a buffer", "it is a subrange of another buffer"))?;
        let Slot { copied, bytes } = &mut self.slots[slot];
        self.stream.memcpy_dtoh(view, bytes).map_err(failed("send back a buffer"))?;
        copied.record(&self.stream).map_err(failed("send back a buffer"))
    }

    fn received(&mut self, slot: usize) -> Result<Vec<u8>, CudaError> {
        let Slot { copied, bytes } = &self.slots[slot];
        copied.synchronize().map_err(failed("finish its work"))?;
        bytes.as_slice().map(<[u8]>::to_vec).map_err(failed("finish its work"))
    }
}
