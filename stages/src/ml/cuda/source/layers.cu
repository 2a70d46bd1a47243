// The layers but for their products: bias, ReLU, pooling, dropout, forward and backward. Maps are `[images, height, width,
// channels]`, vectors `[rows, channels]`.

// Adds the bias of each channel to `values`, and writes them to `output`, what is negative as 0 if wanted.
template <typename V, typename T>
__device__ void bias_all(const V *values, const float *bias, T *output, u32 count, u32 channels, u32 relu) {
    FOR_EACH(i, count) {
        float value = get(values[i]) + bias[i % channels];
        put(output + i, relu && value < 0.0f ? 0.0f : value);
    }
}

KERNEL bias_f32(const float *values, const float *bias, float *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

KERNEL bias_bf16(const bf16 *values, const float *bias, bf16 *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

// From the sums of a product, which are f32 whatever its factors are.
KERNEL bias_narrow(const float *values, const float *bias, bf16 *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

// Sets the gradient to 0 where ReLU's output is 0, if there is one, and sums it over `rows` rows per block into
// `partial[block, channels]`. A thread keeps to one channel, so that neighbours read neighbours.
template <typename G, typename T>
__device__ void bias_gradient_all(const T *output, const G *gradient, T *masked, float *partial, u32 count, u32 channels,
                                  u32 rows, u32 relu) {
    __shared__ float sums[BLOCK];
    u32 first = blockIdx.x * rows;
    u32 last = first + rows < count ? first + rows : count;
    u32 width = channels < BLOCK ? channels : BLOCK;
    u32 lanes = BLOCK / width;
    u32 lane = threadIdx.x / width;
    for (u32 start = 0; start < channels; start += width) {
        u32 channel = start + threadIdx.x % width;
        float sum = 0.0f;
        if (lane < lanes && channel < channels) {
            for (u32 row = first + lane; row < last; row += lanes) {
                u64 i = (u64)row * channels + channel;
                float value = get(gradient[i]);
                value = !relu || get(output[i]) > 0.0f ? value : 0.0f;
                put(masked + i, value);
                sum += value;
            }
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (lane == 0 && channel < channels) {
            for (u32 other = 1; other < lanes; other++) {
                sum += sums[other * width + threadIdx.x];
            }
            partial[blockIdx.x * channels + channel] = sum;
        }
        __syncthreads();
    }
}

KERNEL bias_gradient_f32(const float *output, const float *gradient, float *masked, float *partial, u32 count, u32 channels,
                         u32 rows, u32 relu) {
    bias_gradient_all(output, gradient, masked, partial, count, channels, rows, relu);
}

KERNEL bias_gradient_bf16(const bf16 *output, const bf16 *gradient, bf16 *masked, float *partial, u32 count, u32 channels,
                          u32 rows, u32 relu) {
    bias_gradient_all(output, gradient, masked, partial, count, channels, rows, relu);
}

// From the loss's gradient, which is f32, to the factor of a product.
KERNEL bias_gradient_narrow(const bf16 *output, const float *gradient, bf16 *masked, float *partial, u32 count, u32 channels,
                            u32 rows, u32 relu) {
    bias_gradient_all(output, gradient, masked, partial, count, channels, rows, relu);
}

// Sums `partial[blocks, channels]` over the blocks, a block of threads for each channel.
KERNEL sum_partials(const float *partial, float *sums, u32 blocks, u32 channels) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < blocks; i += BLOCK) {
        sum += (double)partial[i * channels + blockIdx.x];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = (float)sum;
    }
}

__device__ float larger(float a, float b) {
    return b > a ? b : a;
}

// Writes the largest value of each 2×2 window, under dropout with a key per image if `threshold` is not 0.
template <typename T>
__device__ void pool_all(const T *input, T *output, const u64 *keys, u32 threshold, float scale, u32 images, u32 height,
                         u32 width, u32 channels) {
    u32 size = (height / 2) * (width / 2) * channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, inside = i % size;
        u32 channel = inside % channels, x = inside / channels % (width / 2), y = inside / channels / (width / 2);
        const T *upper = input + (((u64)image * height + 2 * y) * width + 2 * x) * channels + channel;
        const T *lower = upper + width * channels;
        float above = larger(get(upper[0]), get(upper[channels]));
        float below = larger(get(lower[0]), get(lower[channels]));
        u64 key = threshold ? keys[image] : 0;
        put(output + i, drop(key, inside, threshold, scale, larger(above, below)));
    }
}

KERNEL pool_f32(const float *input, float *output, const u64 *keys, u32 threshold, float scale, u32 images, u32 height,
                u32 width, u32 channels) {
    pool_all(input, output, keys, threshold, scale, images, height, width, channels);
}

KERNEL pool_bf16(const bf16 *input, bf16 *output, const u64 *keys, u32 threshold, float scale, u32 images, u32 height,
                 u32 width, u32 channels) {
    pool_all(input, output, keys, threshold, scale, images, height, width, channels);
}

// Writes the gradient of what was pooled: each window's goes to its first largest value, 0 to all others and to an odd last
// row or column.
template <typename T>
__device__ void pool_gradient_all(const T *input, const T *gradient, T *output, const u64 *keys, u32 threshold, float scale,
                                  u32 images, u32 height, u32 width, u32 channels) {
    u32 rows = (height + 1) / 2, columns = (width + 1) / 2;
    u32 size = rows * columns * channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % channels, x = i % size / channels % columns, y = i % size / channels / columns;
        u64 corner = (((u64)image * height + 2 * y) * width + 2 * x) * channels + channel;
        u64 places[4] = {corner, corner + channels, corner + (u64)width * channels, corner + (u64)(width + 1) * channels};
        if (2 * y + 1 < height && 2 * x + 1 < width) {
            u32 inside = (y * (width / 2) + x) * channels + channel;
            u64 key = threshold ? keys[image] : 0;
            float value = get(gradient[(u64)image * (height / 2) * (width / 2) * channels + inside]);
            value = drop(key, inside, threshold, scale, value);
            float a = get(input[places[0]]), b = get(input[places[1]]);
            float c = get(input[places[2]]), d = get(input[places[3]]);
            float largest = larger(larger(a, b), larger(c, d));
            u32 chosen = a == largest ? 0 : b == largest ? 1 : c == largest ? 2 : 3;
            for (u32 k = 0; k < 4; k++) {
                put(output + places[k], k == chosen ? value : 0.0f);
            }
        } else {
            put(output + places[0], 0.0f);
            if (2 * x + 1 < width) {
                put(output + places[1], 0.0f);
            }
            if (2 * y + 1 < height) {
                put(output + places[2], 0.0f);
            }
        }
    }
}

