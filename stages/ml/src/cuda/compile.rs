//! Compiles the kernels' source to device code with NVRTC.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr::null;
use std::sync::{Mutex, PoisonError};

use cudarc::nvrtc::{result, sys};

use super::CudaError;
use super::kernel::{PREFIX, SOURCE};

/// An NVRTC program, destroyed on drop.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program exists and is destroyed only here. A failure to destroy it is harmless.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The version of NVRTC, which must be loadable.
pub fn version() -> Result<(i32, i32), CudaError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are valid for writes.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }
        .result()
        .map(|()| (major, minor))
        .map_err(|error| CudaError::failed("query the version of NVRTC", error))
}

/// The compute capabilities that NVRTC compiles for, times ten.
pub fn capabilities() -> Result<Vec<i32>, CudaError> {
    let failed = |error| CudaError::failed("query what NVRTC compiles for", error);
    let mut count = 0;
    // SAFETY: the pointer is valid for writes.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().map_err(failed)?;
    let mut found = vec![0; count as usize];
    // SAFETY: there is room for as many as NVRTC has.
    unsafe { sys::nvrtcGetSupportedArchs(found.as_mut_ptr()) }.result().map_err(failed)?;
    Ok(found)
}

/// Whether NVRTC can be loaded.
pub fn is_possible() -> bool {
    // SAFETY: loading the library only runs its initialisers.
    unsafe { sys::is_culib_present() }
}

type Compiled = Result<Vec<u8>, CudaError>;

/// The kernels for a compute capability, compiled once per process: it takes seconds.
pub fn compiled(capability: (i32, i32)) -> Compiled {
    static COMPILED: Mutex<BTreeMap<(i32, i32), Compiled>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(capability).or_insert_with(|| compile(capability)).clone()
}

/// Compiles all kernels for a compute capability. Requires NVRTC, but neither a device nor a driver.
///
/// The output is device code rather than PTX, so that a driver older than NVRTC can load it. Multiplications and
/// additions are not fused implicitly, so that the results equal those of the CPU kernels.
pub fn compile(capability: (i32, i32)) -> Compiled {
    compile_with(capability, &[]).map(|(code, _)| code)
}

/// Like [`compile`] with more options; also returns NVRTC's log.
pub(super) fn compile_with(capability: (i32, i32), more: &[&str]) -> Result<(Vec<u8>, String), CudaError> {
    let source = CString::new(format!("{PREFIX}{SOURCE}")).expect("the source contains no NUL");
    let failed = |action: &str, error| CudaError::failed(action, error);
    let mut program = std::ptr::null_mut();
    // SAFETY: the source outlives the program.
    unsafe { sys::nvrtcCreateProgram(&mut program, source.as_ptr(), c"hamflow.cu".as_ptr(), 0, null(), null()) }
        .result()
        .map_err(|error| failed("read the kernels", error))?;
    let program = Program(program);
    let architecture = format!("--gpu-architecture=sm_{}{}", capability.0, capability.1);
    let options: Vec<&str> = [&architecture, "--fmad=false", "--std=c++17"].iter().chain(more).copied().collect();
    // SAFETY: the program exists.
    let done = unsafe { result::compile_program(program.0, &options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.0) }.map_err(|error| failed("read the log", error))?;
    // SAFETY: NVRTC terminates its log with a NUL.
    let log = unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().trim().to_owned();
    if done.is_err() {
        return Err(CudaError::Compile { log });
    }
    let mut size = 0;
    // SAFETY: the program exists and the pointer is valid for writes.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }
        .result()
        .map_err(|error| failed("query the size of the kernels", error))?;
    let mut code = vec![0u8; size];
    // SAFETY: the buffer has the size that NVRTC reported.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| failed("read the compiled kernels", error))?;
    Ok((code, log))
}
