//! The kernels by name, and their source.

/// Definitions that NVRTC needs before the source.
pub const PREFIX: &str = "#define KERNEL extern \"C\" __global__ void\n";

/// The source of all kernels.
pub const SOURCE: &str = concat!(
    include_str!("source/prelude.cu"),
    include_str!("source/batch.cu"),
    include_str!("source/layers.cu"),
    include_str!("source/maps.cu"),
    include_str!("source/norm.cu"),
    include_str!("source/loss.cu"),
    include_str!("source/optimiser.cu"),
);

/// Threads per block: `BLOCK` in the source.
pub const BLOCK: usize = 256;

macro_rules! kernels {
    ($($(#[$doc:meta])* $kernel:ident = $name:literal $($waits:ident)?,)*) => {
        /// A kernel in the source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kernel {
            $($(#[$doc])* $kernel,)*
        }

        impl Kernel {
            /// All kernels.
            pub const ALL: &'static [Self] = &[$(Self::$kernel,)*];

            /// The name in the source.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kernel => $name,)*
                }
            }

            /// Whether the threads of a block synchronise.
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
    /// Updates weights by one step of Adam or AdamW.
    Adam = "adam",
    /// The same for stochastic gradient descent.
    Momentum = "momentum",
    /// Moves averages towards values.
    Blend = "blend",
    /// Advances the cursor to the next step and derives its dropout keys.
    BeginStep = "begin_step" waits,
    /// Adds the bias, optionally followed by ReLU.
    BiasF32 = "bias_f32",
    /// The same in bf16.
    BiasBf16 = "bias_bf16",
    /// The same from f32 to bf16.
    BiasNarrow = "bias_narrow",
    /// ReLU's gradient, and partial sums of the bias gradient.
    BiasGradientF32 = "bias_gradient_f32" waits,
    /// The same in bf16.
    BiasGradientBf16 = "bias_gradient_bf16" waits,
    /// The same from f32 to bf16.
    BiasGradientNarrow = "bias_gradient_narrow" waits,
    /// Changes brightness, contrast and saturation.
    ChangeColours = "change_colours" waits,
    /// The factor that limits the norm of the gradients.
    ClipFactor = "clip_factor" waits,
    /// Transforms and normalises images.
    DrawF32 = "draw_f32",
    /// The same, to bf16.
    DrawBf16 = "draw_bf16",
    /// Applies dropout.
    DropoutF32 = "dropout_f32",
    /// The same in bf16.
    DropoutBf16 = "dropout_bf16",
    /// Copies the logits of a step to those of all images.
    KeepLogits = "keep_logits",
    /// The loss and its gradient.
    LossGradient = "loss_gradient" waits,
    /// Erases rectangles, and applies MixUp or CutMix to pairs of images.
    MixF32 = "mix_f32",
    /// The same, to bf16.
    MixBf16 = "mix_bf16",
    /// Converts f32 to bf16.
    Narrow = "narrow",
    /// Max pooling.
    PoolF32 = "pool_f32",
    /// The same in bf16.
    PoolBf16 = "pool_bf16",
    /// The gradient of max pooling.
    PoolGradientF32 = "pool_gradient_f32",
    /// The same in bf16.
    PoolGradientBf16 = "pool_gradient_bf16",
    /// Partial sums of squares.
    SquareSums = "square_sums" waits,
    /// Sums the partial sums of the blocks, for few values.
    SumPartials = "sum_partials" waits,
    /// The same for many values.
    SumColumns = "sum_columns",
    /// Converts bf16 to f32.
    Widen = "widen",
    /// The sum of two maps.
    AddF32 = "add_f32",
    /// The same in bf16.
    AddBf16 = "add_bf16",
    /// The gradient of padding.
    CropF32 = "crop_f32",
    /// The same in bf16.
    CropBf16 = "crop_bf16",
    /// A depthwise convolution.
    DepthwiseF32 = "depthwise_f32",
    /// The same in bf16.
    DepthwiseBf16 = "depthwise_bf16",
    /// The gradient of its input.
    DepthwiseGradientF32 = "depthwise_gradient_f32",
    /// The same in bf16.
    DepthwiseGradientBf16 = "depthwise_gradient_bf16",
    /// Partial sums of the gradient of its weights.
    DepthwiseWeightsF32 = "depthwise_weights_f32" waits,
    /// The same from bf16.
    DepthwiseWeightsBf16 = "depthwise_weights_bf16" waits,
    /// Stochastic depth, or a copy.
    KeepImagesF32 = "keep_images_f32",
    /// The same in bf16.
    KeepImagesBf16 = "keep_images_bf16",
    /// The mean of each channel.
    MeanF32 = "mean_f32",
    /// The same in bf16.
    MeanBf16 = "mean_bf16",
    /// The gradient of the mean.
    MeanGradientF32 = "mean_gradient_f32",
    /// The same in bf16.
    MeanGradientBf16 = "mean_gradient_bf16",
    /// The gradients of a normalisation's weights, and the coefficients of that of its input.
    NormDifferentiate = "norm_differentiate" waits,
    /// The gradient of the input of a normalisation.
    NormGradientF32 = "norm_gradient_f32",
    /// The same in bf16.
    NormGradientBf16 = "norm_gradient_bf16",
    /// Mean and variance of a batch, and the running ones.
    NormMeasure = "norm_measure" waits,
    /// The running mean and variance.
    NormRecall = "norm_recall",
    /// The gradient of normalised values before their activation, and partial sums of it.
    NormSlopesF32 = "norm_slopes_f32" waits,
    /// The same in bf16.
    NormSlopesBf16 = "norm_slopes_bf16" waits,
    /// Zeros around a map.
    PadF32 = "pad_f32",
    /// The same in bf16.
    PadBf16 = "pad_bf16",
    /// The gradient of an activation.
    SlopesF32 = "slopes_f32",
    /// The same in bf16.
    SlopesBf16 = "slopes_bf16",
    /// Partial sums of each channel, and of its squares.
    StatisticsF32 = "statistics_f32" waits,
    /// The same from bf16.
    StatisticsBf16 = "statistics_bf16" waits,
    /// The values of a map, after normalisation and activation.
    ViewF32 = "view_f32",
    /// The same in bf16.
    ViewBf16 = "view_bf16",
    /// Max pooling over overlapping windows.
    WindowsF32 = "windows_f32",
    /// The same in bf16.
    WindowsBf16 = "windows_bf16",
    /// The gradient of max pooling over overlapping windows.
    WindowsGradientF32 = "windows_gradient_f32",
    /// The same in bf16.
    WindowsGradientBf16 = "windows_gradient_bf16",
}
