#include "team.hpp"

#include <algorithm>
#include <chrono>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace hmn {
namespace {

// Time to spin before sleeping: about as long as waking another thread takes.
constexpr std::chrono::microseconds kSpin{100};
constexpr int kLooks = 32;  // looks between two looks at the clock

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

template <typename Ready>
void Team::wait(Ready ready) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int look = 0; look < kLooks; ++look) {
            if (ready()) return;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    // who changes something looks at `asleep_` afterwards: either sees the other's change
    asleep_.fetch_add(1);
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, ready);
    }
    asleep_.fetch_sub(1);
}

void Team::wake() {
    if (asleep_.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    changed_.notify_all();
}

void Team::open(void (*call)(void* body), void* body) {
    std::exception_ptr error;
    const auto lead = [&](int others) {
        try {
            call(body);
        } catch (...) {  // which must not leave OpenMP's region
            error = std::current_exception();
        }
        finished_.store(true);
        wake();
        wait([&] { return left_.load() == others; });  // at OpenMP's barrier it would spin
    };
    open_ = true;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads_)
    {
        if (omp_get_thread_num() == 0)
            lead(omp_get_num_threads() - 1);
        else
            help(omp_get_thread_num());
    }
#else
    lead(0);
#endif
    open_ = false;
    finished_.store(false);
    left_.store(0);
    if (error) std::rethrow_exception(error);
}

// Thread for thread, the same part of every loop: its data are in the caches of the thread's processor.
Team::Shared::Shared(const Loop& loop, int threads) : loop(loop), parts(threads) {
    const int64_t pieces = (loop.count + loop.chunk - 1) / loop.chunk;
    for (int thread = 0; thread < threads; ++thread) {
        parts[thread].next = pieces * thread / threads * loop.chunk;
        parts[thread].end = std::min(pieces * (thread + 1) / threads * loop.chunk, loop.count);
    }
}

void Team::share(const Loop& loop) {
    loops_.emplace_back(new Shared(loop, threads_));
    Shared& shared = *loops_.back();
    current_.store(&shared);
    wake();
    take_part(shared, 0);
    wait([&] { return shared.done.load() == loop.count; });
    if (shared.error) std::rethrow_exception(shared.error);
}

void Team::take_part(Shared& shared, int thread) {
    const Loop& loop = shared.loop;
    int64_t done = 0;  // counted here first, so that threads share one number less
    for (int turn = 0; turn < threads_; ++turn) {
        Part& part = shared.parts[(thread + turn) % threads_];
        for (;;) {
            const int64_t begin = part.next.fetch_add(loop.chunk, std::memory_order_relaxed);
            if (begin >= part.end) break;
            const int64_t end = std::min(begin + loop.chunk, part.end);
            try {
                loop.call(loop.work, begin, end, thread);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex_);
                shared.error = std::current_exception();
            }
            done += end - begin;
        }
    }
    if (done && shared.done.fetch_add(done) + done == loop.count) wake();
}

void Team::help(int thread) {
    Shared* seen = nullptr;
    for (;;) {
        wait([&] { return current_.load() != seen || finished_.load(); });
        if (finished_.load()) break;
        seen = current_.load();
        take_part(*seen, thread);
    }
    left_.fetch_add(1);
    wake();
}

}  // namespace hmn
