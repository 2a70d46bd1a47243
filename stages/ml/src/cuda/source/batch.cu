// From image bytes to the network's input: geometric augmentation, normalisation, colour augmentation, erasing, MixUp and
// CutMix.

// Advances the cursor to the next step and derives its dropout keys, `[layers, images]`.
KERNEL begin_step(Cursor *cursor, u64 *keys, const u32 *layers, u32 layer_count, u32 images, u64 seed) {
    u64 step = cursor->step + 1;
    u64 key = mix_words(seed, step);
    for (u32 i = threadIdx.x; i < layer_count * images; i += BLOCK) {
        keys[i] = mix_words(mix_words(key, layers[i / images]), i % images);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        cursor->step = step;
        cursor->first = cursor->next;
        cursor->next += images;
        cursor->index += 1;
        cursor->factor = 1.0f;
    }
}

// The two pixels next to a coordinate and the interpolation weight of the second, as in augment.rs.
__device__ void neighbours(double coordinate, u32 length, u32 *first, u32 *second, float *towards) {
    double inside = fmin(fmax(coordinate, 0.0), (double)(length - 1));
    *first = (u32)inside;
    *second = *first + 1 < length ? *first + 1 : length - 1;
    *towards = (float)(inside - (double)*first);
}

// Writes the images of a step as pixels of `stride` values; padding channels are 0. `moves` has six numbers per
// image, the two rows of the affine matrix from output to input pixels; it is null without geometric augmentation.
// `values` has the normalised value of each byte, for each channel.
template <typename T>
__device__ void draw_all(const u8 *images, const u32 *order, const double *moves, const float *values, const Cursor *cursor,
                         T *output, u32 count, u32 height, u32 width, u32 channels, u32 stride) {
    u32 area = height * width;
    FOR_EACH(i, count * area) {
        u64 place = cursor->first + i / area;
        u32 y = i % area / width, x = i % width;
        const u8 *image = images + (u64)order[place] * area * channels;
        T *pixel = output + (u64)i * stride;
        if (moves) {
            const double *m = moves + 6 * place;
            u32 upper, lower, left, right;
            float down, across;
            neighbours(fma((double)y, m[0], fma((double)x, m[1], m[2])), height, &upper, &lower, &down);
            neighbours(fma((double)y, m[3], fma((double)x, m[4], m[5])), width, &left, &right, &across);
            for (u32 k = 0; k < channels; k++) {
                float a = values[256 * k + image[(upper * width + left) * channels + k]];
                float b = values[256 * k + image[(upper * width + right) * channels + k]];
                float c = values[256 * k + image[(lower * width + left) * channels + k]];
                float d = values[256 * k + image[(lower * width + right) * channels + k]];
                float above = fmaf(across, b - a, a), below = fmaf(across, d - c, c);
                put(pixel + k, fmaf(down, below - above, above));
            }
        } else {
            for (u32 k = 0; k < channels; k++) {
                put(pixel + k, values[256 * k + image[(y * width + x) * channels + k]]);
            }
        }
        for (u32 k = channels; k < stride; k++) {
            put(pixel + k, 0.0f);
        }
    }
}

KERNEL draw_f32(const u8 *images, const u32 *order, const double *moves, const float *values, const Cursor *cursor,
                float *output, u32 count, u32 height, u32 width, u32 channels, u32 stride) {
    draw_all(images, order, moves, values, cursor, output, count, height, width, channels, stride);
}

KERNEL draw_bf16(const u8 *images, const u32 *order, const double *moves, const float *values, const Cursor *cursor,
                 bf16 *output, u32 count, u32 height, u32 width, u32 channels, u32 stride) {
    draw_all(images, order, moves, values, cursor, output, count, height, width, channels, stride);
}

__device__ double within_byte(double value) {
    return fmin(fmax(value, 0.0), 255.0);
}

__device__ double grey(double red, double green, double blue) {
    return 0.2989 * red + 0.587 * green + 0.114 * blue;
}

