//! The tables of kinds and commands: a new one is one file and one line here.

use hamflow_stage_api::{AnyKind, Subcommand};

use crate::command::Command;
use crate::compare::Compare;
use crate::eda::Eda;
use crate::ensemble::Ensemble;
use crate::evaluate::Evaluate;
use crate::export::Export;
use crate::gradcam::GradCam;
use crate::impute::Impute;
use crate::metadata::Metadata;
use crate::predict::Predict;
use crate::preprocess::Preprocess;
use crate::report::Report;
use crate::search::Search;
use crate::split::Split;
use crate::synthetic::Synthetic;
use crate::train::Train;

/// Every built-in kind, in the order of the reference.
pub const KINDS: &[&dyn AnyKind] = &[
    &Metadata,
    &Eda,
    &Impute,
    &Split,
    &Preprocess,
    &Train,
    &Search,
    &Ensemble,
    &Evaluate,
    &Compare,
    &GradCam,
    &Export,
    &Report,
    &Command,
    &Synthetic,
];

/// Every command that comes with the kinds.
pub const COMMANDS: &[&dyn Subcommand] = &[&Predict];
