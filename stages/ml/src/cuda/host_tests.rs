//! A queue that runs the kernels' source on the CPU, one block at a time, with naive products. It tests the device
//! code without a device.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use libloading::Library;

use super::CudaError;
use super::buffer::{Buffer, Number};
use super::cursor::Cursor;
use super::kernel::{BLOCK, Kernel, SOURCE};
use super::queue::{Argument, Convolution, ConvolutionPass, Matrix, Product, Queue};
use crate::precision::Precision;

/// The kernels compiled for the CPU.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(build)
}

/// The kernels as C++, with a function that runs one by its name.
fn source() -> String {
    let mut text = include_str!("source/host.h").to_owned();
    text.push_str(SOURCE);
    text.push_str("\nextern \"C\" void run(const char *name, u32 blocks, void **arguments) {\n");
    for kernel in Kernel::ALL {
        let (name, waits) = (kernel.name(), kernel.waits());
        text.push_str(&format!(
            "if (!std::strcmp(name, \"{name}\")) return launch({name}, blocks, BLOCK, {waits}, arguments);\n"
        ));
    }
    text.push_str("std::abort();\n}\n");
    text
}

/// Compiles C++ to a file.
fn compile(text: &str, to: &Path, options: &[&str]) {
    let source = to.with_extension("cpp");
    std::fs::write(&source, text).unwrap();
    // Enables the FMA instruction; without it, each fused multiply-add is a function call.
    let native: &[&str] =
        if cfg!(target_arch = "x86_64") && is_x86_feature_detected!("fma") { &["-mfma"] } else { &[] };
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE"]);
    let output = command.args(options).args(native).arg("-o").args([to, &source]).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run the C++ compiler `{compiler}`: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn build() -> Library {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("kernels.so");
    compile(&source(), &library, &["-O2", "-shared", "-fPIC"]);
    // SAFETY: the library's only initialisers are those of thread-local variables.
    unsafe { Library::new(&library) }.unwrap()
}

#[derive(Clone)]
pub enum Order {
    Launch(Kernel, usize, Vec<Argument>),
    Convolve(Convolution, ConvolutionPass),
    Multiply(Product),
}

/// A recorded step, which must be dropped before the memory that it uses.
pub struct Recording {
    orders: Vec<Order>,
    queue: Weak<()>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        assert!(self.queue.strong_count() > 0 || std::thread::panicking(), "a recording outlived its queue");
    }
}

/// A device emulated on the CPU.
pub struct HostQueue {
    library: &'static Library,
    memory: Vec<Box<[u64]>>,
    precision: Precision,
    recorded: Option<Vec<Order>>,
    alive: Arc<()>,
    /// The number of recordings that have begun and not ended.
    pub open_recordings: Arc<AtomicUsize>,
    /// Whether convolutions fail during recordings.
    pub fails: bool,
    /// Whether the cursors that are sent back tell of a loss that is not finite, although there is none.
    pub lies: bool,
    slots: [Vec<u8>; 2],
    prepared: Vec<Convolution>,
    /// The number of executed commands and replays.
    pub replays: usize,
    /// The launches with the bytes before and after, for `source/replay.cpp`.
    launches: Option<Arc<Mutex<Launches>>>,
}

/// Recorded launches.
#[derive(Default)]
pub struct Launches {
    count: u64,
    bytes: Vec<u8>,
}

impl Launches {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend((bytes.len() as u64).to_le_bytes());
        self.bytes.extend(bytes);
    }
}

/// The bytes of buffers, by place.
fn contents(buffers: &[Buffer]) -> Vec<Vec<u8>> {
    // SAFETY: the buffers were allocated with this length, and their queue is alive.
    let of =
        |buffer: &Buffer| unsafe { std::slice::from_raw_parts(buffer.address as *const u8, buffer.bytes()).to_vec() };
    buffers.iter().map(of).collect()
}

/// Runs what was recorded under a sanitizer.
pub fn replay(launches: &Launches, sanitizer: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (program, file) = (folder.path().join("replay"), folder.path().join("launches"));
    let Launches { count, bytes } = launches;
    std::fs::write(&file, [&count.to_le_bytes()[..], bytes].concat()).unwrap();
    let text = format!("{}{}", source(), include_str!("source/replay.cpp"));
    compile(&text, &program, &["-DREAL_THREADS", "-O1", "-g", "-pthread", "-include", "string", sanitizer]);
    let output = Command::new(&program).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sanitizer}: {:.4000}", said);
    assert!(String::from_utf8_lossy(&output.stdout).contains("launches"), "{said}");
}