// Changes brightness, contrast and saturation of three-channel images, one block per image, like `change_colours` in
// augment.rs.
KERNEL change_colours(float *pixels, const double *colours, const Cursor *cursor, u32 area, const double *scales) {
    const double *mean = scales, *deviation = scales + 3;
    const double *factors = colours + 3 * (cursor->first + blockIdx.x);
    double brightness = factors[0], contrast = factors[1], saturation = factors[2];
    if (brightness == 1.0 && contrast == 1.0 && saturation == 1.0) {
        return;
    }
    float *image = pixels + (u64)blockIdx.x * area * 3;
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < area; i += BLOCK) {
        double bright[3];
        for (u32 k = 0; k < 3; k++) {
            bright[k] = within_byte(((double)image[3 * i + k] * deviation[k] + mean[k]) * brightness);
        }
        sum += grey(bright[0], bright[1], bright[2]);
    }
    double middle = block_sum(sum) / (double)area;
    for (u32 i = threadIdx.x; i < area; i += BLOCK) {
        double changed[3];
        for (u32 k = 0; k < 3; k++) {
            double bright = within_byte(((double)image[3 * i + k] * deviation[k] + mean[k]) * brightness);
            changed[k] = within_byte(contrast * bright + (1.0 - contrast) * middle);
        }
        double own = grey(changed[0], changed[1], changed[2]);
        for (u32 k = 0; k < 3; k++) {
            double value = within_byte(saturation * changed[k] + (1.0 - saturation) * own);
            image[3 * i + k] = (float)((value - mean[k]) / deviation[k]);
        }
    }
}

// The first row of a rectangle of MixUp, which has none.
#define BLENDED 0xffffffffu

// Whether a pixel is in the rectangle of rows and columns from, to.
__device__ bool is_inside(const u32 *rectangle, u32 y, u32 x) {
    return y >= rectangle[0] && y < rectangle[1] && x >= rectangle[2] && x < rectangle[3];
}

// What is done to the pixels of a step after their colours; arrays are null for what is not done.
struct Changes {
    const u32 *erased;      // a rectangle for each image
    const float *shares;    // for each step, the share of the own image in MixUp
    const u32 *pasted;      // for each step, the rectangle of CutMix, or `BLENDED`
    const u32 *partners;    // for each image, the other one's place in the step
};

// Copies pixels of `channels` values to pixels of `stride` values, with erased rectangles, mixed with their partners
// (augment.rs, mixup.rs).
template <typename T>
__device__ void mix_all(const float *pixels, Changes changes, const Cursor *cursor, T *output, u32 count, u32 height, u32 width,
                        u32 channels, u32 stride) {
    u32 area = height * width;
    FOR_EACH(i, count * area) {
        u32 image = i / area, y = i % area / width, x = i % width, other = image;
        float share = 1.0f;
        bool blends = false;
        if (changes.shares) {
            const u32 *pasted = changes.pasted + 4 * (cursor->index - 1);
            u32 partner = changes.partners[cursor->first + image];
            blends = pasted[0] == BLENDED;
            share = changes.shares[cursor->index - 1];
            other = blends || is_inside(pasted, y, x) ? partner : image;
        }
        const u32 *erased = changes.erased ? changes.erased + 4 * cursor->first : 0;
        const float *mine = pixels + (u64)i * channels;
        const float *theirs = pixels + ((u64)other * area + i % area) * channels;
        bool mine_is_erased = erased && is_inside(erased + 4 * image, y, x);
        bool theirs_is_erased = erased && is_inside(erased + 4 * other, y, x);
        T *pixel = output + (u64)i * stride;
        for (u32 k = 0; k < stride; k++) {
            float b = k >= channels || theirs_is_erased ? 0.0f : theirs[k];
            float a = k >= channels || mine_is_erased ? 0.0f : mine[k];
            put(pixel + k, blends ? fmaf(share, a - b, b) : b);
        }
    }
}

KERNEL mix_f32(const float *pixels, const u32 *erased, const float *shares, const u32 *pasted, const u32 *partners,
               const Cursor *cursor, float *output, u32 count, u32 height, u32 width, u32 channels, u32 stride) {
    Changes changes = {erased, shares, pasted, partners};
    mix_all(pixels, changes, cursor, output, count, height, width, channels, stride);
}

KERNEL mix_bf16(const float *pixels, const u32 *erased, const float *shares, const u32 *pasted, const u32 *partners,
                const Cursor *cursor, bf16 *output, u32 count, u32 height, u32 width, u32 channels, u32 stride) {
    Changes changes = {erased, shares, pasted, partners};
    mix_all(pixels, changes, cursor, output, count, height, width, channels, stride);
}
