//! The CPU kernels of the network on slices of `f32`, dispatched by CPU features. Contains all `unsafe` of the CPU path.
//!
//! Each kernel is written once as a safe generic function and compiled three times: with AVX-512, with AVX2 and FMA,
//! and portably. All three give identical bits:
//!
//! - Lanes run over output channels. Each output is a chain of fused multiply-adds in an order that depends only on
//!   the shapes, not on register width or blocking.
//! - `f32::mul_add` rounds once on every processor (slowly, in software, if there is no instruction).

mod conv;
mod dense;
mod depthwise;
mod lanes;
mod pointwise;
mod pool;
mod product;
mod view;
mod winograd;

pub use conv::{ConvShape, Epilogue, conv3x3, conv3x3_weight_gradient, flip};
pub use dense::{DenseShape, dense, dense_input_gradient, dense_weight_gradient};
pub use depthwise::{Correlation, Tap, correlate, row_weight_gradient};
pub use pointwise::{AdamStep, DropoutMask, adam, add, blend, dropout, momentum, relu_gradient, scale};
pub use pool::{Windows, max_pool, max_pool_gradient, window_max, window_max_gradient};
pub use product::{Matrix, ProductShape, outer_product, pack, packed_len, product};
pub use view::{
    Activation, NormCoefficients, NormSums, View, norm_gradient, norm_gradient_in_place, statistics, view,
    view_columns, view_gradient, view_gradient_sums,
};
pub use winograd::{
    OUTSIDE, Tile, winograd_filter_gradient, winograd_filters, winograd_input, winograd_output,
    winograd_output_gradient,
};

/// A set of CPU features. A value exists only if the processor supports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The level that every processor supports.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// The best level that this processor supports.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::PORTABLE)
    }

    /// All levels that this processor supports, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if has_avx2 {
                levels.push(Self(Instructions::Avx2));
            }
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if has_avx2 && has_avx512 {
                levels.push(Self(Instructions::Avx512));
            }
        }
        levels
    }
}

/// Defines a public function that dispatches a generic kernel to the instruction sets.
macro_rules! kernel {
    ($(#[$doc:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) { $body:expr }) => {
        kernel! {
            $(#[$doc])*
            pub fn $name($($argument: $type),*) { avx512 => $body, avx2 => $body, portable => $body }
        }
    };
    ($(#[$doc:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) {
        avx512 => $avx512:expr, avx2 => $avx2:expr, portable => $portable:expr $(,)?
    }) => {
        $(#[$doc])*
        pub fn $name(level: $crate::network::Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn with_avx512($($argument: $type),*) {
                $avx512
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn with_avx2($($argument: $type),*) {
                $avx2
            }
            match level.0 {
                $crate::network::Instructions::Portable => $portable,
                // SAFETY: a `Level` with these instructions is only constructed if the processor supports them.
                #[cfg(target_arch = "x86_64")]
                $crate::network::Instructions::Avx2 => unsafe { with_avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::network::Instructions::Avx512 => unsafe { with_avx512($($argument),*) },
            }
        }
    };
}
use kernel;

#[cfg(test)]
mod tests;
