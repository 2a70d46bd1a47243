// A stand-in for `libcudnn`: convolutions by their definition, on the streams of `driver.cpp`.
//
// Values are found by the descriptors' formats and strides. The lists of algorithms have what makes a choice fail on a
// device: the fastest does not repeat its bits, one is not supported, one fails when it runs, and the others need the
// math type and the workspace that the library told.

#include "stand_in.h"

#include <cstdint>
#include <cstdlib>
#include <set>
#include <vector>

typedef int Status;
enum : Status { SUCCESS = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };

enum { FLOAT = 0, BFLOAT16 = 9 };
enum { NCHW = 0, NHWC = 1 };
enum { DEFAULT_MATH = 0, TENSOR_OP_MATH = 1, FMA_MATH = 3 };

struct Handle {
    void *stream = nullptr;
};

struct Tensor {
    int format = -1, type = -1;
    // Images, channels, rows, columns.
    int sizes[4] = {}, strides[4] = {};

    bool set(int new_format, int new_type, const int *new_sizes) {
        format = new_format;
        type = new_type;
        for (int i = 0; i < 4; i++) {
            sizes[i] = new_sizes[i];
            if (sizes[i] <= 0) {
                return false;
            }
        }
        if (format == NHWC) {
            strides[1] = 1;
            strides[3] = sizes[1];
            strides[2] = sizes[3] * sizes[1];
        } else {
            strides[3] = 1;
            strides[2] = sizes[3];
            strides[1] = sizes[2] * sizes[3];
        }
        strides[0] = sizes[1] * sizes[2] * sizes[3];
        return (format == NCHW || format == NHWC) && (type == FLOAT || type == BFLOAT16);
    }

    size_t count() const { return (size_t)sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
    size_t bytes() const { return count() * (type == BFLOAT16 ? 2 : 4); }
    size_t at(int n, int c, int h, int w) const {
        return (size_t)n * strides[0] + (size_t)c * strides[1] + (size_t)h * strides[2] + (size_t)w * strides[3];
    }
};

struct Convolution {
    int padding[2] = {}, stride[2] = {}, dilation[2] = {}, mode = -1, sums = -1, groups = 1, math = DEFAULT_MATH;
};

template <typename T> struct Objects {
    std::set<T *> all;
    Status create(void **to) {
        *to = *all.insert(new T).first;
        return SUCCESS;
    }
    T *find(const void *object) {
        auto found = all.find(static_cast<T *>(const_cast<void *>(object)));
        if (found == all.end()) {
            stand_in_abort("cuDNN is given %p, which does not exist or is something else", object);
        }
        return *found;
    }
    Status destroy(void *object) {
        T *found = find(object);
        all.erase(found);
        delete found;
        return SUCCESS;
    }
};

static Objects<Handle> handles;
static Objects<Tensor> tensors, filters;
static Objects<Convolution> convolutions;

enum Pass { FORWARD, DATA, FILTER };

// What the library tells of an algorithm; `cudnnConvolutionFwdAlgoPerf_t` and the two others.
struct Answer {
    int algorithm;
    Status status;
    float time;
    size_t memory;
    int determinism;
    int math;
    int reserved[3];
};

struct Algorithm {
    int number;
    Status status;
    size_t memory;
    bool is_deterministic;
    bool fails;
};

static const std::vector<Algorithm> &algorithms(Pass pass) {
    static const std::vector<Algorithm> forward = {
        {7, SUCCESS, 4096, true, true},
        {5, NOT_SUPPORTED, 0, true, true},
        {1, SUCCESS, 1024, true, false},
        {0, SUCCESS, 0, true, false},
    };
    static const std::vector<Algorithm> data = {
        {0, SUCCESS, 0, false, false},
        {5, SUCCESS, 4096, true, true},
        {1, SUCCESS, 2048, true, false},
    };
    static const std::vector<Algorithm> filter = {
        {0, SUCCESS, 0, false, false},
        {3, SUCCESS, 512, false, false},
        {2, NOT_SUPPORTED, 0, true, true},
        {1, SUCCESS, 3072, true, false},
    };
    return pass == FORWARD ? forward : pass == DATA ? data : filter;
}

// The math type that an algorithm needs, under a descriptor.
static int math_of(const Convolution &convolution, const Algorithm &algorithm, int type) {
    if (type == BFLOAT16) {
        return TENSOR_OP_MATH;
    }
    bool allows = convolution.math != FMA_MATH;
    return allows && algorithm.memory > 0 ? TENSOR_OP_MATH : FMA_MATH;
}

// The tensors of a pass, checked against each other.
struct Shapes {
    Tensor x, w, y;
    Convolution convolution;

