// A function with a stack of its own that can be left and entered again.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

class Fiber {
 public:
  void start(std::function<void()> function) {
    function_ = std::move(function);
    stack_ = std::unique_ptr<char[]>(new char[kStack]);
    getcontext(&inside_);
    inside_.uc_stack.ss_sp = stack_.get();
    inside_.uc_stack.ss_size = kStack;
    inside_.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::run), 2, static_cast<unsigned>(self),
                static_cast<unsigned>(self >> 32));
  }

  void enter() { switch_to(outside_, inside_, stack_.get(), kStack, false); }

  void leave(bool for_good = false) { switch_to(inside_, outside_, outer_stack_, outer_size_, for_good); }

 private:
  static constexpr size_t kStack = 64 * 1024;

  static void run(unsigned low, unsigned high) {
    Fiber* self = reinterpret_cast<Fiber*>(uintptr_t{low} | uintptr_t{high} << 32);
    self->arrived(nullptr);
    self->function_();
    self->leave(true);
  }

#ifdef __SANITIZE_ADDRESS__
  void arrived(void* fake) { __sanitizer_finish_switch_fiber(fake, &outer_stack_, &outer_size_); }
  void switch_to(ucontext_t& from, ucontext_t& to, const void* stack, size_t size, bool for_good) {
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, stack, size);
    swapcontext(&from, &to);
    if (&from == &inside_) {
      arrived(fake);
    } else {
      __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
    }
  }
#else
  void arrived(void*) {}
  void switch_to(ucontext_t& from, ucontext_t& to, const void*, size_t, bool) { swapcontext(&from, &to); }
#endif

  ucontext_t inside_, outside_;
  std::unique_ptr<char[]> stack_;
  std::function<void()> function_;
  const void* outer_stack_ = nullptr;
  size_t outer_size_ = 0;
};

}  // namespace emulation
