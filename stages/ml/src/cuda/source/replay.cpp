
// Runs recorded launches of kernels with threads of the system, each argument in memory of exactly its size, and compares
// the results: under ThreadSanitizer and AddressSanitizer. The file is written by `host_tests.rs`.

template <typename T> static T take(FILE *file) {
    T value;
    if (std::fread(&value, sizeof value, 1, file) != 1) {
        std::fprintf(stderr, "the recording is truncated\n");
        std::exit(2);
    }
    return value;
}

static std::vector<char> take_bytes(FILE *file) {
    std::vector<char> bytes(take<u64>(file));
    if (!bytes.empty() && std::fread(bytes.data(), bytes.size(), 1, file) != 1) {
        std::fprintf(stderr, "the recording is truncated\n");
        std::exit(2);
    }
    return bytes;
}

int main(int, char **arguments) {
    FILE *file = std::fopen(arguments[1], "rb");
    if (!file) {
        return 2;
    }
    u64 launches = take<u64>(file);
    for (u64 launch = 0; launch < launches; launch++) {
        std::vector<char> name = take_bytes(file);
        u32 blocks = take<u32>(file);
        // The buffers by place, then the arguments: bytes, or the number of a buffer.
        std::vector<char *> buffers;
        std::vector<size_t> sizes;
        for (u32 count = take<u32>(file); count > 0; count--) {
            std::vector<char> bytes = take_bytes(file);
            char *buffer = static_cast<char *>(std::malloc(bytes.size()));
            std::memcpy(buffer, bytes.data(), bytes.size());
            buffers.push_back(buffer);
            sizes.push_back(bytes.size());
        }
        std::vector<std::vector<char>> values;
        for (u32 count = take<u32>(file); count > 0; count--) {
            if (take<u8>(file)) {
                char *buffer = buffers[take<u32>(file)];
                values.emplace_back(reinterpret_cast<char *>(&buffer), reinterpret_cast<char *>(&buffer) + sizeof buffer);
            } else {
                values.push_back(take_bytes(file));
            }
        }
        std::vector<void *> pointers;
        for (std::vector<char> &value : values) {
            pointers.push_back(value.data());
        }
        run(std::string(name.begin(), name.end()).c_str(), blocks, pointers.data());
        for (size_t i = 0; i < buffers.size(); i++) {
            std::vector<char> expected = take_bytes(file);
            if (std::memcmp(buffers[i], expected.data(), sizes[i])) {
                std::fprintf(stderr, "`%.*s` gives other results with real threads\n", (int)name.size(), name.data());
                return 1;
            }
            std::free(buffers[i]);
        }
    }
    std::printf("%llu launches\n", launches);
    return 0;
}
