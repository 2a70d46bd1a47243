//! The contract between the engine, which schedules stages, and the kinds of stage, which do the work.
//!
//! A kind implements [`Kind`], and a trait such as [`Parts`] for what only some kinds can do. The engine holds every kind as
//! [`AnyKind`]. It queries inputs and outputs ([`Port`], [`Output`]), lets the kind validate its parameters, and passes it a
//! [`StageContext`] to run. A [`Subcommand`] is a command that comes with the kinds; it gets what it needs from a [`Host`]. Neither
//! side depends on anything else of the other.

mod any_kind;
mod artifact;
mod capability;
mod context;
mod digest;
pub mod envelope;
mod error;
mod escape;
mod input;
mod job;
mod kind;
pub mod layout;
mod lineage;
pub mod near_miss;
mod open;
mod output;
pub mod parameters;
mod part;
mod project;
mod random;
mod reads;
mod redact;
mod remaining_time;
mod subcommand;
pub mod svg;
pub mod sys;

pub use any_kind::{AnyKind, Resolved, perform};
pub use artifact::{Access, ArtifactType, Output, Port, RUN_DETAILS};
pub use capability::{
    Columns, Curves, Devices, DrawnPlots, Files, PairedDifference, Pairs, Parts, Planning, Plots, Preview, Series,
    Tools, Versions, View, Views,
};
pub use context::{EventSink, StageContext};
pub use digest::{Digest, FileDigest, ParseDigestError};
pub use error::{ErrorCategory, ParamError, Place, StageError};
pub use escape::escape_controls;
pub use input::{Input, InputFile, Inputs, Opened, ReadAhead};
pub use job::{Job, JobEvent, JobPart, JobResult};
pub use kind::{Kind, KindSpec, Params, Threads};
pub use lineage::{Lineage, LineageInput, LineageSource, LineageStage};
pub use open::{open_regular, open_with, read_regular, read_text};
pub use output::OutputFile;
pub use part::{Part, PartOutput, Plan};
pub use project::{DetectedProject, ProjectDetector};
pub use random::Random;
pub use reads::{FileStamp, ReadKind, Undeclared, UndeclaredRead};
pub use redact::{RedactedStream, Redactor};
pub use remaining_time::remaining_time;
pub use subcommand::{Argument, Arguments, CommandError, Form, Host, Subcommand, SubcommandSpec, Wanted};
pub use sys::{Symlinks, available_memory, devices_and_drivers};
