//! Images as pixels: decoding, turning upright, resizing, drawing.

mod decode;
mod jpeg;
mod lesion;
mod resize;

pub use decode::{BadImage, MAX_PIXELS, decode};
pub use lesion::{Diagnosis, Lesion};
pub use resize::{Filter, Resizer};
