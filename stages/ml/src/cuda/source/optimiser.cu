// Clipping and Adam.

// Writes the sum of squares of a block's part of the gradients.
KERNEL square_sums(const float *gradient, double *partial, u32 count) {
    double sum = 0.0;
    FOR_EACH(i, count) {
        double value = (double)gradient[i];
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

// Writes to the cursor the factor for gradients whose norm exceeds `most`.
KERNEL clip_factor(const double *partial, u32 blocks, double most, Cursor *cursor) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < blocks; i += BLOCK) {
        sum += partial[i];
    }
    double norm = sqrt(block_sum(sum));
    if (threadIdx.x == 0) {
        cursor->factor = norm > most ? (float)(most / norm) : 1.0f;
    }
}

// Updates the weights by one step of Adam as in Keras (optimiser.rs), and copies them to `narrow` if it is not null.
//
// From a step with a non-finite loss on, no weight changes. Training never continues from there, so the second
// moments then receive the gradients of that step, where the largest one can be found for the error message.
KERNEL adam(const float *gradient, float *first, float *second, float *weights, bf16 *narrow, const Cursor *cursor, u32 count,
            float rate1, float rate2, float epsilon) {
    if (cursor->bad_step != 0) {
        if (cursor->bad_step == cursor->step) {
            FOR_EACH(i, count) {
                second[i] = gradient[i];
            }
        }
        return;
    }
    float alpha = cursor->alpha, factor = cursor->factor;
    FOR_EACH(i, count) {
        float g = gradient[i] * factor;
        float m = fmaf(g - first[i], rate1, first[i]);
        float v = fmaf(g * g - second[i], rate2, second[i]);
        float w = weights[i] - m * alpha / (sqrtf(v) + epsilon);
        first[i] = m;
        second[i] = v;
        weights[i] = w;
        if (narrow) {
            put(narrow + i, w);
        }
    }
}

KERNEL narrow(const float *values, bf16 *output, u32 count) {
    FOR_EACH(i, count) {
        put(output + i, values[i]);
    }
}

KERNEL widen(const bf16 *values, float *output, u32 count) {
    FOR_EACH(i, count) {
        output[i] = get(values[i]);
    }
}
