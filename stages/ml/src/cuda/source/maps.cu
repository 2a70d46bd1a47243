// Operations on maps `[images, height, width, channels]` other than products: padding, depthwise convolutions, pooling
// over overlapping windows and whole maps, sums, stochastic depth. Their gradients are gathered, so that no thread
// writes what another one writes. With `adds`, they are added to what is there.

// The sizes of a map and of the windows over it; has the fields of `Window` in plan.rs.
struct Window {
    u32 height, width, channels;
    u32 out_height, out_width;
    u32 size, stride, top, left;
};

template <typename T> __device__ void give(T *place, float value, u32 adds) {
    put(place, adds ? get(*place) + value : value);
}

// Copies maps into larger ones, with zeros around them and in channels that the smaller ones lack.
template <typename T>
__device__ void pad_all(const T *input, T *output, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
                        u32 out_width, u32 top, u32 left) {
    u32 size = out_height * out_width * channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % channels, x = i % size / channels % out_width, y = i % size / channels / out_width;
        bool is_inside = y >= top && x >= left && y - top < height && x - left < width;
        u64 from = (((u64)image * height + y - top) * width + x - left) * channels + channel;
        put(output + i, is_inside ? get(input[from]) : 0.0f);
    }
}

KERNEL pad_f32(const float *input, float *output, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
               u32 out_width, u32 top, u32 left) {
    pad_all(input, output, images, height, width, channels, out_height, out_width, top, left);
}

KERNEL pad_bf16(const bf16 *input, bf16 *output, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
                u32 out_width, u32 top, u32 left) {
    pad_all(input, output, images, height, width, channels, out_height, out_width, top, left);
}

// The gradient of padding: the inner part of a larger map.
template <typename T>
__device__ void crop_all(const T *padded, T *gradient, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
                         u32 out_width, u32 top, u32 left, u32 adds) {
    u32 size = height * width * channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % channels, x = i % size / channels % width, y = i % size / channels / width;
        u64 from = (((u64)image * out_height + y + top) * out_width + x + left) * channels + channel;
        give(gradient + i, get(padded[from]), adds);
    }
}

KERNEL crop_f32(const float *padded, float *gradient, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
                u32 out_width, u32 top, u32 left, u32 adds) {
    crop_all(padded, gradient, images, height, width, channels, out_height, out_width, top, left, adds);
}

KERNEL crop_bf16(const bf16 *padded, bf16 *gradient, u32 images, u32 height, u32 width, u32 channels, u32 out_height,
                 u32 out_width, u32 top, u32 left, u32 adds) {
    crop_all(padded, gradient, images, height, width, channels, out_height, out_width, top, left, adds);
}

// A depthwise convolution with weights `[size, size, channels]`.
template <typename T>
__device__ void depthwise_all(const T *input, const T *weights, T *output, u32 images, Window w) {
    u32 size = w.out_height * w.out_width * w.channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % w.channels;
        u32 x = i % size / w.channels % w.out_width, y = i % size / w.channels / w.out_width;
        float sum = 0.0f;
        for (u32 row = 0; row < w.size; row++) {
            u32 from_y = y * w.stride + row;
            if (from_y < w.top || from_y - w.top >= w.height) {
                continue;
            }
            for (u32 column = 0; column < w.size; column++) {
                u32 from_x = x * w.stride + column;
                if (from_x < w.left || from_x - w.left >= w.width) {
                    continue;
                }
                u64 from = (((u64)image * w.height + from_y - w.top) * w.width + from_x - w.left) * w.channels + channel;
                sum = fmaf(get(input[from]), get(weights[(row * w.size + column) * w.channels + channel]), sum);
            }
        }
        put(output + i, sum);
    }
}

KERNEL depthwise_f32(const float *input, const float *weights, float *output, u32 images, Window window) {
    depthwise_all(input, weights, output, images, window);
}

KERNEL depthwise_bf16(const bf16 *input, const bf16 *weights, bf16 *output, u32 images, Window window) {
    depthwise_all(input, weights, output, images, window);
}

// The output row, or column, that sees an input under a place of the window; false if there is none.
__device__ bool seen_from(u32 position, u32 place, u32 padding, u32 stride, u32 length, u32 *from) {
    if (position + padding < place || (position + padding - place) % stride != 0) {
        return false;
    }
    *from = (position + padding - place) / stride;
    return *from < length;
}

