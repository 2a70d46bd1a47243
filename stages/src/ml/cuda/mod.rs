//! Training on a graphics processor of NVIDIA: the whole step runs there, from bytes to moved weights.
//!
//! Nothing is linked. The driver, NVRTC, cuBLAS and cuDNN are loaded when somebody asks for the device ([`library`]), and the
//! kernels in `source/` are compiled by NVRTC for the device that is there. [`session`] writes a step as orders to a
//! [`Queue`](queue::Queue): the [`gpu`] records them once as a CUDA graph and replays it, and the tests have a queue that runs the
//! same kernels on the processor, so that all but the drivers of NVIDIA's libraries is tested where there is no device. All
//! `unsafe` is in the modules that call those libraries: `library`, `compile`, `gpu`, `convolution`, `product`.
//!
//! An epoch begins with one upload of all that was drawn for it ([`epoch_buffer`]); from there to its end nothing is allocated, and
//! the processor only says "again" and now and then looks at a copy of the cursor that came back meanwhile.

pub mod buffer;
pub mod check;
pub mod compile;
mod convolution;
pub mod cursor;
pub mod engine;
pub mod epoch_buffer;
pub mod error;
pub mod gpu;
pub mod kernel;
pub mod library;
pub mod parameters;
pub mod plan;
mod product;
pub mod queue;
pub mod session;

pub use engine::CudaEngine;
pub use error::CudaError;
pub use gpu::Gpu;
pub use library::{Usable, usable};

#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod tests;
