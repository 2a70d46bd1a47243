// A stand-in for `libcublas`: `cublasGemmEx` by its column-major definition, on the streams of `driver.cpp`.

#include "stand_in.h"

#include <cstdlib>
#include <set>
#include <vector>

typedef int Status;
enum : Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };

enum { FLOAT = 0, BFLOAT16 = 14, COMPUTE_32F = 68, COMPUTE_TF32 = 77, DEFAULT_ALGORITHM = -1 };

struct Handle {
    void *stream = nullptr;
    void *workspace = nullptr;
};

static std::set<Handle *> handles;

static Handle *known(void *handle) {
    auto found = handles.find(static_cast<Handle *>(handle));
    return found == handles.end() ? nullptr : *found;
}

static float read(const StandInNumbers &from, size_t index, bool is_tf32) {
    float value = from.get(index);
    return is_tf32 ? stand_in_tf32(value) : value;
}

extern "C" {

Status cublasCreate_v2(void **handle) {
    *handle = *handles.insert(new Handle).first;
    return SUCCESS;
}

Status cublasDestroy_v2(void *handle) {
    Handle *found = known(handle);
    if (!found) {
        return NOT_INITIALIZED;
    }
    handles.erase(found);
    delete found;
    return SUCCESS;
}

// Like the real one, it forgets the workspace.
Status cublasSetStream_v2(void *handle, void *stream) {
    Handle *found = known(handle);
    if (!found) {
        return NOT_INITIALIZED;
    }
    *found = {stream, nullptr};
    return SUCCESS;
}

Status cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes) {
    Handle *found = known(handle);
    if (!found) {
        return NOT_INITIALIZED;
    }
    stand_in_check("cublasSetWorkspace", workspace, bytes, 256);
    found->workspace = workspace;
    return SUCCESS;
}

Status cublasGetProperty(int which, int *value) {
    const char *major = std::getenv("HAMFLOW_STAND_IN_CUBLAS");
    const int version[] = {major ? std::atoi(major) : 13, 1, 0};
    if (which < 0 || which > 2) {
        return INVALID_VALUE;
    }
    *value = version[which];
    return SUCCESS;
}

// C = alpha · op(A) op(B) + beta · C, where op(A) is m×k, op(B) is k×n, and all matrices are column-major.
Status cublasGemmEx(void *handle, int transa, int transb, int m, int n, int k, const void *alpha, const void *a, int atype,
                    int lda, const void *b, int btype, int ldb, const void *beta, void *c, int ctype, int ldc, int compute,
                    int algorithm) {
    Handle *found = known(handle);
    if (!found) {
        return NOT_INITIALIZED;
    }
    bool is_known = (transa == 0 || transa == 1) && (transb == 0 || transb == 1) && m > 0 && n > 0 && k > 0;
    if (!is_known || lda < (transa ? k : m) || ldb < (transb ? n : k) || ldc < m) {
        return INVALID_VALUE;
    }
    // The combinations of its table for sums in f32, of those that hamflow uses.
    bool is_supported = atype == btype && (atype == FLOAT ? ctype == FLOAT : atype == BFLOAT16 && (ctype == FLOAT || ctype == BFLOAT16));
    if (!is_supported || (compute != COMPUTE_32F && !(compute == COMPUTE_TF32 && atype == FLOAT)) || algorithm != DEFAULT_ALGORITHM) {
        return NOT_SUPPORTED;
    }
    // Without a workspace of the program, cuBLAS allocates one.
    if (!found->workspace && stand_in_captures(found->stream)) {
        return EXECUTION_FAILED;
    }
    StandInNumbers left = {atype == BFLOAT16, const_cast<void *>(a)}, right = {btype == BFLOAT16, const_cast<void *>(b)};
    StandInNumbers result = {ctype == BFLOAT16, c};
    auto extent = [](int rows, int columns, int stride) { return (size_t)(columns - 1) * stride + rows; };
    stand_in_check("a factor of cublasGemmEx", a, left.size() * (transa ? extent(k, m, lda) : extent(m, k, lda)), left.size());
    stand_in_check("a factor of cublasGemmEx", b, right.size() * (transb ? extent(n, k, ldb) : extent(k, n, ldb)), right.size());
    stand_in_check("the result of cublasGemmEx", c, result.size() * extent(m, n, ldc), result.size());
    float scale = *static_cast<const float *>(alpha), before = *static_cast<const float *>(beta);
    int forced = stand_in_tf32_override();
    bool is_tf32 = atype == FLOAT && (forced < 0 ? compute == COMPUTE_TF32 : forced > 0);
    stand_in_enqueue(found->stream, [=] {
        // op(A) by rows and op(B) by columns.
        std::vector<float> rows((size_t)m * k), columns((size_t)n * k);
        for (int i = 0; i < m; i++) {
            for (int p = 0; p < k; p++) {
                rows[(size_t)i * k + p] = read(left, transa ? (size_t)i * lda + p : (size_t)p * lda + i, is_tf32);
            }
        }
        for (int j = 0; j < n; j++) {
            for (int p = 0; p < k; p++) {
                columns[(size_t)j * k + p] = read(right, transb ? (size_t)p * ldb + j : (size_t)j * ldb + p, is_tf32);
            }
        }
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < m; i++) {
                const float *x = &rows[(size_t)i * k], *y = &columns[(size_t)j * k];
                double sum = 0.0;
                for (int p = 0; p < k; p++) {
                    sum += (double)x[p] * y[p];
                }
                size_t place = (size_t)j * ldc + i;
                result.put(place, (float)(scale * sum) + (before == 0.0f ? 0.0f : before * result.get(place)));
            }
        }
    });
    return SUCCESS;
}

} // extern "C"
