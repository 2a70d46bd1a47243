//! The exact text for each slip.