KERNEL pool_gradient_f32(const float *input, const float *gradient, float *output, const u64 *keys, u32 threshold,
                         float scale, u32 images, u32 height, u32 width, u32 channels) {
    pool_gradient_all(input, gradient, output, keys, threshold, scale, images, height, width, channels);
}

KERNEL pool_gradient_bf16(const bf16 *input, const bf16 *gradient, bf16 *output, const u64 *keys, u32 threshold, float scale,
                          u32 images, u32 height, u32 width, u32 channels) {
    pool_gradient_all(input, gradient, output, keys, threshold, scale, images, height, width, channels);
}

// Applies dropout, or its gradient, to runs of `length` values, each with a key of its own.
template <typename T>
__device__ void dropout_all(const T *values, T *output, const u64 *keys, u32 threshold, float scale, u32 count, u32 length) {
    FOR_EACH(i, count) {
        u64 key = threshold ? keys[i / length] : 0;
        put(output + i, drop(key, i % length, threshold, scale, get(values[i])));
    }
}

KERNEL dropout_f32(const float *values, float *output, const u64 *keys, u32 threshold, float scale, u32 count, u32 length) {
    dropout_all(values, output, keys, threshold, scale, count, length);
}

KERNEL dropout_bf16(const bf16 *values, bf16 *output, const u64 *keys, u32 threshold, float scale, u32 count, u32 length) {
    dropout_all(values, output, keys, threshold, scale, count, length);
}