impl HostQueue {
    /// Creates a queue.
    pub fn new(precision: Precision) -> Self {
        Self {
            library: library(),
            memory: Vec::new(),
            precision,
            recorded: None,
            alive: Arc::default(),
            open_recordings: Arc::default(),
            fails: false,
            lies: false,
            slots: Default::default(),
            prepared: Vec::new(),
            replays: 0,
            launches: None,
        }
    }

    /// A queue that adds its launches to others.
    pub fn remembering(launches: &Arc<Mutex<Launches>>) -> Self {
        Self { launches: Some(Arc::clone(launches)), ..Self::new(Precision::F32) }
    }

    /// Remembers a launch, which `run` executes.
    fn remember(&self, kernel: Kernel, blocks: usize, arguments: &[Argument], run: impl FnOnce()) {
        let Some(launches) = &self.launches else { return run() };
        // One buffer for each place; views of it may have different lengths.
        let mut buffers: Vec<Buffer> = Vec::new();
        for argument in arguments {
            let Argument::Buffer(buffer) = argument else { continue };
            match buffers.iter_mut().find(|other| other.address == buffer.address) {
                Some(other) if other.bytes() < buffer.bytes() => *other = *buffer,
                Some(_) => {}
                None => buffers.push(*buffer),
            }
        }
        let before = contents(&buffers);
        run();
        let launches = &mut *launches.lock().unwrap();
        launches.count += 1;
        launches.put(kernel.name().as_bytes());
        launches.bytes.extend((blocks as u32).to_le_bytes());
        launches.bytes.extend((buffers.len() as u32).to_le_bytes());
        before.iter().for_each(|bytes| launches.put(bytes));
        launches.bytes.extend((arguments.len() as u32).to_le_bytes());
        for argument in arguments {
            launches.bytes.push(u8::from(matches!(argument, Argument::Buffer(_))));
            match argument {
                Argument::Buffer(buffer) => {
                    let place = buffers.iter().position(|other| other.address == buffer.address).unwrap();
                    launches.bytes.extend((place as u32).to_le_bytes());
                }
                Argument::Nothing => launches.put(&0u64.to_le_bytes()),
                Argument::U32(value) => launches.put(&value.to_le_bytes()),
                Argument::U64(value) => launches.put(&value.to_le_bytes()),
                Argument::F32(value) => launches.put(&value.to_le_bytes()),
                Argument::F64(value) => launches.put(&value.to_le_bytes()),
                Argument::Window(window) => {
                    let words = [
                        [window.height, window.width, window.channels],
                        [window.out_height, window.out_width, window.size],
                        [window.stride, window.top, window.left],
                    ];
                    let bytes: Vec<u8> = words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
                    launches.put(&bytes);
                }
            }
        }
        contents(&buffers).iter().for_each(|bytes| launches.put(bytes));
    }

    fn give(&mut self, order: Order) {
        match &mut self.recorded {
            Some(orders) => orders.push(order),
            None => self.carry_out(&order),
        }
    }

    fn carry_out(&self, order: &Order) {
        match order {
            Order::Launch(kernel, blocks, arguments) => {
                let words: Vec<u64> = arguments
                    .iter()
                    .map(|argument| match argument {
                        Argument::Window(_) => 0,
                        Argument::Buffer(buffer) => buffer.address,
                        Argument::Nothing => 0,
                        Argument::U32(value) => u64::from(*value),
                        Argument::U64(value) => *value,
                        Argument::F32(value) => u64::from(value.to_bits()),
                        Argument::F64(value) => value.to_bits(),
                    })
                    .collect();
                let pointer = |(argument, word): (&Argument, _)| match argument {
                    Argument::Window(window) => std::ptr::from_ref(window).cast(),
                    _ => std::ptr::from_ref(word),
                };
                let mut pointers: Vec<*const u64> = arguments.iter().zip(&words).map(pointer).collect();
                let name = std::ffi::CString::new(kernel.name()).unwrap();
                type Run = unsafe extern "C" fn(*const std::ffi::c_char, u32, *mut *const u64) -> ();
                // SAFETY: the function has the signature in `source`; arguments are words that are read as the
                // kernel's parameter types.
                self.remember(*kernel, *blocks, arguments, || unsafe {
                    let run = self.library.get::<Run>(b"run").unwrap();
                    run(name.as_ptr(), *blocks as u32, pointers.as_mut_ptr());
                });
            }
            Order::Convolve(convolution, pass) => convolve(self.precision, convolution, *pass),
            Order::Multiply(product) => multiply(self.precision, product),
        }
    }
}

