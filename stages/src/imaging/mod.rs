//! Image processing: decoding, orientation, resizing, drawing.

mod constancy;
mod decode;
mod embed;
mod hair;
mod jpeg;
mod lesion;
mod planes;
mod preparation;
mod resize;

pub use decode::{BadImage, Decoder, MAX_PIXELS, Pixels, decode};
pub use embed::jpeg_base64;
pub use lesion::{Diagnosis, Lesion};
pub use preparation::{ColourConstancy, Decoding, Fit, HairRemoval, Preparation, Preparer};
pub use resize::{Filter, Resizer, Span};
