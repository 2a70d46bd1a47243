//! The operating system: everything that differs between systems, and the only place that names their interfaces.
//!
//! `unix` has what POSIX systems share. What only Linux has comes with a fallback for the others: `linux` and `portable` have the same
//! functions, and one of them is compiled. `--cfg hamflow_portable` compiles `portable` on Linux too, where it is tested. What stages
//! need of the system is in `stages/api/src/sys.rs`.

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
mod linux;
#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
mod portable;
mod unix;

pub use hamflow_stage_api::sys::{inode, permissions, signal};
#[cfg(all(target_os = "linux", not(hamflow_portable)))]
pub use linux::*;
#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
pub use portable::*;
pub use unix::*;
