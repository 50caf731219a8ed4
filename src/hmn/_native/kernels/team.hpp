// A team of threads that share loops, for as long as one search takes.
//
// The threads are OpenMP's, which PyTorch uses too; but OpenMP's own barriers wait for every thread and spin for
// milliseconds. On a busy machine, a thread that is off the processor then holds up the others, which meanwhile use
// up their own share of time. Here a loop ends when its last piece is done, whichever threads took part, and who
// waits soon sleeps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

namespace hmn {

class Team {
public:
    explicit Team(int threads) : threads_(threads) {}
    Team(const Team&) = delete;

    // Threads that a loop has, if it is `worth` them.
    int threads(bool worth) const { return worth ? threads_ : 1; }

    // Call `body`. If it is `worth` it, the threads of all its loops stay at hand until it returns.
    template <typename Body>
    void together(bool worth, Body body) {
        if (open_ || threads(worth) == 1)
            body();
        else
            open([](void* own) { (*static_cast<Body*>(own))(); }, &body);
    }

    // Call `work(begin, end, thread)` for all of 0 to `count`, by at most `chunk` at a time, in threads if it is
    // `worth` them.
    template <typename Work>
    void each(bool worth, int64_t count, int64_t chunk, Work work) {
        if (threads(worth) == 1 || count <= chunk) {
            if (count > 0) work(int64_t(0), count, 0);
            return;
        }
        together(true, [&] {
            share({[](void* own, int64_t begin, int64_t end, int thread) {
                       (*static_cast<Work*>(own))(begin, end, thread);
                   },
                   &work, count, chunk});
        });
    }

private:
    struct Loop {
        void (*call)(void* work, int64_t begin, int64_t end, int thread);
        void* work;
        int64_t count, chunk;
    };
    // A part of a loop: that of one thread, from which others take what is left. On a cache line of its own.
    struct alignas(64) Part {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    // A loop under way. It is kept until the team ends, since a thread may look at it after its end.
    struct Shared {
        Shared(const Loop& loop, int threads);
        const Loop loop;
        std::vector<Part> parts;
        std::atomic<int64_t> done{0};
        std::exception_ptr error;
    };

    void open(void (*call)(void* body), void* body);
    void share(const Loop& loop);
    void take_part(Shared& shared, int thread);
    void help(int thread);
    void wake();
    template <typename Ready>
    void wait(Ready ready);

    const int threads_;
    bool open_ = false;
    std::vector<std::unique_ptr<Shared>> loops_;
    std::atomic<Shared*> current_{nullptr};
    std::atomic<bool> finished_{false};
    std::atomic<int> asleep_{0}, left_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

}  // namespace hmn
