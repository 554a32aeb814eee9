#include "parallel.h"

#include <atomic>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

using OmpParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<OmpParallel> omp_parallel{nullptr};

struct Work {
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    int64_t tasks;
    void (*body)(const void*, int64_t);
    const void* context;

    static void run(void* self) {
        Work& work = *static_cast<Work*>(self);
        try {
            for (int64_t task; (task = work.next.fetch_add(1)) < work.tasks;) work.body(work.context, task);
        } catch (const std::bad_alloc&) {  // would end the process if it left the thread
            work.failed = true;
            work.next = work.tasks;
        }
    }
};

constexpr size_t kHugePage = size_t(1) << 21;

struct Buffers {
    void* data[size_t(Scratch::count)] = {};
    size_t size[size_t(Scratch::count)] = {};

    ~Buffers() {
        for (void* buffer : data) std::free(buffer);
    }
};

thread_local Buffers buffers;

}  // namespace

// The thread pool that torch has already: a second pool would fight it for the cores while torch's threads spin.
extern "C" __attribute__((visibility("default"))) void quantvggt_use_openmp(void* parallel) {
    omp_parallel = reinterpret_cast<OmpParallel>(parallel);
}

void parallel_for(int64_t tasks, int threads, void (*body)(const void*, int64_t), const void* context) {
    Work work;
    work.tasks = tasks;
    work.body = body;
    work.context = context;
    if (threads > tasks) threads = int(tasks);
    if (threads <= 1) {
        Work::run(&work);
    } else if (OmpParallel run = omp_parallel) {
        run(Work::run, &work, unsigned(threads), 0);
    } else {
        std::vector<std::thread> others;
        try {
            for (int i = 1; i < threads; ++i) others.emplace_back(Work::run, &work);
        } catch (const std::exception&) {
            // no thread more can be had: those that run do all tasks
        }
        Work::run(&work);
        for (std::thread& thread : others) thread.join();
    }
    if (work.failed) throw std::bad_alloc();
}

void* scratch(Scratch kind, size_t bytes) {
    void*& data = buffers.data[size_t(kind)];
    size_t& size = buffers.size[size_t(kind)];
    if (bytes > size) {
        std::free(data);
        size = 0;
        const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
        const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
        data = std::aligned_alloc(alignment, rounded);
        if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
#endif
        size = rounded;
    }
    return data;
}