template <typename T>
__device__ void depthwise_gradient_all(const T *weights, const T *gradient, T *output, u32 images, Window w, u32 adds) {
    u32 size = w.height * w.width * w.channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % w.channels;
        u32 x = i % size / w.channels % w.width, y = i % size / w.channels / w.width;
        float sum = 0.0f;
        for (u32 row = 0; row < w.size; row++) {
            u32 from_y, from_x;
            if (!seen_from(y, row, w.top, w.stride, w.out_height, &from_y)) {
                continue;
            }
            for (u32 column = 0; column < w.size; column++) {
                if (seen_from(x, column, w.left, w.stride, w.out_width, &from_x)) {
                    u64 from = (((u64)image * w.out_height + from_y) * w.out_width + from_x) * w.channels + channel;
                    sum = fmaf(get(gradient[from]), get(weights[(row * w.size + column) * w.channels + channel]), sum);
                }
            }
        }
        give(output + i, sum, adds);
    }
}

KERNEL depthwise_gradient_f32(const float *weights, const float *gradient, float *output, u32 images, Window window,
                              u32 adds) {
    depthwise_gradient_all(weights, gradient, output, images, window, adds);
}

KERNEL depthwise_gradient_bf16(const bf16 *weights, const bf16 *gradient, bf16 *output, u32 images, Window window,
                               u32 adds) {
    depthwise_gradient_all(weights, gradient, output, images, window, adds);
}

// Sums of the gradient of the weights over `rows` output pixels per block into `partial[block, size, size, channels]`.
template <typename T>
__device__ void depthwise_weights_all(const T *input, const T *gradient, float *partial, u32 images, Window w, u32 rows) {
    __shared__ float sums[BLOCK];
    u32 count = images * w.out_height * w.out_width;
    u32 first = blockIdx.x * rows;
    u32 last = first + rows < count ? first + rows : count;
    u32 width = w.channels < BLOCK ? w.channels : BLOCK;
    u32 lanes = BLOCK / width, lane = threadIdx.x / width;
    for (u32 start = 0; start < w.channels; start += width) {
        u32 channel = start + threadIdx.x % width;
        for (u32 tap = 0; tap < w.size * w.size; tap++) {
            float own = 0.0f;
            if (lane < lanes && channel < w.channels) {
                for (u32 row = first + lane; row < last; row += lanes) {
                    u32 x = row % w.out_width * w.stride + tap % w.size;
                    u32 y = row / w.out_width % w.out_height * w.stride + tap / w.size;
                    if (y >= w.top && x >= w.left && y - w.top < w.height && x - w.left < w.width) {
                        u32 image = row / w.out_width / w.out_height;
                        u64 from = (((u64)image * w.height + y - w.top) * w.width + x - w.left) * w.channels + channel;
                        own = fmaf(get(input[from]), get(gradient[(u64)row * w.channels + channel]), own);
                    }
                }
            }
            sums[threadIdx.x] = own;
            __syncthreads();
            if (lane == 0 && channel < w.channels) {
                for (u32 other = 1; other < lanes; other++) {
                    own += sums[other * width + threadIdx.x];
                }
                partial[((u64)blockIdx.x * w.size * w.size + tap) * w.channels + channel] = own;
            }
            __syncthreads();
        }
    }
}

KERNEL depthwise_weights_f32(const float *input, const float *gradient, float *partial, u32 images, Window window, u32 rows) {
    depthwise_weights_all(input, gradient, partial, images, window, rows);
}

KERNEL depthwise_weights_bf16(const bf16 *input, const bf16 *gradient, float *partial, u32 images, Window window, u32 rows) {
    depthwise_weights_all(input, gradient, partial, images, window, rows);
}

// The place in the input of the first maximum of a window.
template <typename T> __device__ u64 first_maximum(const T *input, u32 image, u32 y, u32 x, u32 channel, Window w) {
    bool is_first = true;
    float largest = 0.0f;
    u64 place = 0;
    for (u32 row = 0; row < w.size; row++) {
        for (u32 column = 0; column < w.size; column++) {
            u32 from_y = y * w.stride + row, from_x = x * w.stride + column;
            if (from_y < w.top || from_x < w.left || from_y - w.top >= w.height || from_x - w.left >= w.width) {
                continue;
            }
            u64 from = (((u64)image * w.height + from_y - w.top) * w.width + from_x - w.left) * w.channels + channel;
            float value = get(input[from]);
            if (is_first || value > largest) {
                is_first = false;
                largest = value;
                place = from;
            }
        }
    }
    return place;
}

template <typename T> __device__ void windows_all(const T *input, T *output, u32 images, Window w) {
    u32 size = w.out_height * w.out_width * w.channels;
    FOR_EACH(i, images * size) {
        u32 y = i % size / w.channels / w.out_width, x = i % size / w.channels % w.out_width;
        put(output + i, get(input[first_maximum(input, i / size, y, x, i % w.channels, w)]));
    }
}

KERNEL windows_f32(const float *input, float *output, u32 images, Window window) {
    windows_all(input, output, images, window);
}