fn get(buffer: Buffer, index: usize) -> f64 {
    assert!(index < buffer.length, "{index} of {}", buffer.length);
    // SAFETY: the buffer was allocated with this length, and its queue is alive.
    unsafe {
        match buffer.number {
            Number::F32 => f64::from(*(buffer.address as *const f32).add(index)),
            Number::Bf16 => {
                let bits = *(buffer.address as *const u16).add(index);
                f64::from(f32::from_bits(u32::from(bits) << 16))
            }
            other => panic!("{other:?} is not an element type of products"),
        }
    }
}

fn put(buffer: Buffer, index: usize, value: f64) {
    assert!(index < buffer.length, "{index} of {}", buffer.length);
    let value = value as f32;
    // SAFETY: as above.
    unsafe {
        match buffer.number {
            Number::F32 => *(buffer.address as *mut f32).add(index) = value,
            Number::Bf16 => {
                let bits = value.to_bits();
                *(buffer.address as *mut u16).add(index) = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
            }
            other => panic!("{other:?} is not an element type of products"),
        }
    }
}

fn give(buffer: Buffer, index: usize, value: f64, adds: bool) {
    let before = if adds { get(buffer, index) } else { 0.0 };
    put(buffer, index, before + value);
}

/// A factor of a product: tf32 rounds to ten bits of the mantissa.
fn factor(precision: Precision, value: f64) -> f64 {
    match precision {
        Precision::Tf32 => f64::from(f32::from_bits(((value as f32).to_bits() + 0x1000) & !0x1fff)),
        Precision::F32 | Precision::Bf16 => value,
    }
}

fn multiply(precision: Precision, product: &Product) {
    let Product { rows, inner, columns, left, right, output, adds } = *product;
    let matrix = |matrix: Matrix, rows: usize, columns: usize| -> Vec<f64> {
        let at = |row: usize, column: usize| match matrix.is_transposed {
            true => column * rows + row,
            false => row * columns + column,
        };
        (0..rows * columns).map(|i| factor(precision, get(matrix.buffer, at(i / columns, i % columns)))).collect()
    };
    let (left, right) = (matrix(left, rows, inner), matrix(right, inner, columns));
    let mut sums = vec![0.0; columns];
    for (row, left) in left.chunks_exact(inner).enumerate() {
        sums.fill(0.0);
        for (value, right) in left.iter().zip(right.chunks_exact(columns)) {
            sums.iter_mut().zip(right).for_each(|(sum, other)| *sum += value * other);
        }
        sums.iter().enumerate().for_each(|(column, sum)| give(output, row * columns + column, *sum, adds));
    }
}

/// Visits each triple of output pixel, input pixel and filter tap.
fn each_tap(convolution: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let Convolution { images, height, width, kernel, stride, padding: [top, left], .. } = *convolution;
    let [rows, columns] = convolution.output();
    for output in 0..images * rows * columns {
        let (image, y, x) = (output / columns / rows, output / columns % rows * stride, output % columns * stride);
        for tap in 0..kernel * kernel {
            let (from_y, from_x) = (y + tap / kernel, x + tap % kernel);
            if (top..height + top).contains(&from_y) && (left..width + left).contains(&from_x) {
                visit(output, (image * height + from_y - top) * width + from_x - left, tap);
            }
        }
    }
}

