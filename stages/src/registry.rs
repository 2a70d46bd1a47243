//! The table of kinds: a new kind is one file and one line here.

use hamflow_stage_api::Kind;

use crate::command::Command;
use crate::impute::Impute;
use crate::metadata::Metadata;
use crate::preprocess::Preprocess;
use crate::split::Split;
use crate::synthetic::Synthetic;

/// Every built-in kind, in the order of the reference.
pub const KINDS: &[&dyn Kind] = &[&Metadata, &Impute, &Split, &Preprocess, &Command, &Synthetic];
