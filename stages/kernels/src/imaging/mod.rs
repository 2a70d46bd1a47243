//! Image processing: decoding, orientation, resizing, drawing.

mod constancy;
mod decode;
mod encode;
mod hair;
mod jpeg;
mod lesion;
mod pixels;
mod planes;
mod preparation;
mod resize;
mod warp;

pub use decode::{Decoder, decode};
pub use encode::{encode_jpeg, encode_png, jpeg_base64};
pub use lesion::{Diagnosis, Lesion};
pub use pixels::{BadImage, MAX_PIXELS, Pixels};
pub use preparation::{ColourConstancy, Decoding, Fit, HairRemoval, Preparation, Preparer};
pub use resize::{Filter, Resizer, Span};
pub use warp::warp;
