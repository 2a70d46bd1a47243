// Batch normalisation and activations. Maps are stored as operations computed them; their values are
// `activation(scale · stored + shift)`, per channel (kernels/network/view.rs).

#define IDENTITY 0
#define RELU 1
#define RELU6 2
#define SILU 3

// The numbers of a normalisation: arrays of one value per channel, one after the other (`NormState` in batch_norm.rs).
struct Norm {
    float *scale, *shift, *mean, *of_gradient, *of_stored, *constant;
    double *rate;
    __device__ Norm(float *numbers, double *rates, u32 channels)
        : scale(numbers), shift(numbers + channels), mean(numbers + 2 * channels), of_gradient(numbers + 3 * channels),
          of_stored(numbers + 4 * channels), constant(numbers + 5 * channels), rate(rates) {}
};

__device__ float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

__device__ float activated(float x, u32 activation) {
    switch (activation) {
    case RELU:
        return x < 0.0f ? 0.0f : x;
    case RELU6:
        return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x;
    case SILU:
        return x * sigmoid(x);
    default:
        return x;
    }
}

// The derivative of the activation.
__device__ float steepness(float x, u32 activation) {
    switch (activation) {
    case RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case RELU6:
        return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    case SILU: {
        float s = sigmoid(x);
        return s * fmaf(x, 1.0f - s, 1.0f);
    }
    default:
        return 1.0f;
    }
}

// Writes the values of a map; `norm` is null if it is not normalised.
template <typename T>
__device__ void view_all(const T *stored, float *norm, T *values, u32 count, u32 channels, u32 activation) {
    FOR_EACH(i, count) {
        float x = get(stored[i]);
        if (norm) {
            u32 channel = i % channels;
            x = fmaf(x, norm[channel], norm[channels + channel]);
        }
        put(values + i, activated(x, activation));
    }
}

KERNEL view_f32(const float *stored, float *norm, float *values, u32 count, u32 channels, u32 activation) {
    view_all(stored, norm, values, count, channels, activation);
}

KERNEL view_bf16(const bf16 *stored, float *norm, bf16 *values, u32 count, u32 channels, u32 activation) {
    view_all(stored, norm, values, count, channels, activation);
}

// Two sums per channel over `rows` rows per block into `partial[block, 2, channels]`. `terms(row, channel, a, b)` adds
// the terms of a value to them. Adjacent threads read adjacent channels.
template <typename F> __device__ void channel_sums(F terms, double *partial, u32 count, u32 channels, u32 rows) {
    __shared__ double sums[2 * BLOCK];
    u32 first = blockIdx.x * rows;
    u32 last = first + rows < count ? first + rows : count;
    u32 width = channels < BLOCK ? channels : BLOCK;
    u32 lanes = BLOCK / width, lane = threadIdx.x / width;
    for (u32 start = 0; start < channels; start += width) {
        u32 channel = start + threadIdx.x % width;
        double a = 0.0, b = 0.0;
        if (lane < lanes && channel < channels) {
            for (u32 row = first + lane; row < last; row += lanes) {
                terms(row, channel, &a, &b);
            }
        }
        sums[2 * threadIdx.x] = a;
        sums[2 * threadIdx.x + 1] = b;
        __syncthreads();
        if (lane == 0 && channel < channels) {
            for (u32 other = 1; other < lanes; other++) {
                a += sums[2 * (other * width + threadIdx.x)];
                b += sums[2 * (other * width + threadIdx.x) + 1];
            }
            partial[(u64)(2 * blockIdx.x) * channels + channel] = a;
            partial[(u64)(2 * blockIdx.x + 1) * channels + channel] = b;
        }
        __syncthreads();
    }
}

// Up to this number of blocks, one thread sums, which takes less time than waiting for the others.
#define FEW 32

// The sums over the blocks of a channel, which the first thread gets.
__device__ void channel_totals(const double *partial, u32 blocks, u32 channels, double *a, double *b) {
    double own_a = 0.0, own_b = 0.0;
    if (blocks <= FEW) {
        for (u32 i = 0; threadIdx.x == 0 && i < blocks; i++) {
            own_a += partial[(u64)(2 * i) * channels + blockIdx.x];
            own_b += partial[(u64)(2 * i + 1) * channels + blockIdx.x];
        }
        *a = own_a;
        *b = own_b;
        return;
    }
    for (u32 i = threadIdx.x; i < blocks; i += BLOCK) {
        own_a += partial[(u64)(2 * i) * channels + blockIdx.x];
        own_b += partial[(u64)(2 * i + 1) * channels + blockIdx.x];
    }
    *a = block_sum(own_a);
    *b = block_sum(own_b);
}

template <typename T> struct Moments {
    const T *stored;
    u32 channels;
    __device__ void operator()(u32 row, u32 channel, double *a, double *b) const {
        double value = (double)get(stored[(u64)row * channels + channel]);
        *a += value;
        *b += value * value;
    }
};

// Partial sums, and sums of squares, of each channel.
KERNEL statistics_f32(const float *stored, double *partial, u32 count, u32 channels, u32 rows) {
    channel_sums(Moments<float>{stored, channels}, partial, count, channels, rows);
}

KERNEL statistics_bf16(const bf16 *stored, double *partial, u32 count, u32 channels, u32 rows) {
    channel_sums(Moments<bf16>{stored, channels}, partial, count, channels, rows);
}

