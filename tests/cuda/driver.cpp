// A stand-in for NVIDIA's driver, `libcuda.so.1`: the calls that hamflow makes, on a machine without a GPU.
//
// It is strict: every handle and pointer is checked, and so are the rules for captures, contexts and pinned memory. It is
// lazy: a stream does nothing until somebody waits for it, so that a missing wait reads old bytes. New memory holds NaN.
// Kernels run from their source on the processor (`host.h`), by name: the compiled code is only checked for being there.
//
// Variables:
//   HAMFLOW_STAND_IN_LOG         a file to which every allocation, capture, replay and wait is appended
//   HAMFLOW_STAND_IN_MEMORY      the bytes of memory of the device (8 GiB)
//   HAMFLOW_STAND_IN_CAPABILITY  the compute capability, times ten (90)
//   HAMFLOW_STAND_IN_DRIVER      the CUDA version of the driver, as it tells it (13000)
//   HAMFLOW_STAND_IN_DEVICES     the number of devices (1)

#include "kernels.inc"

#include "stand_in.h"

#include <cstdarg>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

typedef int Status;
enum : Status {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
};

static std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> Guard;

static long setting(const char *name, long usual) {
    const char *value = std::getenv(name);
    return value ? std::atol(value) : usual;
}

void stand_in_log(const char *format, ...) {
    const char *path = std::getenv("HAMFLOW_STAND_IN_LOG");
    if (!path) {
        return;
    }
    Guard guard(mutex);
    if (FILE *file = std::fopen(path, "a")) {
        va_list arguments;
        va_start(arguments, format);
        std::vfprintf(file, format, arguments);
        va_end(arguments);
        std::fputc('\n', file);
        std::fclose(file);
    }
}

