// Says how runs of `parallel` end: some whose tasks get no scratch, and one whose threads cannot start.
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "../../../kernels/cpu/parallel.h"

namespace {

constexpr int kTasks = 1000;
constexpr size_t kTooMuch = size_t(1) << 60;

void run(const char* name, int threads, size_t bytes) {
    std::atomic<int> done{0};
    try {
        parallel(kTasks, threads, [&](int64_t) {
            scratch(Scratch::panel, bytes);
            ++done;
        });
        std::printf("%s: %s\n", name, done == kTasks ? "all done" : "some left out");
    } catch (const std::bad_alloc&) {
        std::printf("%s: out of memory\n", name);
    }
    std::fflush(stdout);
}

}  // namespace

int main() {
    run("one thread", 1, kTooMuch);
    run("four threads", 4, kTooMuch);
    run("four threads", 4, 64);
    const rlimit limit{rlim_t(256) << 20, rlim_t(256) << 20};  // stacks are some megabytes each
    if (setrlimit(RLIMIT_AS, &limit)) return 1;
    run("more threads than fit into memory", kTasks, 64);
    return 0;
}
