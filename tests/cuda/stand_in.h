// What the libraries of the stand-in share: the streams of `driver.cpp`, to which cuBLAS and cuDNN give their work.

#pragma once

#include <cstddef>
#include <functional>

// Ends the program with a message: the caller has broken a rule on which nothing could be built on a device.
[[noreturn]] void stand_in_abort(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Enqueues work on a stream, or adds it to what is being captured.
void stand_in_enqueue(void *stream, std::function<void()> work);

// Ends the program unless these bytes lie within one live allocation of the device, at this alignment.
void stand_in_check(const char *what, const void *from, size_t bytes, size_t alignment);

// Whether the stream is being captured.
bool stand_in_captures(void *stream);

// Appends a line to the log (`HAMFLOW_STAND_IN_LOG`).
void stand_in_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Whether TF32 rounds the factors of products, whatever the program asks for, or -1 for as it asks.
int stand_in_tf32_override();

// A number of the device, as the operations of the libraries read and write it.
struct StandInNumbers {
    bool is_bf16;
    void *from;
    float get(size_t index) const;
    void put(size_t index, float value) const;
    size_t size() const { return is_bf16 ? 2 : 4; }
};

// A factor in TF32: rounded to ten bits of the mantissa.
float stand_in_tf32(float value);
