//! From the kernels' source to the device's instructions, by NVRTC.

use std::ffi::{CStr, CString};
use std::ptr::null;

use cudarc::nvrtc::{result, sys};

use super::CudaError;
use super::kernel::{PREFIX, SOURCE};

/// A program of NVRTC's, destroyed at its end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created and nobody destroyed it. That it cannot be destroyed is no reason to stop.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The version of NVRTC. It must be there.
pub fn version() -> Result<(i32, i32), CudaError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the pointers are to numbers that live.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }
        .result()
        .map(|()| (major, minor))
        .map_err(|error| CudaError::failed("say NVRTC's version", error))
}

/// Whether NVRTC can be loaded.
pub fn is_possible() -> bool {
    // SAFETY: loading the library runs its initialisers, which is what they are for.
    unsafe { sys::is_culib_present() }
}

/// Compiles all kernels for a compute capability. NVRTC must be there; a device or a driver need not.
///
/// The instructions of the device come out, not PTX: a driver that is older than NVRTC takes them all the same. Products are
/// not fused with sums behind the source's back, so that the numbers are those of the processor's kernels.
pub fn compile(capability: (i32, i32)) -> Result<Vec<u8>, CudaError> {
    let source = CString::new(format!("{PREFIX}{SOURCE}")).expect("the source has no null in it");
    let failed = |action: &str, error| CudaError::failed(action, error);
    let mut program = std::ptr::null_mut();
    // SAFETY: the source outlives the program.
    unsafe { sys::nvrtcCreateProgram(&mut program, source.as_ptr(), c"hamflow.cu".as_ptr(), 0, null(), null()) }
        .result()
        .map_err(|error| failed("read the kernels", error))?;
    let program = Program(program);
    let options = [
        format!("--gpu-architecture=sm_{}{}", capability.0, capability.1),
        "--fmad=false".to_owned(),
        "--std=c++17".to_owned(),
    ];
    // SAFETY: the program lives.
    if unsafe { result::compile_program(program.0, &options) }.is_err() {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) }.map_err(|error| failed("say what is wrong", error))?;
        // SAFETY: NVRTC ends its log with a null.
        let log = unsafe { CStr::from_ptr(log.as_ptr()) };
        return Err(CudaError::Compile { log: log.to_string_lossy().trim().to_owned() });
    }
    let mut size = 0;
    // SAFETY: the program lives, and the pointer is to a number that does.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }
        .result()
        .map_err(|error| failed("measure the kernels", error))?;
    let mut code = vec![0u8; size];
    // SAFETY: there is room for as many bytes as NVRTC wants.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| failed("write the kernels", error))?;
    Ok(code)
}
