// Softmax and cross-entropy with the gradient of both, like loss.rs: one block for all images, one thread per image.

// The share of a class in a target; the shares sum to 1.
__device__ double wanted(const Target *target, double weight, u32 c, u32 classes, double smoothing) {
    double share = 0.0;
    if (weight > 0.0) {
        share += c == target->image_class ? target->weight / weight : 0.0;
        share += c == target->mixed_class ? target->mixed_weight / weight : 0.0;
    }
    return smoothing > 0.0 ? share * (1.0 - smoothing) + smoothing / (double)classes : share;
}

// The slope of a class under focal loss: f'(p) p for f(p) = -(1 - p)^γ ln p, times its target share; adds f(p) to the loss.
__device__ double focal_slope(double share, double log_p, double focal, double *loss) {
    if (!(share > 0.0)) {
        return 0.0;
    }
    double p = exp(log_p), rest = fmax(1.0 - p, 0.0);
    double power = pow(rest, focal);
    *loss -= share * power * log_p;
    // For p = 1, both factors vanish.
    double steep = rest > 0.0 ? focal * p * pow(rest, focal - 1.0) * log_p : 0.0;
    return share * (steep - power);
}

// The logits of an image in the loss.
struct Adjusted {
    const float *logits, *offsets;
    __device__ float operator[](u32 c) const { return offsets ? logits[c] + offsets[c] : logits[c]; }
};

// Copies the logits of a step to those of all images.
KERNEL keep_logits(const float *logits, float *all, const Cursor *cursor, u32 count, u32 classes) {
    FOR_EACH(i, count) {
        all[cursor->first * classes + i] = logits[i];
    }
}

// Writes the gradient of the mean loss, and adds the loss and the number of correct predictions to the cursor. `offsets`
// are added to the logits of each class in the loss, but not for predictions; null for none.
KERNEL loss_gradient(const float *logits, const float *offsets, const Target *targets, Cursor *cursor, float *gradient, u32 images, u32 classes,
                     double smoothing, double focal) {
    double sum = 0.0, correct = 0.0;
    for (u32 image = threadIdx.x; image < images; image += BLOCK) {
        const float *plain = logits + (u64)image * classes;
        Adjusted values = {plain, offsets};
        const Target *target = targets + cursor->first + image;
        float *slopes = gradient + (u64)image * classes;
        double weight = target->weight + target->mixed_weight;
        u32 best = 0;
        float largest = values[0];
        for (u32 c = 1; c < classes; c++) {
            best = plain[c] > plain[best] ? c : best;
            largest = fmaxf(largest, values[c]);
        }
        double powers = 0.0;
        for (u32 c = 0; c < classes; c++) {
            powers += exp((double)values[c] - (double)largest);
        }
        double log_sum = log(powers), loss = 0.0, all = 0.0;
        double scale = weight / (double)images;
        if (focal > 0.0) {
            double ignored = 0.0;
            for (u32 c = 0; c < classes; c++) {
                double share = wanted(target, weight, c, classes, smoothing);
                all += focal_slope(share, (double)values[c] - (double)largest - log_sum, focal, &ignored);
            }
        }
        for (u32 c = 0; c < classes; c++) {
            double share = wanted(target, weight, c, classes, smoothing);
            double shifted = (double)values[c] - (double)largest;
            double slope;
            if (focal > 0.0) {
                slope = focal_slope(share, shifted - log_sum, focal, &loss) - all * exp(shifted - log_sum);
            } else {
                loss += share > 0.0 ? share * (log_sum - shifted) : 0.0;
                slope = exp(shifted) / powers - share;
            }
            slopes[c] = (float)(slope * scale);
        }
        sum += weight * loss;
        correct += best == target->image_class ? 1.0 : 0.0;
    }
    sum = block_sum(sum);
    correct = block_sum(correct);
    // After a step with a non-finite loss, nothing is counted.
    if (threadIdx.x == 0 && cursor->bad_step == 0) {
        cursor->loss += sum;
        cursor->correct += (u64)correct;
        bool is_finite = sum - sum == 0.0;
        cursor->bad_step = is_finite ? 0 : cursor->step;
    }
}
