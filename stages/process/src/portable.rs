//! What systems other than Linux have.

use std::convert::Infallible;
use std::io;
use std::process::Command;

use crate::isolation::Isolation;
use crate::watch::{Observed, Watch};

/// Programs cannot be observed, so there is none.
pub struct Observation(Infallible);

impl Observation {
    /// Fails.
    pub fn of(_command: &mut Command, _watch: Watch) -> io::Result<Self> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Cannot happen.
    pub fn started(&mut self) {
        match self.0 {}
    }

    /// Cannot happen.
    pub fn end(self) -> Observed {
        match self.0 {}
    }
}

/// Programs cannot be observed.
pub fn can_observe() -> bool {
    false
}

/// Files cannot be hidden.
pub fn can_isolate() -> bool {
    false
}

/// Fails.
pub fn isolate(_command: &mut Command, _isolation: &Isolation) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// An observation that saw nothing.
pub fn unobserved(why: &str) -> Observed {
    Observed { problem: Some(why.to_owned()), ..Observed::default() }
}

/// Orphans cannot be adopted.
pub fn adopt_orphans() {}

/// Programs other than the first one are not known.
pub fn end_descendants(_marker: (&str, &str)) {}

/// Programs that outlive the first one are not known.
pub fn end_orphans(_marker: (&str, &str)) -> Vec<String> {
    Vec::new()
}
