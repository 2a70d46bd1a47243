//! The kernels by name, and their source.

/// What NVRTC is told before the source: it knows CUDA's words, but not ours.
pub const PREFIX: &str = "#define KERNEL extern \"C\" __global__ void\n";

/// The source of all kernels.
pub const SOURCE: &str = concat!(
    include_str!("source/prelude.cu"),
    include_str!("source/batch.cu"),
    include_str!("source/layers.cu"),
    include_str!("source/loss.cu"),
    include_str!("source/optimiser.cu"),
);

/// Threads of a block: `BLOCK` in the source.
pub const BLOCK: usize = 256;

macro_rules! kernels {
    ($($(#[$doc:meta])* $kernel:ident = $name:literal $($waits:ident)?,)*) => {
        /// A function of the source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kernel {
            $($(#[$doc])* $kernel,)*
        }

        impl Kernel {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kernel,)*];

            /// The name in the source.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kernel => $name,)*
                }
            }

            /// Whether the threads of a block wait for each other.
            pub const fn waits(self) -> bool {
                match self {
                    $(Self::$kernel => kernels!(@waits $($waits)?),)*
                }
            }
        }
    };
    (@waits waits) => { true };
    (@waits) => { false };
}

kernels! {
    /// Moves weights by one step of Adam.
    Adam = "adam",
    /// Looks where a step is, and makes its keys of dropout.
    BeginStep = "begin_step" waits,
    /// Adds the bias, with ReLU if wanted.
    BiasF32 = "bias_f32",
    /// The same in bf16.
    BiasBf16 = "bias_bf16",
    /// The same from f32 to bf16.
    BiasNarrow = "bias_narrow",
    /// ReLU's gradient, and sums for the bias'.
    BiasGradientF32 = "bias_gradient_f32" waits,
    /// The same in bf16.
    BiasGradientBf16 = "bias_gradient_bf16" waits,
    /// The same from f32 to bf16.
    BiasGradientNarrow = "bias_gradient_narrow" waits,
    /// Changes brightness, contrast and saturation.
    ChangeColours = "change_colours" waits,
    /// What gradients are multiplied with so that their norm is not too large.
    ClipFactor = "clip_factor" waits,
    /// Moves and normalises images.
    DrawF32 = "draw_f32",
    /// The same to bf16.
    DrawBf16 = "draw_bf16",
    /// Sets values to 0 at random.
    DropoutF32 = "dropout_f32",
    /// The same in bf16.
    DropoutBf16 = "dropout_bf16",
    /// The loss and its gradient.
    LossGradient = "loss_gradient" waits,
    /// Mixes pairs of images.
    MixF32 = "mix_f32",
    /// The same to bf16.
    MixBf16 = "mix_bf16",
    /// From f32 to bf16.
    Narrow = "narrow",
    /// The largest value of each window.
    PoolF32 = "pool_f32",
    /// The same in bf16.
    PoolBf16 = "pool_bf16",
    /// Where the gradient of a window goes.
    PoolGradientF32 = "pool_gradient_f32",
    /// The same in bf16.
    PoolGradientBf16 = "pool_gradient_bf16",
    /// Sums of squares.
    SquareSums = "square_sums" waits,
    /// Sums the sums of blocks.
    SumPartials = "sum_partials" waits,
    /// From bf16 to f32.
    Widen = "widen",
}
