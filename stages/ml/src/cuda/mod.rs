//! Training on an NVIDIA GPU. Whole steps run on the device, from image bytes to updated weights.
//!
//! Nothing is linked. The driver, NVRTC, cuBLAS and cuDNN are loaded when the device is first requested
//! ([`library`]), and NVRTC compiles the kernels in `source/` for that device. [`session`] writes a step as commands
//! to a [`Queue`](queue::Queue). The [`gpu`] records them once as a CUDA graph and replays it. The tests have a queue
//! that runs the same kernels on the CPU, so that everything except NVIDIA's libraries is tested without a device.
//! All `unsafe` is in the modules that call those libraries: `library`, `compile`, `gpu`, `convolution`, `product`.
//!
//! An epoch starts with one upload of all its random numbers ([`epoch_buffer`]). From there to its end, nothing is
//! allocated: the host only replays the graph and occasionally reads a copy of the cursor, without waiting for the
//! device.

pub mod buffer;
pub mod check;
pub mod compile;
mod convolution;
pub mod cursor;
pub mod engine;
pub mod epoch_buffer;
pub mod error;
pub mod gpu;
pub mod inference;
pub mod kernel;
pub mod library;
pub mod parameters;
pub mod plan;
mod product;
pub mod queue;
pub mod rate;
pub mod session;

pub use engine::CudaEngine;
pub use error::CudaError;
pub use gpu::Gpu;
pub use inference::CudaModel;
pub use library::{Usable, usable};

#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod tests;
