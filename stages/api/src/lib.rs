//! The contract between the engine, which schedules stages, and the kinds of stage, which do the work.
//!
//! A kind implements [`Kind`]. The engine queries its inputs and outputs ([`Port`], [`Output`]), lets it validate its
//! parameters, and passes it a [`StageContext`] to run. Neither side depends on anything else of the other.

mod artifact;
mod classify;
mod context;
mod digest;
pub mod envelope;
mod error;
mod input;
mod job;
mod kind;
pub mod near_miss;
mod open;
mod output;
mod part;
mod random;
mod remaining_time;
pub mod svg;
pub mod sys;

pub use artifact::{Access, ArtifactType, Output, Port};
pub use classify::{Answer, Classified, Classify, Listener};
pub use context::{EventSink, StageContext};
pub use digest::{Digest, ParseDigestError};
pub use error::{ErrorCategory, ParamError, Place, StageError};
pub use input::{Input, InputFile, Inputs, Opened, ReadAhead};
pub use job::{Job, JobEvent, JobPart, JobResult};
pub use kind::{Kind, KindSpec, Params, Planning, Threads, View};
pub use open::{open_regular, open_with, read_regular, read_text};
pub use output::OutputFile;
pub use part::{Part, PartOutput, Plan};
pub use random::Random;
pub use remaining_time::remaining_time;
pub use sys::Symlinks;
