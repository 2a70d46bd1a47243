//! Matrix products with cuBLAS.

use std::ffi::c_void;
use std::ptr::from_ref;

use cudarc::cublas::result;
use cudarc::cublas::sys::{
    self, cublasComputeType_t as Compute, cublasGemmAlgo_t as Algorithm, cublasOperation_t as Operation,
    cudaDataType as DataType,
};
use cudarc::driver::sys::CUstream;

use super::CudaError;
use super::buffer::{Buffer, Number};
use super::queue::{Matrix, Product};
use crate::precision::Precision;

/// The workspace size in bytes: NVIDIA's recommendation for Hopper; older devices need less.
pub const WORKSPACE: usize = 32 << 20;

/// A cuBLAS handle on a stream.
pub struct Products {
    handle: sys::cublasHandle_t,
    precision: Precision,
}

// SAFETY: a handle may be used from any thread, one at a time.
unsafe impl Send for Products {}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: the handle exists and is destroyed only here. A failure to destroy it is harmless.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn failed(action: &'static str) -> impl Fn(result::CublasError) -> CudaError {
    move |error| CudaError::failed(action, error.0)
}

fn data_type(buffer: Buffer) -> DataType {
    match buffer.number {
        Number::Bf16 => DataType::CUDA_R_16BF,
        _ => DataType::CUDA_R_32F,
    }
}

impl Products {
    /// Initialises cuBLAS on a stream of the current context, with a workspace of [`WORKSPACE`] bytes.
    ///
    /// With its own workspace, cuBLAS does not allocate during a recording, and is deterministic on a single stream.
    pub fn new(stream: CUstream, workspace: u64, precision: Precision) -> Result<Self, CudaError> {
        let start = failed("start cuBLAS");
        let products = Self { handle: result::create_handle().map_err(&start)?, precision };
        // SAFETY: handle and stream are valid.
        unsafe { result::set_stream(products.handle, stream.cast()) }.map_err(&start)?;
        // SAFETY: the workspace has the given size.
        unsafe { sys::cublasSetWorkspace_v2(products.handle, workspace as *mut c_void, WORKSPACE) }
            .result()
            .map_err(&start)?;
        Ok(products)
    }

    /// Enqueues a product. The queue checks that the buffers have the sizes of the product.
    pub fn multiply(&self, product: &Product) -> Result<(), CudaError> {
        let Product { rows, inner, columns, left, right, output, adds } = *product;
        let compute = match self.precision {
            Precision::Tf32 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::F32 | Precision::Bf16 => Compute::CUBLAS_COMPUTE_32F,
        };
        let (one, before) = (1.0f32, if adds { 1.0f32 } else { 0.0 });
        // cuBLAS is column-major. A row-major matrix read as column-major is its transpose, and (A B)ᵀ = Bᵀ Aᵀ. So
        // the factors are swapped, and each is transposed for cuBLAS exactly if it is transposed here.
        let transposed = |matrix: Matrix| match matrix.is_transposed {
            true => Operation::CUBLAS_OP_T,
            false => Operation::CUBLAS_OP_N,
        };
        let left_stride = if left.is_transposed { rows } else { inner };
        let right_stride = if right.is_transposed { inner } else { columns };
        // SAFETY: the handle is valid, and the buffers have the given sizes.
        let done = unsafe {
            result::gemm_ex(
                self.handle,
                transposed(right),
                transposed(left),
                columns as i32,
                rows as i32,
                inner as i32,
                from_ref(&one).cast(),
                right.buffer.address as *const c_void,
                data_type(right.buffer),
                right_stride as i32,
                left.buffer.address as *const c_void,
                data_type(left.buffer),
                left_stride as i32,
                from_ref(&before).cast(),
                output.address as *mut c_void,
                data_type(output),
                columns as i32,
                compute,
                Algorithm::CUBLAS_GEMM_DFALT,
            )
        };
        done.map_err(failed("multiply matrices"))
    }
}