__device__ void place_norm(Norm norm, u32 c, double mean, double variance, double epsilon, float weight, float bias) {
    double rate = 1.0 / sqrt(variance + epsilon);
    double scale = (double)weight * rate;
    norm.mean[c] = (float)mean;
    norm.rate[c] = rate;
    norm.scale[c] = (float)scale;
    norm.shift[c] = (float)((double)bias - mean * scale);
}

// The numbers of a batch from the partial sums over `count` pixels, and the running statistics, which do not change
// after a non-finite loss; one block per channel.
KERNEL norm_measure(const double *partial, const float *weight, const float *bias, float *running, float *numbers,
                    double *rates, const Cursor *cursor, u32 blocks, u32 channels, double count, double epsilon,
                    double momentum) {
    double sum, squares;
    channel_totals(partial, blocks, channels, &sum, &squares);
    if (threadIdx.x == 0) {
        u32 c = blockIdx.x;
        double mean = sum / count;
        double variance = fmax(squares / count - mean * mean, 0.0);
        place_norm(Norm(numbers, rates, channels), c, mean, variance, epsilon, weight[c], bias[c]);
        if (cursor->bad_step == 0) {
            double unbiased = variance * count / fmax(count - 1.0, 1.0);
            running[c] = (float)((double)running[c] + momentum * ((double)(float)mean - (double)running[c]));
            float *of_variance = running + channels;
            of_variance[c] = (float)((double)of_variance[c] + momentum * (unbiased - (double)of_variance[c]));
        }
    }
}

// The numbers of the running statistics, whose gradient only scales.
KERNEL norm_recall(const float *weight, const float *bias, const float *running, float *numbers, double *rates, u32 channels,
                   double epsilon) {
    FOR_EACH(c, channels) {
        Norm norm(numbers, rates, channels);
        place_norm(norm, c, (double)running[c], (double)running[channels + c], epsilon, weight[c], bias[c]);
        norm.of_gradient[c] = norm.scale[c];
        norm.of_stored[c] = 0.0f;
        norm.constant[c] = 0.0f;
    }
}

template <typename T> struct Slopes {
    const T *stored;
    T *gradient;
    const float *norm;
    u32 channels, activation;
    __device__ void operator()(u32 row, u32 channel, double *a, double *b) const {
        u64 i = (u64)row * channels + channel;
        float x = get(stored[i]);
        float slope = get(gradient[i]) * steepness(fmaf(x, norm[channel], norm[channels + channel]), activation);
        put(gradient + i, slope);
        *a += (double)slope;
        *b += (double)slope * (double)(x - norm[2 * channels + channel]);
    }
};

// Multiplies the gradient of normalised values by the derivative of the activation, and writes partial sums of
// gradient and gradient · (stored − mean).
KERNEL norm_slopes_f32(const float *stored, float *gradient, const float *norm, double *partial, u32 count, u32 channels,
                       u32 rows, u32 activation) {
    channel_sums(Slopes<float>{stored, gradient, norm, channels, activation}, partial, count, channels, rows);
}

KERNEL norm_slopes_bf16(const bf16 *stored, bf16 *gradient, const float *norm, double *partial, u32 count, u32 channels,
                        u32 rows, u32 activation) {
    channel_sums(Slopes<bf16>{stored, gradient, norm, channels, activation}, partial, count, channels, rows);
}

// The gradients of γ and β, and the coefficients of the gradient of the stored values (`BatchNorm::differentiate`).
KERNEL norm_differentiate(const double *partial, float *numbers, double *rates, float *of_weight, float *of_bias, u32 blocks,
                          u32 channels, double count) {
    double gradients, products;
    channel_totals(partial, blocks, channels, &gradients, &products);
    if (threadIdx.x == 0) {
        u32 c = blockIdx.x;
        Norm norm(numbers, rates, channels);
        double rate = norm.rate[c], scale = (double)norm.scale[c], mean = (double)norm.mean[c];
        double weight = products * rate;
        double slope = -scale * rate * weight / count;
        of_weight[c] = (float)weight;
        of_bias[c] = (float)gradients;
        norm.of_gradient[c] = norm.scale[c];
        norm.of_stored[c] = (float)slope;
        norm.constant[c] = (float)(-scale * gradients / count - slope * mean);
    }
}

// Replaces the gradient of normalised values by that of the stored ones.
template <typename T>
__device__ void norm_gradient_all(const T *stored, T *gradient, float *numbers, u32 count, u32 channels) {
    FOR_EACH(i, count) {
        u32 c = i % channels;
        const float *of = numbers + 3 * channels;
        put(gradient + i, fmaf(of[c], get(gradient[i]), fmaf(of[channels + c], get(stored[i]), of[2 * channels + c])));
    }
}

KERNEL norm_gradient_f32(const float *stored, float *gradient, float *numbers, u32 count, u32 channels) {
    norm_gradient_all(stored, gradient, numbers, count, channels);
}

KERNEL norm_gradient_bf16(const bf16 *stored, bf16 *gradient, float *numbers, u32 count, u32 channels) {
    norm_gradient_all(stored, gradient, numbers, count, channels);
}

// Multiplies a gradient by the derivative of an activation without normalisation.
template <typename T> __device__ void slopes_all(const T *stored, T *gradient, u32 count, u32 activation) {
    FOR_EACH(i, count) {
        put(gradient + i, get(gradient[i]) * steepness(get(stored[i]), activation));
    }
}

KERNEL slopes_f32(const float *stored, float *gradient, u32 count, u32 activation) {
    slopes_all(stored, gradient, count, activation);
}

KERNEL slopes_bf16(const bf16 *stored, bf16 *gradient, u32 count, u32 activation) {
    slopes_all(stored, gradient, count, activation);
}
