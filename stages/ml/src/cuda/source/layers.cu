// The layers except for their products: bias, ReLU, pooling, dropout, forward and backward. Maps are
// `[images, height, width, channels]`, vectors `[rows, channels]`.

// Adds the bias of each channel to `values` and writes the sums to `output`, optionally after ReLU.
template <u32 N, typename V, typename T>
__device__ void bias_packs(const V *values, const float *bias, T *output, u32 count, u32 channels, u32 relu) {
    FOR_EACH(i, count / N) {
        Pack<V, N> from = packs<N>(values)[i];
        Pack<T, N> to;
        u32 channel = i * N % channels;
        for (u32 k = 0; k < N; k++) {
            float value = get(from.values[k]) + bias[channel + k];
            put(&to.values[k], relu && value < 0.0f ? 0.0f : value);
        }
        packs<N>(output)[i] = to;
    }
}

template <typename V, typename T>
__device__ void bias_all(const V *values, const float *bias, T *output, u32 count, u32 channels, u32 relu) {
    if (channels % 4 == 0) {
        bias_packs<4>(values, bias, output, count, channels, relu);
    } else {
        bias_packs<1>(values, bias, output, count, channels, relu);
    }
}

KERNEL bias_f32(const float *values, const float *bias, float *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

KERNEL bias_bf16(const bf16 *values, const float *bias, bf16 *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

// From the sums of a product, which are f32 regardless of the type of its factors.
KERNEL bias_narrow(const float *values, const float *bias, bf16 *output, u32 count, u32 channels, u32 relu) {
    bias_all(values, bias, output, count, channels, relu);
}

// Sets the gradient to 0 where ReLU's output is 0, if there is one, and sums it over `rows` rows per block into
// `partial[block, channels]`. Each thread always handles the same channels, so that adjacent threads read adjacent values.
template <u32 N, typename G, typename T>
__device__ void bias_gradient_packs(const T *output, const G *gradient, T *masked, float *partial, u32 count, u32 channels,
                                    u32 rows, u32 relu) {
    __shared__ float sums[BLOCK * N];
    u32 first = blockIdx.x * rows;
    u32 last = first + rows < count ? first + rows : count;
    u32 groups = channels / N;
    u32 width = groups < BLOCK ? groups : BLOCK;
    u32 lanes = BLOCK / width;
    u32 lane = threadIdx.x / width;
    for (u32 start = 0; start < groups; start += width) {
        u32 group = start + threadIdx.x % width;
        float own[N] = {};
        if (lane < lanes && group < groups) {
            for (u32 row = first + lane; row < last; row += lanes) {
                u64 i = (u64)row * groups + group;
                Pack<G, N> slope = packs<N>(gradient)[i];
                Pack<T, N> to, out;
                if (relu) {
                    out = packs<N>(output)[i];
                }
                for (u32 k = 0; k < N; k++) {
                    float value = get(slope.values[k]);
                    value = !relu || get(out.values[k]) > 0.0f ? value : 0.0f;
                    put(&to.values[k], value);
                    own[k] += value;
                }
                packs<N>(masked)[i] = to;
            }
        }
        for (u32 k = 0; k < N; k++) {
            sums[threadIdx.x * N + k] = own[k];
        }
        __syncthreads();
        if (lane == 0 && group < groups) {
            for (u32 k = 0; k < N; k++) {
                for (u32 other = 1; other < lanes; other++) {
                    own[k] += sums[(other * width + threadIdx.x) * N + k];
                }
                partial[blockIdx.x * channels + group * N + k] = own[k];
            }
        }
        __syncthreads();
    }
}

template <typename G, typename T>
__device__ void bias_gradient_all(const T *output, const G *gradient, T *masked, float *partial, u32 count, u32 channels,
                                  u32 rows, u32 relu) {
    if (channels % 4 == 0) {
        bias_gradient_packs<4>(output, gradient, masked, partial, count, channels, rows, relu);
    } else {
        bias_gradient_packs<1>(output, gradient, masked, partial, count, channels, rows, relu);
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

// From the gradient of the loss, which is f32, to the type of a product's factors.
KERNEL bias_gradient_narrow(const bf16 *output, const float *gradient, bf16 *masked, float *partial, u32 count, u32 channels,
                            u32 rows, u32 relu) {
    bias_gradient_all(output, gradient, masked, partial, count, channels, rows, relu);
}

// Sums `partial[blocks, channels]` over the blocks, with one thread block per channel.
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

// Writes the maximum of each 2×2 window, with dropout with a key per image if `threshold` is not 0.
template <u32 N, typename T>
__device__ void pool_packs(const T *input, T *output, const u64 *keys, u32 threshold, float scale, u32 images, u32 height,
                           u32 width, u32 channels) {
    u32 groups = channels / N;
    u32 size = (height / 2) * (width / 2) * groups;
    FOR_EACH(i, images * size) {
        u32 image = i / size, inside = i % size;
        u32 group = inside % groups, x = inside / groups % (width / 2), y = inside / groups / (width / 2);
        const Pack<T, N> *upper = packs<N>(input) + (((u64)image * height + 2 * y) * width + 2 * x) * groups + group;
        const Pack<T, N> *lower = upper + (u64)width * groups;
        Pack<T, N> a = upper[0], b = upper[groups], c = lower[0], d = lower[groups], to;
        u64 key = threshold ? keys[image] : 0;
        for (u32 k = 0; k < N; k++) {
            float above = larger(get(a.values[k]), get(b.values[k])), below = larger(get(c.values[k]), get(d.values[k]));
            put(&to.values[k], drop(key, inside * N + k, threshold, scale, larger(above, below)));
        }
        packs<N>(output)[i] = to;
    }
}

template <typename T>
__device__ void pool_all(const T *input, T *output, const u64 *keys, u32 threshold, float scale, u32 images, u32 height,
                         u32 width, u32 channels) {
    if (channels % 4 == 0) {
        pool_packs<4>(input, output, keys, threshold, scale, images, height, width, channels);
    } else {
        pool_packs<1>(input, output, keys, threshold, scale, images, height, width, channels);
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

// Writes a pack, or adds it to what is there.
template <u32 N, typename T> __device__ void give_pack(Pack<T, N> *place, Pack<T, N> values, u32 adds) {
    if (adds) {
        Pack<T, N> before = *place;
        for (u32 k = 0; k < N; k++) {
            put(&values.values[k], get(before.values[k]) + get(values.values[k]));
        }
    }
    *place = values;
}

// Writes the gradient of the pooled map, or adds it: the gradient of a window goes to its first maximum, all other values and an
// odd last row or column get 0.
template <u32 N, typename T>
__device__ void pool_gradient_packs(const T *input, const T *gradient, T *output, const u64 *keys, u32 threshold, float scale,
                                    u32 images, u32 height, u32 width, u32 channels, u32 adds) {
    u32 rows = (height + 1) / 2, columns = (width + 1) / 2, groups = channels / N;
    u32 size = rows * columns * groups;
    FOR_EACH(i, images * size) {
        u32 image = i / size, group = i % groups, x = i % size / groups % columns, y = i % size / groups / columns;
        u64 corner = (((u64)image * height + 2 * y) * width + 2 * x) * groups + group;
        u64 places[4] = {corner, corner + groups, corner + (u64)width * groups, corner + (u64)(width + 1) * groups};
        bool is_whole = 2 * y + 1 < height && 2 * x + 1 < width;
        Pack<T, N> to[4];
        if (is_whole) {
            u32 inside = (y * (width / 2) + x) * groups + group;
            u64 key = threshold ? keys[image] : 0;
            Pack<T, N> slope = packs<N>(gradient)[(u64)image * (height / 2) * (width / 2) * groups + inside];
            Pack<T, N> from[4];
            for (u32 corner = 0; corner < 4; corner++) {
                from[corner] = packs<N>(input)[places[corner]];
            }
            for (u32 k = 0; k < N; k++) {
                float value = drop(key, inside * N + k, threshold, scale, get(slope.values[k]));
                float a = get(from[0].values[k]), b = get(from[1].values[k]);
                float c = get(from[2].values[k]), d = get(from[3].values[k]);
                float largest = larger(larger(a, b), larger(c, d));
                u32 chosen = a == largest ? 0 : b == largest ? 1 : c == largest ? 2 : 3;
                for (u32 corner = 0; corner < 4; corner++) {
                    put(&to[corner].values[k], corner == chosen ? value : 0.0f);
                }
            }
        } else {
            for (u32 corner = 0; corner < 4; corner++) {
                for (u32 k = 0; k < N; k++) {
                    put(&to[corner].values[k], 0.0f);
                }
            }
        }
        bool has_right = 2 * x + 1 < width, has_lower = 2 * y + 1 < height;
        give_pack(packs<N>(output) + places[0], to[0], adds);
        if (has_right) {
            give_pack(packs<N>(output) + places[1], to[1], adds);
        }
        if (has_lower) {
            give_pack(packs<N>(output) + places[2], to[2], adds);
        }
        if (is_whole) {
            give_pack(packs<N>(output) + places[3], to[3], adds);
        }
    }
}

template <typename T>
__device__ void pool_gradient_all(const T *input, const T *gradient, T *output, const u64 *keys, u32 threshold, float scale,
                                  u32 images, u32 height, u32 width, u32 channels, u32 adds) {
    if (channels % 4 == 0) {
        pool_gradient_packs<4>(input, gradient, output, keys, threshold, scale, images, height, width, channels, adds);
    } else {
        pool_gradient_packs<1>(input, gradient, output, keys, threshold, scale, images, height, width, channels, adds);
    }
}

KERNEL pool_gradient_f32(const float *input, const float *gradient, float *output, const u64 *keys, u32 threshold,
                         float scale, u32 images, u32 height, u32 width, u32 channels, u32 adds) {
    pool_gradient_all(input, gradient, output, keys, threshold, scale, images, height, width, channels, adds);
}

KERNEL pool_gradient_bf16(const bf16 *input, const bf16 *gradient, bf16 *output, const u64 *keys, u32 threshold, float scale,
                          u32 images, u32 height, u32 width, u32 channels, u32 adds) {
    pool_gradient_all(input, gradient, output, keys, threshold, scale, images, height, width, channels, adds);
}

// Applies dropout or its gradient to runs of `length` values, each with its own key.
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

// The same with one thread per channel, for many channels.
KERNEL sum_columns(const float *partial, float *sums, u32 blocks, u32 channels) {
    FOR_EACH(channel, channels) {
        double sum = 0.0;
        for (u32 i = 0; i < blocks; i++) {
            sum += (double)partial[i * channels + channel];
        }
        sums[channel] = (float)sum;
    }
}
