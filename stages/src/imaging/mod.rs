//! Images as pixels: decoding, turning upright, resizing, drawing.

mod decode;
mod jpeg;
mod resize;

pub use decode::{BadImage, MAX_PIXELS, decode};
pub use resize::{Filter, Resizer};