    bool fit() const {
        int type = x.type;
        bool same = w.type == type && y.type == type && x.format == y.format && w.format == x.format;
        bool simple = convolution.dilation[0] == 1 && convolution.dilation[1] == 1 && convolution.mode == 1 && convolution.sums == FLOAT;
        int groups = convolution.groups;
        bool channels = groups > 0 && x.sizes[1] == w.sizes[1] * groups && y.sizes[1] == w.sizes[0] && w.sizes[0] % groups == 0;
        if (!same || !simple || !channels || x.sizes[0] != y.sizes[0]) {
            return false;
        }
        for (int i = 0; i < 2; i++) {
            int room = x.sizes[2 + i] + 2 * convolution.padding[i] - w.sizes[2 + i];
            if (room < 0 || convolution.stride[i] <= 0 || room / convolution.stride[i] + 1 != y.sizes[2 + i]) {
                return false;
            }
        }
        return true;
    }
};

static Shapes shapes(const void *x, const void *w, const void *c, const void *y) {
    return {*tensors.find(x), *filters.find(w), *tensors.find(y), *convolutions.find(c)};
}

static Status list(Pass pass, const Shapes &shapes, int most, int *found, Answer *answers) {
    if (!shapes.fit()) {
        return BAD_PARAM;
    }
    *found = 0;
    for (const Algorithm &algorithm : algorithms(pass)) {
        if (*found == most) {
            break;
        }
        int math = math_of(shapes.convolution, algorithm, shapes.x.type);
        answers[(*found)++] = {algorithm.number, algorithm.status, 0.0f, algorithm.memory, algorithm.is_deterministic, math, {}};
    }
    return SUCCESS;
}

static const Algorithm *find(Pass pass, int number) {
    for (const Algorithm &algorithm : algorithms(pass)) {
        if (algorithm.number == number && algorithm.status == SUCCESS) {
            return &algorithm;
        }
    }
    return nullptr;
}

static Status memory_of(Pass pass, const Shapes &shapes, int number, size_t *bytes) {
    const Algorithm *algorithm = find(pass, number);
    if (!shapes.fit()) {
        return BAD_PARAM;
    }
    if (!algorithm) {
        return NOT_SUPPORTED;
    }
    *bytes = algorithm->memory;
    return SUCCESS;
}

// Visits every pair of an output and an input pixel with the place in the window.
template <typename Visit> static void each(const Shapes &shapes, Visit visit) {
    const Tensor &x = shapes.x, &w = shapes.w, &y = shapes.y;
    for (int n = 0; n < y.sizes[0]; n++) {
        for (int row = 0; row < y.sizes[2]; row++) {
            for (int column = 0; column < y.sizes[3]; column++) {
                for (int i = 0; i < w.sizes[2]; i++) {
                    for (int j = 0; j < w.sizes[3]; j++) {
                        int from = row * shapes.convolution.stride[0] + i - shapes.convolution.padding[0];
                        int side = column * shapes.convolution.stride[1] + j - shapes.convolution.padding[1];
                        if (from >= 0 && from < x.sizes[2] && side >= 0 && side < x.sizes[3]) {
                            visit(n, row, column, i, j, from, side);
                        }
                    }
                }
            }
        }
    }
}

// Result = alpha · convolution + beta · result.
static void compute(Pass pass, const Shapes &shapes, const void *first, const void *second, void *result, float alpha, float beta,
                    bool is_tf32, float noise) {
    bool is_bf16 = shapes.x.type == BFLOAT16;
    auto load = [&](const void *from, const Tensor &tensor) {
        StandInNumbers numbers = {is_bf16, const_cast<void *>(from)};
        std::vector<float> values(tensor.count());
        for (size_t i = 0; i < values.size(); i++) {
            values[i] = is_tf32 ? stand_in_tf32(numbers.get(i)) : numbers.get(i);
        }
        return values;
    };
    const Tensor &x = shapes.x, &w = shapes.w, &y = shapes.y;
    const Tensor &one = pass == DATA ? w : x, &two = pass == FORWARD ? w : y, &out = pass == FORWARD ? y : pass == DATA ? x : w;
    std::vector<float> a = load(first, one), b = load(second, two);
    std::vector<double> sums(out.count());
    int inputs = w.sizes[1], outputs = w.sizes[0] / shapes.convolution.groups;
    each(shapes, [&](int n, int row, int column, int i, int j, int from, int side) {
        for (int o = 0; o < w.sizes[0]; o++) {
            int group = o / outputs * inputs;
            size_t at_y = y.at(n, o, row, column), at_x = x.at(n, group, from, side), at_w = w.at(o, 0, i, j);
            size_t step_x = x.strides[1], step_w = w.strides[1];
            double sum = 0.0;
            switch (pass) {
            case FORWARD:
                for (int k = 0; k < inputs; k++) {
                    sum += (double)a[at_x + k * step_x] * b[at_w + k * step_w];
                }
                sums[at_y] += sum;
                break;
            case DATA:
                for (int k = 0; k < inputs; k++) {
                    sums[at_x + k * step_x] += (double)a[at_w + k * step_w] * b[at_y];
                }
                break;
            case FILTER:
                for (int k = 0; k < inputs; k++) {
                    sums[at_w + k * step_w] += (double)a[at_x + k * step_x] * b[at_y];
                }
                break;
            }
        }
    });
    StandInNumbers to = {is_bf16, result};
    for (size_t i = 0; i < sums.size(); i++) {
        float before = beta == 0.0f ? 0.0f : beta * to.get(i);
        to.put(i, (float)(alpha * sums[i] * (1.0 + noise)) + before);
    }
}

static Status run(Pass pass, void *handle, const void *alpha, const Shapes &shapes, const void *first, const void *second, int number,
                  void *workspace, size_t room, const void *beta, void *result) {
    const Algorithm *algorithm = find(pass, number);
    if (!shapes.fit() || !algorithm) {
        return algorithm ? BAD_PARAM : NOT_SUPPORTED;
    }
    const Tensor &x = shapes.x, &w = shapes.w, &y = shapes.y;
    const Tensor &one = pass == DATA ? w : x, &two = pass == FORWARD ? w : y, &out = pass == FORWARD ? y : pass == DATA ? x : w;
    stand_in_check("a convolution's first factor", first, one.bytes(), 16);
    stand_in_check("a convolution's second factor", second, two.bytes(), 16);
    stand_in_check("a convolution's result", result, out.bytes(), 16);
    if (room < algorithm->memory || (algorithm->memory > 0 && !workspace)) {
        return BAD_PARAM;
    }
    if (algorithm->memory > 0) {
        stand_in_check("cuDNN's workspace", workspace, algorithm->memory, 16);
    }
    if (algorithm->fails) {
        stand_in_log("algorithm %d of pass %d failed", number, pass);
        return EXECUTION_FAILED;
    }
    int math = shapes.convolution.math;
    if (math != math_of(shapes.convolution, *algorithm, x.type)) {
        stand_in_log("slow: algorithm %d of pass %d with math type %d", number, pass, math);
    }
    if (!algorithm->is_deterministic) {
        stand_in_log("algorithm %d of pass %d does not repeat its bits", number, pass);
    }
    int forced = stand_in_tf32_override();
    bool is_tf32 = x.type == FLOAT && (forced < 0 ? math != FMA_MATH : forced > 0);
    float scale = *static_cast<const float *>(alpha), before = *static_cast<const float *>(beta);
    static int calls = 0;
    float noise = algorithm->is_deterministic ? 0.0f : 1e-6f * (float)(calls++ % 7);
    void *stream = handles.find(handle)->stream;
    size_t used = algorithm->memory;
    stand_in_enqueue(stream, [=] {
        // What the workspace held is lost.
        for (size_t i = 0; i < used; i++) {
            static_cast<unsigned char *>(workspace)[i] = 0xff;
        }
        compute(pass, shapes, first, second, result, scale, before, is_tf32, noise);
    });
    return SUCCESS;
}

extern "C" {

size_t cudnnGetVersion() {
    const char *version = std::getenv("HAMFLOW_STAND_IN_CUDNN");
    return version ? std::atol(version) : 91900;
}

const char *cudnnGetErrorString(Status) { return "CUDNN_STATUS"; }

Status cudnnCreate(void **handle) { return handles.create(handle); }
Status cudnnDestroy(void *handle) { return handles.destroy(handle); }
Status cudnnSetStream(void *handle, void *stream) {
    handles.find(handle)->stream = stream;
    return SUCCESS;
}

Status cudnnCreateTensorDescriptor(void **to) { return tensors.create(to); }
Status cudnnDestroyTensorDescriptor(void *of) { return tensors.destroy(of); }
Status cudnnSetTensor4dDescriptor(void *of, int format, int type, int n, int c, int h, int w) {
    int sizes[] = {n, c, h, w};
    return tensors.find(of)->set(format, type, sizes) ? SUCCESS : BAD_PARAM;
}

Status cudnnCreateFilterDescriptor(void **to) { return filters.create(to); }
Status cudnnDestroyFilterDescriptor(void *of) { return filters.destroy(of); }
Status cudnnSetFilter4dDescriptor(void *of, int type, int format, int k, int c, int h, int w) {
    int sizes[] = {k, c, h, w};
    return filters.find(of)->set(format, type, sizes) ? SUCCESS : BAD_PARAM;
}

Status cudnnCreateConvolutionDescriptor(void **to) { return convolutions.create(to); }
Status cudnnDestroyConvolutionDescriptor(void *of) { return convolutions.destroy(of); }
Status cudnnSetConvolution2dDescriptor(void *of, int pad_h, int pad_w, int u, int v, int dilation_h, int dilation_w, int mode, int sums) {
    Convolution *found = convolutions.find(of);
    int groups = found->groups, math = found->math;
    *found = {{pad_h, pad_w}, {u, v}, {dilation_h, dilation_w}, mode, sums, groups, math};
    return pad_h < 0 || pad_w < 0 || u <= 0 || v <= 0 ? BAD_PARAM : SUCCESS;
}
Status cudnnSetConvolutionGroupCount(void *of, int groups) {
    convolutions.find(of)->groups = groups;
    return groups > 0 ? SUCCESS : BAD_PARAM;
}
Status cudnnSetConvolutionMathType(void *of, int math) {
    convolutions.find(of)->math = math;
    return math >= 0 && math <= 3 ? SUCCESS : BAD_PARAM;
}

Status cudnnGetConvolutionForwardAlgorithm_v7(void *, void *x, void *w, void *c, void *y, int most, int *found, Answer *answers) {
    return list(FORWARD, shapes(x, w, c, y), most, found, answers);
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, void *w, void *y, void *c, void *x, int most, int *found, Answer *answers) {
    return list(DATA, shapes(x, w, c, y), most, found, answers);
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, void *x, void *y, void *c, void *w, int most, int *found, Answer *answers) {
    return list(FILTER, shapes(x, w, c, y), most, found, answers);
}

Status cudnnGetConvolutionForwardWorkspaceSize(void *, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes) {
    return memory_of(FORWARD, shapes(x, w, c, y), algorithm, bytes);
}
Status cudnnGetConvolutionBackwardDataWorkspaceSize(void *, void *w, void *y, void *c, void *x, int algorithm, size_t *bytes) {
    return memory_of(DATA, shapes(x, w, c, y), algorithm, bytes);
}
Status cudnnGetConvolutionBackwardFilterWorkspaceSize(void *, void *x, void *y, void *c, void *w, int algorithm, size_t *bytes) {
    return memory_of(FILTER, shapes(x, w, c, y), algorithm, bytes);
}

Status cudnnConvolutionForward(void *handle, const void *alpha, void *x, const void *x_data, void *w, const void *w_data, void *c,
                               int algorithm, void *workspace, size_t room, const void *beta, void *y, void *y_data) {
    return run(FORWARD, handle, alpha, shapes(x, w, c, y), x_data, w_data, algorithm, workspace, room, beta, y_data);
}
Status cudnnConvolutionBackwardData(void *handle, const void *alpha, void *w, const void *w_data, void *y, const void *y_data, void *c,
                                    int algorithm, void *workspace, size_t room, const void *beta, void *x, void *x_data) {
    return run(DATA, handle, alpha, shapes(x, w, c, y), w_data, y_data, algorithm, workspace, room, beta, x_data);
}
Status cudnnConvolutionBackwardFilter(void *handle, const void *alpha, void *x, const void *x_data, void *y, const void *y_data, void *c,
                                      int algorithm, void *workspace, size_t room, const void *beta, void *w, void *w_data) {
    return run(FILTER, handle, alpha, shapes(x, w, c, y), x_data, y_data, algorithm, workspace, room, beta, w_data);
}

} // extern "C"
