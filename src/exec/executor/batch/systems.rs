//! The table of batch systems. To add one, add a file and a line in [`SYSTEMS`].

use std::sync::Arc;

use super::system::BatchSystem;
use super::{slurm, template};
use crate::config::{ExecutorKind, ExecutorOptions};

type Make = fn(&ExecutorOptions) -> Arc<dyn BatchSystem>;

/// All batch systems.
const SYSTEMS: &[(ExecutorKind, Make)] = &[
    (ExecutorKind::Slurm, |options| Arc::new(slurm::Slurm::new(options))),
    (ExecutorKind::Template, |options| Arc::new(template::Template::new(options))),
];

/// The batch system of an executor.
pub fn system(options: &ExecutorOptions) -> Arc<dyn BatchSystem> {
    let (_, make) = SYSTEMS.iter().find(|(kind, _)| *kind == options.kind).expect("every kind is in the table");
    make(options)
}
