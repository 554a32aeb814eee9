// Threads and scratch memory. Compiled once, for the plainest processor.
#pragma once

#include <cstddef>
#include <cstdint>

void parallel_for(int64_t tasks, int threads, void (*body)(const void*, int64_t), const void* context);

// Runs body(0) .. body(tasks - 1) on up to `threads` threads, in any order. Throws std::bad_alloc, on the calling
// thread, where a body did; some tasks are then left out.
template <class Body>
static void parallel(int64_t tasks, int threads, const Body& body) {
    parallel_for(
        tasks, threads, [](const void* context, int64_t task) { (*static_cast<const Body*>(context))(task); }, &body);
}

// What a thread keeps between calls, so that no call pays for fresh pages.
enum class Scratch { codes, panel, row, smoothing, keys, count };

// At least `bytes` bytes, aligned to a cache line, valid until this thread asks for the same scratch again.
// Throws std::bad_alloc.
void* scratch(Scratch kind, size_t bytes);
