// Definitions shared by all kernels: number types, the state of a step, the dropout hash.
//
// The kernels are simple enough to be compiled by NVRTC, which has no headers, and by a C++ compiler after `host.h`,
// with which the tests run them on the CPU. The order of sums depends only on the sizes: no atomics.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// Threads per block; every kernel is launched with this number. The results of the kernels do not depend on it, except
// for the rounding of sums, so an emulation may have fewer.
#ifndef BLOCK
#define BLOCK 256
#endif

// The position of a step in its epoch, and the accumulated results. Has the fields of `Cursor` in cursor.rs.
struct Cursor {
    u64 step;        // the number of optimiser steps so far
    u64 bad_step;    // the first step with a non-finite loss, or 0
    u64 index;       // the number of steps in this epoch
    u64 first;       // the position of the step's first image in the epoch's order
    u64 next;        // the position of the next step's first image
    double loss;     // the sum of the image losses
    u64 correct;     // the number of correctly classified images
    float factor;    // the factor by which clipping scales the gradients
    u32 unused;
};

// How the weights of a group change in a step; has the fields of `Rate` in rate.rs.
struct Rate {
    float alpha;     // the learning rate, with the bias corrections of Adam
    float decay;     // Adam: the factor of the weights before; SGD: the share of the weights that is added to the gradient
    float epsilon;   // Adam: what is added to the root of the second moment
    u32 trains;      // 0 if the weights are frozen
};

// The target of an image; has the fields of `Target` in epoch_buffer.rs.
struct Target {
    double weight;
    double mixed_weight;
    u32 image_class;
    u32 mixed_class;
};

struct bf16 {
    unsigned short bits;
};

__device__ float get(float value) {
    return value;
}

__device__ float get(bf16 value) {
    return __uint_as_float((u32)value.bits << 16);
}

__device__ void put(float *place, float value) {
    *place = value;
}

// Rounds to nearest, ties to even.
__device__ void put(bf16 *place, float value) {
    u32 bits = __float_as_uint(value);
    bool is_number = (bits & 0x7fffffffu) <= 0x7f800000u;
    place->bits = (unsigned short)(is_number ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : 0x7fc0u);
}

// Adjacent values that are loaded and stored together.
template <typename T, u32 N> struct alignas(N * sizeof(T)) Pack {
    T values[N];
};

// The packs of an array. If the number of channels is a multiple of four, a pack is within one pixel and aligned.
template <u32 N, typename T> __device__ Pack<T, N> *packs(T *values) {
    return (Pack<T, N> *)values;
}

template <u32 N, typename T> __device__ const Pack<T, N> *packs(const T *values) {
    return (const Pack<T, N> *)values;
}

// SplitMix64, like `mix` in layer/dropout.rs.
__device__ u64 mix_words(u64 state, u64 word) {
    u64 z = state + (word + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// The value after dropout, like `DropoutMask` in kernels/pointwise.rs.
__device__ float drop(u64 key, u32 index, u32 threshold, float scale, float value) {
    if (threshold == 0) {
        return value;
    }
    u32 hash = index ^ (u32)key;
    hash = ((hash ^ (hash >> 16)) * 0x85ebca6bu) ^ (u32)(key >> 32);
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
    hash ^= hash >> 16;
    return hash >= threshold ? value * scale : 0.0f;
}

// The sum over the threads of the block by tree reduction; all threads get the result.
__device__ double block_sum(double value) {
    __shared__ double values[BLOCK];
    values[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            values[threadIdx.x] += values[threadIdx.x + half];
        }
        __syncthreads();
    }
    double sum = values[0];
    __syncthreads();
    return sum;
}

// All counts are below 2^31 (checked when buffers are created), so that no index overflows.
#define FOR_EACH(i, count) for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < (count); i += gridDim.x * BLOCK)