void stand_in_abort(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("CUDA stand-in: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
    std::abort();
}

int stand_in_tf32_override() {
    const char *value = std::getenv("NVIDIA_TF32_OVERRIDE");
    return value ? std::atoi(value) : -1;
}

float StandInNumbers::get(size_t index) const {
    return is_bf16 ? ::get(static_cast<const bf16 *>(from)[index]) : static_cast<const float *>(from)[index];
}

void StandInNumbers::put(size_t index, float value) const {
    if (is_bf16) {
        ::put(static_cast<bf16 *>(from) + index, value);
    } else {
        static_cast<float *>(from)[index] = value;
    }
}

float stand_in_tf32(float value) {
    return __uint_as_float((__float_as_uint(value) + 0x1000u) & ~0x1fffu);
}

// Contexts

static bool is_initialised = false;
static int retained = 0;
static char primary;
static thread_local void *current = nullptr;

#define NEED_CONTEXT()                                                                                                           \
    Guard guard(mutex);                                                                                                          \
    if (!is_initialised) {                                                                                                       \
        return NOT_INITIALIZED;                                                                                                  \
    }                                                                                                                            \
    if (current != &primary || retained == 0) {                                                                                  \
        return INVALID_CONTEXT;                                                                                                  \
    }

// Memory

struct Allocation {
    char *mapped;
    size_t pages;
    size_t bytes;
    bool is_pinned;
};

// By address of the first byte.
static std::map<char *, Allocation> allocations;
static size_t allocated = 0;

static size_t capacity() { return setting("HAMFLOW_STAND_IN_MEMORY", 8l << 30); }

static Allocation *allocation_of(const void *address) {
    char *place = static_cast<char *>(const_cast<void *>(address));
    auto after = allocations.upper_bound(place);
    if (after == allocations.begin()) {
        return nullptr;
    }
    auto found = std::prev(after);
    return place < found->first + found->second.bytes || place == found->first ? &found->second : nullptr;
}

static bool holds(const void *address, size_t bytes, bool is_pinned) {
    char *place = static_cast<char *>(const_cast<void *>(address));
    auto after = allocations.upper_bound(place);
    if (after == allocations.begin()) {
        return false;
    }
    auto found = std::prev(after);
    return found->second.is_pinned == is_pinned && place + bytes <= found->first + found->second.bytes;
}

void stand_in_check(const char *what, const void *from, size_t bytes, size_t alignment) {
    Guard guard(mutex);
    if (!holds(from, bytes, false)) {
        stand_in_abort("%s: %zu bytes at %p are not in an allocation of the device", what, bytes, from);
    }
    if (reinterpret_cast<uintptr_t>(from) % alignment != 0) {
        stand_in_abort("%s: %p is not aligned to %zu bytes", what, from, alignment);
    }
}

// Memory that ends at a page that cannot be accessed, up to the alignment of 256 bytes, and that begins with one.
static char *map(size_t bytes, bool is_pinned) {
    size_t page = sysconf(_SC_PAGESIZE), rounded = (bytes + 255) / 256 * 256;
    size_t pages = (rounded + page - 1) / page * page;
    char *mapped = static_cast<char *>(mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mapped == MAP_FAILED) {
        return nullptr;
    }
    mprotect(mapped + page, pages, PROT_READ | PROT_WRITE);
    char *place = mapped + page + pages - rounded;
    std::memset(place, 0xff, rounded);
    allocations[place] = {mapped, pages + 2 * page, bytes, is_pinned};
    return place;
}

static void unmap(char *place) {
    Allocation allocation = allocations[place];
    allocations.erase(place);
    munmap(allocation.mapped, allocation.pages);
}

// Streams

struct Work {
    std::function<void()> run;
    // Host memory that the work writes to or reads from.
    const void *pinned;
};

struct Graph {
    std::vector<Work> works;
};

struct Stream {
    std::deque<Work> waiting;
    size_t enqueued = 0, done = 0;
    std::unique_ptr<Graph> captured;
    bool is_invalid = false;
};

struct Event {
    Stream *stream = nullptr;
    size_t after = 0;
};

static std::set<Stream *> streams;
static std::set<Event *> events;
static std::set<Graph *> graphs, executables;

static void run_until(Stream *stream, size_t count) {
    while (stream->done < count) {
        Work work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        stream->done++;
        work.run();
    }
}

static void run_all(Stream *stream) { run_until(stream, stream->enqueued); }

static void add(Stream *stream, Work work) {
    if (stream->captured) {
        stream->captured->works.push_back(std::move(work));
    } else {
        stream->waiting.push_back(std::move(work));
        stream->enqueued++;
    }
}

static bool captures() {
    for (Stream *stream : streams) {
        if (stream->captured) {
            return true;
        }
    }
    return false;
}

// What is not allowed while this thread captures; it spoils what is captured.
static bool spoils(const char *call) {
    bool any = false;
    for (Stream *stream : streams) {
        if (stream->captured) {
            any = stream->is_invalid = true;
        }
    }
    if (any) {
        stand_in_log("forbidden during a capture: %s", call);
    }
    return any;
}

static Stream *known(void *stream) {
    auto found = streams.find(static_cast<Stream *>(stream));
    return found == streams.end() ? nullptr : *found;
}

void stand_in_enqueue(void *stream, std::function<void()> work) {
    Guard guard(mutex);
    Stream *found = known(stream);
    if (!found) {
        stand_in_abort("%p is not a stream", stream);
    }
    add(found, {std::move(work), nullptr});
}

bool stand_in_captures(void *stream) {
    Guard guard(mutex);
    Stream *found = known(stream);
    return found && found->captured;
}

extern "C" {

Status cuInit(unsigned int flags) {
    Guard guard(mutex);
    if (flags != 0) {
        return INVALID_VALUE;
    }
    if (setting("HAMFLOW_STAND_IN_DEVICES", 1) == 0) {
        return NO_DEVICE;
    }
    is_initialised = true;
    stand_in_log("init");
    return SUCCESS;
}

Status cuDriverGetVersion(int *version) {
    *version = setting("HAMFLOW_STAND_IN_DRIVER", 13000);
    return SUCCESS;
}

Status cuDeviceGetCount(int *count) {
    *count = setting("HAMFLOW_STAND_IN_DEVICES", 1);
    return is_initialised ? SUCCESS : NOT_INITIALIZED;
}

Status cuDeviceGet(int *device, int ordinal) {
    if (!is_initialised) {
        return NOT_INITIALIZED;
    }
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

Status cuDeviceGetName(char *name, int length, int device) {
    if (device != 0) {
        return INVALID_DEVICE;
    }
    std::snprintf(name, length, "Stand-in");
    return SUCCESS;
}

Status cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 0) {
        return INVALID_DEVICE;
    }
    long capability = setting("HAMFLOW_STAND_IN_CAPABILITY", 90);
    switch (attribute) {
    case 16: // MULTIPROCESSOR_COUNT
        *value = 4;
        return SUCCESS;
    case 75: // COMPUTE_CAPABILITY_MAJOR
        *value = capability / 10;
        return SUCCESS;
    case 76: // COMPUTE_CAPABILITY_MINOR
        *value = capability % 10;
        return SUCCESS;
    case 115: // MEMORY_POOLS_SUPPORTED
        *value = 1;
        return SUCCESS;
    default:
        stand_in_abort("unknown attribute %d of a device", attribute);
    }
}

Status cuDevicePrimaryCtxRetain(void **context, int device) {
    Guard guard(mutex);
    if (!is_initialised || device != 0) {
        return is_initialised ? INVALID_DEVICE : NOT_INITIALIZED;
    }
    retained++;
    *context = &primary;
    return SUCCESS;
}

Status cuDevicePrimaryCtxRelease_v2(int device) {
    Guard guard(mutex);
    if (device != 0 || retained == 0) {
        return INVALID_CONTEXT;
    }
    if (--retained == 0 && allocations.size() > 0) {
        stand_in_log("left behind: %zu allocations", allocations.size());
    }
    return SUCCESS;
}

Status cuCtxSetCurrent(void *context) {
    if (context && context != &primary) {
        return INVALID_CONTEXT;
    }
    current = context;
    return SUCCESS;
}

Status cuCtxGetCurrent(void **context) {
    *context = current;
    return SUCCESS;
}

Status cuCtxSynchronize() {
    NEED_CONTEXT();
    if (spoils("cuCtxSynchronize")) {
        return CAPTURE_UNSUPPORTED;
    }
    for (Stream *stream : streams) {
        run_all(stream);
    }
    stand_in_log("wait");
    return SUCCESS;
}

Status cuMemGetInfo_v2(size_t *free, size_t *total) {
    NEED_CONTEXT();
    *total = capacity();
    *free = capacity() - allocated;
    return SUCCESS;
}

static Status allocate(char **address, size_t bytes) {
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    if (allocated + bytes > capacity()) {
        stand_in_log("out of memory: %zu bytes beside %zu", bytes, allocated);
        return OUT_OF_MEMORY;
    }
    *address = map(bytes, false);
    allocated += bytes;
    stand_in_log("allocate %zu", bytes);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

Status cuMemAlloc_v2(char **address, size_t bytes) {
    NEED_CONTEXT();
    return spoils("cuMemAlloc") ? CAPTURE_UNSUPPORTED : allocate(address, bytes);
}

Status cuMemAllocAsync(char **address, size_t bytes, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    // A capture would take it as a node, but hamflow's steps must not allocate.
    return spoils("cuMemAllocAsync") ? CAPTURE_UNSUPPORTED : allocate(address, bytes);
}

Status cuMemFreeAsync(char *address, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    if (spoils("cuMemFreeAsync")) {
        return CAPTURE_UNSUPPORTED;
    }
    auto found = allocations.find(address);
    if (found == allocations.end() || found->second.is_pinned) {
        return INVALID_VALUE;
    }
    allocated -= found->second.bytes;
    stand_in_log("free %zu", found->second.bytes);
    add(known(stream), {[address] { unmap(address); }, nullptr});
    return SUCCESS;
}

Status cuMemFree_v2(char *address) {
    NEED_CONTEXT();
    if (spoils("cuMemFree")) {
        return CAPTURE_UNSUPPORTED;
    }
    auto found = allocations.find(address);
    if (found == allocations.end() || found->second.is_pinned) {
        return INVALID_VALUE;
    }
    for (Stream *stream : streams) {
        run_all(stream);
    }
    allocated -= found->second.bytes;
    unmap(address);
    return SUCCESS;
}

Status cuMemHostAlloc(void **address, size_t bytes, unsigned int) {
    NEED_CONTEXT();
    if (spoils("cuMemHostAlloc")) {
        return CAPTURE_UNSUPPORTED;
    }
    *address = map(bytes, true);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

Status cuMemFreeHost(void *address) {
    NEED_CONTEXT();
    auto found = allocations.find(static_cast<char *>(address));
    if (found == allocations.end() || !found->second.is_pinned) {
        return INVALID_VALUE;
    }
    for (Stream *stream : streams) {
        for (const Work &work : stream->waiting) {
            if (work.pinned && allocation_of(work.pinned) == &found->second) {
                stand_in_abort("pinned memory is freed that a copy still writes to");
            }
        }
    }
    unmap(static_cast<char *>(address));
    return SUCCESS;
}

Status cuMemsetD8Async(char *to, unsigned char value, size_t bytes, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    stand_in_check("cuMemsetD8Async", to, bytes, 1);
    add(known(stream), {[=] { std::memset(to, value, bytes); }, nullptr});
    return SUCCESS;
}

Status cuMemcpyHtoDAsync_v2(char *to, const void *from, size_t bytes, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    stand_in_check("cuMemcpyHtoDAsync", to, bytes, 1);
    if (holds(from, bytes, true)) {
        add(known(stream), {[=] { std::memcpy(to, from, bytes); }, from});
        return SUCCESS;
    }
    // Pageable memory is read before the call returns, which cannot be captured.
    if (spoils("cuMemcpyHtoDAsync from pageable memory")) {
        return CAPTURE_UNSUPPORTED;
    }
    std::vector<char> bytes_of(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
    add(known(stream), {[=, bytes_of = std::move(bytes_of)] { std::memcpy(to, bytes_of.data(), bytes); }, nullptr});
    return SUCCESS;
}

Status cuMemcpyDtoHAsync_v2(void *to, const char *from, size_t bytes, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    stand_in_check("cuMemcpyDtoHAsync", from, bytes, 1);
    if (holds(to, bytes, true)) {
        add(known(stream), {[=] { std::memcpy(to, from, bytes); }, to});
        return SUCCESS;
    }
    if (spoils("cuMemcpyDtoHAsync to pageable memory")) {
        return CAPTURE_UNSUPPORTED;
    }
    run_all(known(stream));
    std::memcpy(to, from, bytes);
    stand_in_log("wait");
    return SUCCESS;
}

Status cuMemcpyDtoDAsync_v2(char *to, const char *from, size_t bytes, void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    stand_in_check("cuMemcpyDtoDAsync", from, bytes, 1);
    stand_in_check("cuMemcpyDtoDAsync", to, bytes, 1);
    add(known(stream), {[=] { std::memmove(to, from, bytes); }, nullptr});
    return SUCCESS;
}

Status cuStreamCreate(void **stream, unsigned int) {
    NEED_CONTEXT();
    *stream = *streams.insert(new Stream).first;
    return SUCCESS;
}

Status cuStreamDestroy_v2(void *stream) {
    NEED_CONTEXT();
    Stream *found = known(stream);
    if (!found) {
        return INVALID_HANDLE;
    }
    run_all(found);
    streams.erase(found);
    delete found;
    return SUCCESS;
}

Status cuStreamSynchronize(void *stream) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    if (spoils("cuStreamSynchronize")) {
        return CAPTURE_UNSUPPORTED;
    }
    run_all(known(stream));
    stand_in_log("wait");
    return SUCCESS;
}

Status cuStreamWaitEvent(void *stream, void *event, unsigned int) {
    NEED_CONTEXT();
    return known(stream) && events.count(static_cast<Event *>(event)) ? SUCCESS : INVALID_HANDLE;
}

Status cuStreamBeginCapture_v2(void *stream, int) {
    NEED_CONTEXT();
    Stream *found = known(stream);
    if (!found || found->captured) {
        return INVALID_VALUE;
    }
    found->captured = std::make_unique<Graph>();
    found->is_invalid = false;
    stand_in_log("capture");
    return SUCCESS;
}

Status cuStreamIsCapturing(void *stream, int *status) {
    NEED_CONTEXT();
    Stream *found = known(stream);
    if (!found) {
        return INVALID_HANDLE;
    }
    *status = !found->captured ? 0 : found->is_invalid ? 2 : 1;
    return SUCCESS;
}

Status cuStreamEndCapture(void *stream, void **graph) {
    NEED_CONTEXT();
    Stream *found = known(stream);
    if (!found || !found->captured) {
        return CAPTURE_UNMATCHED;
    }
    std::unique_ptr<Graph> captured = std::move(found->captured);
    *graph = nullptr;
    if (found->is_invalid) {
        return CAPTURE_INVALIDATED;
    }
    stand_in_log("captured %zu", captured->works.size());
    *graph = *graphs.insert(captured.release()).first;
    return SUCCESS;
}

Status cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    NEED_CONTEXT();
    auto found = graphs.find(static_cast<Graph *>(graph));
    if (found == graphs.end()) {
        return INVALID_HANDLE;
    }
    *executable = *executables.insert(new Graph(**found)).first;
    return SUCCESS;
}

Status cuGraphUpload(void *executable, void *stream) {
    NEED_CONTEXT();
    return executables.count(static_cast<Graph *>(executable)) && known(stream) ? SUCCESS : INVALID_HANDLE;
}

Status cuGraphLaunch(void *executable, void *stream) {
    NEED_CONTEXT();
    auto found = executables.find(static_cast<Graph *>(executable));
    if (found == executables.end() || !known(stream)) {
        return INVALID_HANDLE;
    }
    for (const Work &work : (*found)->works) {
        add(known(stream), work);
    }
    stand_in_log("replay");
    return SUCCESS;
}

Status cuGraphExecDestroy(void *executable) {
    NEED_CONTEXT();
    auto found = executables.find(static_cast<Graph *>(executable));
    if (found == executables.end()) {
        return INVALID_HANDLE;
    }
    // What was launched still runs.
    delete *found;
    executables.erase(found);
    return SUCCESS;
}

Status cuGraphDestroy(void *graph) {
    NEED_CONTEXT();
    auto found = graphs.find(static_cast<Graph *>(graph));
    if (found == graphs.end()) {
        return INVALID_HANDLE;
    }
    delete *found;
    graphs.erase(found);
    return SUCCESS;
}

Status cuEventCreate(void **event, unsigned int) {
    NEED_CONTEXT();
    *event = *events.insert(new Event).first;
    return SUCCESS;
}

Status cuEventDestroy_v2(void *event) {
    NEED_CONTEXT();
    auto found = events.find(static_cast<Event *>(event));
    if (found == events.end()) {
        return INVALID_HANDLE;
    }
    delete *found;
    events.erase(found);
    return SUCCESS;
}

Status cuEventRecord(void *event, void *stream) {
    NEED_CONTEXT();
    auto found = events.find(static_cast<Event *>(event));
    if (found == events.end() || !known(stream)) {
        return INVALID_HANDLE;
    }
    **found = {known(stream), known(stream)->enqueued};
    return SUCCESS;
}

// An event that was never recorded is complete, as with the real driver.
Status cuEventSynchronize(void *event) {
    NEED_CONTEXT();
    auto found = events.find(static_cast<Event *>(event));
    if (found == events.end()) {
        return INVALID_HANDLE;
    }
    if (spoils("cuEventSynchronize")) {
        return CAPTURE_UNSUPPORTED;
    }
    if ((*found)->stream && known((*found)->stream)) {
        run_until((*found)->stream, (*found)->after);
    }
    stand_in_log("wait for an event");
    return SUCCESS;
}

Status cuEventQuery(void *event) {
    NEED_CONTEXT();
    auto found = events.find(static_cast<Event *>(event));
    if (found == events.end()) {
        return INVALID_HANDLE;
    }
    return !(*found)->stream || (*found)->stream->done >= (*found)->after ? SUCCESS : NOT_READY;
}

// NVRTC asks for tables of functions that are not documented, and does without them.
Status cuGetExportTable(const void **table, const void *) {
    *table = nullptr;
    return NOT_FOUND;
}

// Modules

Status cuModuleLoadData(void **module, const void *image) {
    NEED_CONTEXT();
    if (spoils("cuModuleLoadData")) {
        return CAPTURE_UNSUPPORTED;
    }
    if (std::memcmp(image, "\x7f" "ELF", 4) != 0) {
        return INVALID_IMAGE;
    }
    *module = const_cast<char *>("module");
    return SUCCESS;
}

Status cuModuleUnload(void *) {
    NEED_CONTEXT();
    return SUCCESS;
}

Status cuModuleGetFunction(const void **function, void *, const char *name) {
    NEED_CONTEXT();
    for (const KernelEntry &entry : kernel_entries) {
        if (!std::strcmp(entry.name, name)) {
            *function = &entry;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

Status cuLaunchKernel(const void *function, unsigned int x, unsigned int y, unsigned int z, unsigned int threads,
                      unsigned int threads_y, unsigned int threads_z, unsigned int shared, void *stream, void **parameters,
                      void **extra) {
    NEED_CONTEXT();
    if (!known(stream)) {
        return INVALID_HANDLE;
    }
    const KernelEntry *entry = static_cast<const KernelEntry *>(function);
    if (x == 0 || x > 2147483647u || y != 1 || z != 1 || threads != 256 || threads_y != 1 || threads_z != 1 || shared || extra) {
        stand_in_log("`%s` is launched with %u×%u×%u blocks of %u×%u×%u threads", entry->name, x, y, z, threads, threads_y,
                     threads_z);
        return INVALID_VALUE;
    }
    // The arguments are copied, as the driver copies them.
    std::vector<std::vector<char>> values;
    for (size_t i = 0; i < entry->parameters.size(); i++) {
        const KernelParameter &parameter = entry->parameters[i];
        const char *from = static_cast<const char *>(parameters[i]);
        values.emplace_back(from, from + parameter.size);
        if (!parameter.is_pointer) {
            continue;
        }
        char *address;
        std::memcpy(&address, from, sizeof address);
        if (address && !(allocation_of(address) && !allocation_of(address)->is_pinned)) {
            stand_in_abort("argument %zu of `%s` is no memory of the device", i, entry->name);
        }
    }
    add(known(stream), {[entry, x, values = std::move(values)] {
                            std::vector<void *> pointers;
                            for (const auto &value : values) {
                                pointers.push_back(const_cast<char *>(value.data()));
                            }
                            entry->run(x, pointers.data());
                        },
                        nullptr});
    return SUCCESS;
}

static const char *name_of(Status status) {
    switch (status) {
    case SUCCESS: return "CUDA_SUCCESS";
    case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
    case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case CAPTURE_UNSUPPORTED: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CAPTURE_INVALIDATED: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    default: return "CUDA_ERROR";
    }
}

Status cuGetErrorName(Status status, const char **name) {
    *name = name_of(status);
    return SUCCESS;
}

Status cuGetErrorString(Status status, const char **text) {
    switch (status) {
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    default: *text = name_of(status);
    }
    return SUCCESS;
}

} // extern "C"
