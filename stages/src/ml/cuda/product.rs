//! Products of matrices by cuBLAS.

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
use crate::ml::precision::Precision;

/// Bytes of workspace: what NVIDIA recommends for Hopper, and more than older devices want.
pub const WORKSPACE: usize = 32 << 20;

/// cuBLAS on a stream.
pub struct Products {
    handle: sys::cublasHandle_t,
    precision: Precision,
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: it was created and nobody destroyed it. That it cannot be destroyed is no reason to stop.
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
    /// Starts cuBLAS on a stream of the current context, with a workspace of [`WORKSPACE`] bytes.
    ///
    /// With a workspace of its own it allocates nothing while steps are recorded, and one stream always gives the same bits.
    pub fn new(stream: CUstream, workspace: u64, precision: Precision) -> Result<Self, CudaError> {
        let start = failed("start cuBLAS");
        let products = Self { handle: result::create_handle().map_err(&start)?, precision };
        // SAFETY: handle and stream live.
        unsafe { result::set_stream(products.handle, stream.cast()) }.map_err(&start)?;
        // SAFETY: the workspace is as large as said.
        unsafe { sys::cublasSetWorkspace_v2(products.handle, workspace as *mut c_void, WORKSPACE) }
            .result()
            .map_err(&start)?;
        Ok(products)
    }

    /// Orders a product. The buffers must have the sizes of the product, which the queue checks.
    pub fn multiply(&self, product: &Product) -> Result<(), CudaError> {
        let Product { rows, inner, columns, left, right, output } = *product;
        let compute = match self.precision {
            Precision::Tf32 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::F32 | Precision::Bf16 => Compute::CUBLAS_COMPUTE_32F,
        };
        let (one, zero) = (1.0f32, 0.0f32);
        // cuBLAS thinks in columns. Rows read as columns are the matrix turned over, and (A B)ᵀ = Bᵀ Aᵀ: so the factors change
        // places, and a factor is turned for cuBLAS just where it is turned for us.
        let turned = |matrix: Matrix| match matrix.is_turned {
            true => Operation::CUBLAS_OP_T,
            false => Operation::CUBLAS_OP_N,
        };
        let left_stride = if left.is_turned { rows } else { inner };
        let right_stride = if right.is_turned { inner } else { columns };
        // SAFETY: the handle lives, and the buffers are of the sizes that are said.
        let done = unsafe {
            result::gemm_ex(
                self.handle,
                turned(right),
                turned(left),
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
                from_ref(&zero).cast(),
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