fn convolve(precision: Precision, convolution: &Convolution, pass: ConvolutionPass) {
    let Convolution { inputs, outputs, kernel, groups, .. } = *convolution;
    let values = |buffer: Buffer, length: usize| -> Vec<f64> {
        (0..length).map(|i| factor(precision, get(buffer, i))).collect()
    };
    let (x, y, w) = (convolution.input_len(), convolution.output_len(), convolution.filter_len());
    let (of_group, taps) = (inputs / groups, kernel * kernel);
    // For each output channel: its filter for a tap, and the channels of a pixel that it reads.
    let filter = |o: usize, tap: usize| (o * taps + tap) * of_group..(o * taps + tap + 1) * of_group;
    let channels = |pixel: usize, o: usize| {
        let first = pixel * inputs + o / (outputs / groups) * of_group;
        first..first + of_group
    };
    let (result, sums, adds) = match pass {
        ConvolutionPass::Forward { input, filters, output } => {
            let (input, filters, mut sums) = (values(input, x), values(filters, w), vec![0.0; y]);
            each_tap(convolution, |to, from, tap| {
                for o in 0..outputs {
                    let products = filters[filter(o, tap)].iter().zip(&input[channels(from, o)]).map(|(a, b)| a * b);
                    sums[to * outputs + o] += products.sum::<f64>();
                }
            });
            (output, sums, false)
        }
        ConvolutionPass::InputGradient { filters, gradient, input_gradient, adds } => {
            let (filters, gradient, mut sums) = (values(filters, w), values(gradient, y), vec![0.0; x]);
            each_tap(convolution, |to, from, tap| {
                for o in 0..outputs {
                    let slope = gradient[to * outputs + o];
                    let pairs = sums[channels(from, o)].iter_mut().zip(&filters[filter(o, tap)]);
                    pairs.for_each(|(sum, f)| *sum += slope * f);
                }
            });
            (input_gradient, sums, adds)
        }
        ConvolutionPass::FilterGradient { input, gradient, filter_gradient } => {
            let (input, gradient, mut sums) = (values(input, x), values(gradient, y), vec![0.0; w]);
            each_tap(convolution, |to, from, tap| {
                for o in 0..outputs {
                    let slope = gradient[to * outputs + o];
                    let pairs = sums[filter(o, tap)].iter_mut().zip(&input[channels(from, o)]);
                    pairs.for_each(|(sum, value)| *sum += slope * value);
                }
            });
            (filter_gradient, sums, false)
        }
    };
    sums.iter().enumerate().for_each(|(i, sum)| give(result, i, *sum, adds));
}

impl Queue for HostQueue {
    type Recording = Recording;

    fn allocate(&mut self, number: Number, length: usize) -> Result<Buffer, CudaError> {
        assert!(self.recorded.is_none(), "allocation during a recording");
        let memory = vec![0u64; (length * number.size()).div_ceil(8).max(1)].into_boxed_slice();
        let address = memory.as_ptr() as u64;
        self.memory.push(memory);
        Ok(Buffer { address, length, number })
    }

    fn upload(&mut self, to: Buffer, bytes: &[u8]) -> Result<(), CudaError> {
        assert!(self.recorded.is_none() && bytes.len() <= to.bytes());
        // SAFETY: the buffer was allocated with this length, and its queue is alive.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.address as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&mut self, from: Buffer) -> Result<Vec<u8>, CudaError> {
        assert!(self.recorded.is_none());
        // SAFETY: as above.
        Ok(unsafe { std::slice::from_raw_parts(from.address as *const u8, from.bytes()) }.to_vec())
    }

    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        assert!(blocks > 0 && BLOCK > 0, "{}", kernel.name());
        self.give(Order::Launch(kernel, blocks, arguments.to_vec()));
        Ok(())
    }

    fn prepare(&mut self, convolutions: &[Convolution]) -> Result<(), CudaError> {
        self.prepared.extend(convolutions);
        Ok(())
    }

    fn convolve(&mut self, convolution: &Convolution, pass: ConvolutionPass) -> Result<(), CudaError> {
        assert!(self.prepared.contains(convolution), "{convolution:?} was not prepared");
        if self.fails && self.recorded.is_some() {
            return Err(CudaError::failed("convolve", "it does not"));
        }
        self.give(Order::Convolve(*convolution, pass));
        Ok(())
    }

    fn multiply(&mut self, product: &Product) -> Result<(), CudaError> {
        self.give(Order::Multiply(*product));
        Ok(())
    }

    fn begin_recording(&mut self) -> Result<(), CudaError> {
        self.recorded = Some(Vec::new());
        self.open_recordings.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn end_recording(&mut self) -> Result<Recording, CudaError> {
        self.open_recordings.fetch_sub(1, Ordering::Relaxed);
        Ok(Recording { orders: self.recorded.take().unwrap(), queue: Arc::downgrade(&self.alive) })
    }

    fn replay(&mut self, recording: &Recording) -> Result<(), CudaError> {
        self.replays += 1;
        recording.orders.iter().for_each(|order| self.carry_out(order));
        Ok(())
    }

    fn send_back(&mut self, from: Buffer, slot: usize) -> Result<(), CudaError> {
        self.slots[slot] = self.download(from)?;
        Ok(())
    }

    fn received(&mut self, slot: usize) -> Result<Vec<u8>, CudaError> {
        let mut cursor = Cursor::from_bytes(&self.slots[slot]);
        cursor.bad_step += u64::from(self.lies);
        Ok(cursor.to_bytes())
    }
}