KERNEL windows_bf16(const bf16 *input, bf16 *output, u32 images, Window window) {
    windows_all(input, output, images, window);
}

template <typename T>
__device__ void windows_gradient_all(const T *input, const T *gradient, T *output, u32 images, Window w, u32 adds) {
    u32 size = w.height * w.width * w.channels;
    FOR_EACH(i, images * size) {
        u32 image = i / size, channel = i % w.channels;
        u32 x = i % size / w.channels % w.width, y = i % size / w.channels / w.width;
        float sum = 0.0f;
        // Windows in ascending order.
        for (u32 row = w.size; row-- > 0;) {
            for (u32 column = w.size; column-- > 0;) {
                u32 from_y, from_x;
                if (seen_from(y, row, w.top, w.stride, w.out_height, &from_y)
                    && seen_from(x, column, w.left, w.stride, w.out_width, &from_x)
                    && first_maximum(input, image, from_y, from_x, channel, w) == i) {
                    u64 from = (((u64)image * w.out_height + from_y) * w.out_width + from_x) * w.channels + channel;
                    sum += get(gradient[from]);
                }
            }
        }
        give(output + i, sum, adds);
    }
}

KERNEL windows_gradient_f32(const float *input, const float *gradient, float *output, u32 images, Window window, u32 adds) {
    windows_gradient_all(input, gradient, output, images, window, adds);
}

KERNEL windows_gradient_bf16(const bf16 *input, const bf16 *gradient, bf16 *output, u32 images, Window window, u32 adds) {
    windows_gradient_all(input, gradient, output, images, window, adds);
}

// The mean of each channel of each image.
template <typename T> __device__ void mean_all(const T *input, T *output, u32 images, u32 pixels, u32 channels) {
    FOR_EACH(i, images * channels) {
        const T *values = input + (u64)(i / channels) * pixels * channels + i % channels;
        float sum = 0.0f;
        for (u32 pixel = 0; pixel < pixels; pixel++) {
            sum += get(values[(u64)pixel * channels]);
        }
        put(output + i, sum / (float)pixels);
    }
}

KERNEL mean_f32(const float *input, float *output, u32 images, u32 pixels, u32 channels) {
    mean_all(input, output, images, pixels, channels);
}

KERNEL mean_bf16(const bf16 *input, bf16 *output, u32 images, u32 pixels, u32 channels) {
    mean_all(input, output, images, pixels, channels);
}

template <typename T>
__device__ void mean_gradient_all(const T *gradient, T *output, u32 images, u32 pixels, u32 channels, u32 adds) {
    FOR_EACH(i, images * pixels * channels) {
        u32 image = i / channels / pixels;
        give(output + i, get(gradient[image * channels + i % channels]) / (float)pixels, adds);
    }
}

KERNEL mean_gradient_f32(const float *gradient, float *output, u32 images, u32 pixels, u32 channels, u32 adds) {
    mean_gradient_all(gradient, output, images, pixels, channels, adds);
}

KERNEL mean_gradient_bf16(const bf16 *gradient, bf16 *output, u32 images, u32 pixels, u32 channels, u32 adds) {
    mean_gradient_all(gradient, output, images, pixels, channels, adds);
}

// The sum of two maps.
template <typename T> __device__ void add_all(const T *a, const T *b, T *output, u32 count) {
    FOR_EACH(i, count) {
        put(output + i, get(a[i]) + get(b[i]));
    }
}

KERNEL add_f32(const float *a, const float *b, float *output, u32 count) {
    add_all(a, b, output, count);
}

KERNEL add_bf16(const bf16 *a, const bf16 *b, bf16 *output, u32 count) {
    add_all(a, b, output, count);
}

// Stochastic depth: images whose key is below the rate become 0, the others are multiplied by `scale`; without keys it
// copies.
template <typename T>
__device__ void keep_images_all(const T *values, T *output, const u64 *keys, double rate, float scale, u32 count, u32 length,
                                u32 adds) {
    FOR_EACH(i, count) {
        float factor = 1.0f;
        if (keys) {
            // 53 bits, as a fraction of 1.
            double unit = (double)(keys[i / length] >> 11) / 9007199254740992.0;
            factor = unit < rate ? 0.0f : scale;
        }
        give(output + i, get(values[i]) * factor, adds);
    }
}

KERNEL keep_images_f32(const float *values, float *output, const u64 *keys, double rate, float scale, u32 count, u32 length,
                       u32 adds) {
    keep_images_all(values, output, keys, rate, scale, count, length, adds);
}

KERNEL keep_images_bf16(const bf16 *values, bf16 *output, const u64 *keys, double rate, float scale, u32 count, u32 length,
                        u32 adds) {
    keep_images_all(values, output, keys, rate, scale, count, length, adds);
}
