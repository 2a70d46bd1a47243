// Clipping, the optimisers, and the moving average of the weights.

// How the weights of each group change, `[steps, groups]`, and the group of each weight.
struct Rates {
    const Rate *all;
    const u8 *groups;
    u32 count;
    __device__ Rate of(const Cursor *cursor, u32 weight) const {
        return all[(cursor->index - 1) * count + groups[weight]];
    }
};

// Writes the sum of squares of a block's part of the gradients, without those of frozen weights.
KERNEL square_sums(const float *gradient, const Rate *all, const u8 *groups, u32 group_count, const Cursor *cursor,
                   double *partial, u32 count) {
    Rates rates = {all, groups, group_count};
    double sum = 0.0;
    FOR_EACH(i, count) {
        double value = rates.of(cursor, i).trains ? (double)gradient[i] : 0.0;
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

// From a step with a non-finite loss on, no weight changes. Training never continues from there, so the first vector of
// the optimiser then receives the gradients of that step, where the largest one can be found for the error message.
__device__ bool has_stopped(const float *gradient, float *first, Rates rates, const Cursor *cursor, u32 count) {
    if (cursor->bad_step != 0 && cursor->bad_step == cursor->step) {
        FOR_EACH(i, count) {
            first[i] = rates.of(cursor, i).trains ? gradient[i] : 0.0f;
        }
    }
    return cursor->bad_step != 0;
}

__device__ void move_to(float *weights, bf16 *narrow, u32 i, float value) {
    weights[i] = value;
    if (narrow) {
        put(narrow + i, value);
    }
}

// Updates the weights by one step of Adam or AdamW (optim/adam.rs, optim/adamw.rs), and copies them to `narrow` if it is not
// null.
KERNEL adam(const float *gradient, float *first, float *second, float *weights, bf16 *narrow, const Rate *all,
            const u8 *groups, u32 group_count, const Cursor *cursor, u32 count, float rate1, float rate2) {
    Rates rates = {all, groups, group_count};
    if (has_stopped(gradient, first, rates, cursor, count)) {
        return;
    }
    float factor = cursor->factor;
    FOR_EACH(i, count) {
        Rate rate = rates.of(cursor, i);
        if (!rate.trains) {
            continue;
        }
        float g = gradient[i] * factor;
        float m = fmaf(g - first[i], rate1, first[i]);
        float v = fmaf(g * g - second[i], rate2, second[i]);
        first[i] = m;
        second[i] = v;
        move_to(weights, narrow, i, weights[i] * rate.decay - m * rate.alpha / (sqrtf(v) + rate.epsilon));
    }
}

// The same for stochastic gradient descent (optim/sgd.rs).
KERNEL momentum(const float *gradient, float *velocity, float *weights, bf16 *narrow, const Rate *all, const u8 *groups,
                u32 group_count, const Cursor *cursor, u32 count, float momentum) {
    Rates rates = {all, groups, group_count};
    if (has_stopped(gradient, velocity, rates, cursor, count)) {
        return;
    }
    float factor = cursor->factor;
    FOR_EACH(i, count) {
        Rate rate = rates.of(cursor, i);
        if (!rate.trains) {
            continue;
        }
        float v = fmaf(velocity[i], momentum, fmaf(weights[i], rate.decay, gradient[i] * factor));
        velocity[i] = v;
        move_to(weights, narrow, i, weights[i] - rate.alpha * v);
    }
}

// Moves averages towards values by the step's share.
KERNEL blend(const float *values, float *averages, const float *shares, const Cursor *cursor, u32 count) {
    if (cursor->bad_step != 0) {
        return;
    }
    float share = shares[cursor->index - 1];
    FOR_EACH(i, count) {
        averages[i] = fmaf(values[i] - averages[i], share, averages[i]);
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
