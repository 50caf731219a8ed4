#include "search.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "numbers.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace hmn {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr int64_t kBlock = 64;          // queries of a piece of work
constexpr int64_t kAlone = 1 << 21;     // bytes below which threads cost more than they bring
constexpr int64_t kInOrder = 32;        // most entries that are worth keeping in order
constexpr int kAhead = 4;               // candidates fetched ahead

struct Entry {
    float score;
    int32_t at;
};

// Total order, so that results do not depend on the order of the work.
struct Better {
    bool operator()(const Entry& one, const Entry& other) const {
        return one.score > other.score || (one.score == other.score && one.at < other.at);
    }
};
constexpr Better better{};

int thread_number() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// Queries in 8-bit numbers: query = scale * number.
struct Coded {
    int64_t width;
    std::atomic<bool> finite{true};
    std::vector<int8_t> numbers;
    std::vector<float> scale, sum;

    Coded(const Queries& queries, int threads) {
        width = (queries.features + 7) / 8 * 8;
        numbers.assign(queries.count * width, 0);
        scale.resize(queries.count);
        sum.resize(queries.count);
#pragma omp parallel for num_threads(queries.count * width * 4 < kAlone ? 1 : threads) schedule(static)
        for (int64_t row = 0; row < queries.count; ++row) {
            const float* query = queries.at(row);
            float largest = 0, nothing = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nothing)
            for (int64_t i = 0; i < queries.features; ++i) {
                largest = std::max(largest, std::fabs(query[i]));
                nothing += query[i] * 0.0f;
            }
            if (nothing != 0) {  // NaN: the query holds NaN or infinity
                finite = false;
                continue;
            }
            const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
            int32_t total = 0;
            int8_t* out = numbers.data() + row * width;
#pragma omp simd reduction(+ : total)
            for (int64_t i = 0; i < queries.features; ++i) {
                const int32_t number = rounded(query[i] * inverse);
                out[i] = int8_t(number);
                total += number;
            }
            scale[row] = largest / 127.0f;
            sum[row] = float(total);
        }
    }
};

// The best `wanted` entries of each query that one thread has seen: a few in order, many as a pool that is
// pruned when it is full.
class Best {
public:
    void reset(int64_t queries, int64_t wanted) {
        wanted_ = wanted;
        room_ = wanted <= kInOrder ? wanted : 2 * wanted + kTile;
        entries_.reset(new Entry[queries * room_]);
        count_.assign(queries, 0);
        threshold_.assign(queries, kNothing);
    }
    float threshold(int64_t query) const { return threshold_[query]; }
    void push(int64_t query, Entry entry) {
        Entry* own = entries_.get() + query * room_;
        int64_t& count = count_[query];
        if (wanted_ > kInOrder) {
            own[count++] = entry;
            if (count == room_) prune(query);
            return;
        }
        if (count == wanted_) {
            if (!better(entry, own[count - 1])) return;
            --count;
        }
        int64_t at = count++;
        for (; at > 0 && better(entry, own[at - 1]); --at) own[at] = own[at - 1];
        own[at] = entry;
        if (count == wanted_) threshold_[query] = own[count - 1].score;
    }
    void prune(int64_t query) {
        Entry* own = entries_.get() + query * room_;
        if (count_[query] <= wanted_) return;
        std::nth_element(own, own + wanted_ - 1, own + count_[query], better);
        count_[query] = wanted_;
        threshold_[query] = own[wanted_ - 1].score;
    }
    const Entry* begin(int64_t query) const { return entries_.get() + query * room_; }
    int64_t count(int64_t query) const { return count_[query]; }

private:
    int64_t wanted_ = 0, room_ = 0;
    std::unique_ptr<Entry[]> entries_;
    std::vector<int64_t> count_;
    std::vector<float> threshold_;
};

// What a query enters at a level: a list and the query's inner product with the list's vector.
struct Probe {
    int32_t list;
    int32_t query;
    float base;
};

struct Work {
    int64_t begin, end;  // of the probes in order; all of one list
};

// A threshold that all threads raise: any value it ever held is a lower bound of the query's last place.
class Shared {
public:
    explicit Shared(int64_t queries) : value_(new std::atomic<float>[queries]) {
        for (int64_t i = 0; i < queries; ++i) value_[i].store(kNothing, std::memory_order_relaxed);
    }
    float get(int64_t query) const { return value_[query].load(std::memory_order_relaxed); }
    void raise(int64_t query, float to) {
        if (to > get(query)) value_[query].store(to, std::memory_order_relaxed);
    }

private:
    std::unique_ptr<std::atomic<float>[]> value_;
};

void scan_list(const Simd& simd, const Level& level, const Coded& coded, const Probe* probes, int64_t count,
               Best& best, Shared& shared) {
    const int64_t panel = level.first_panel[probes[0].list];
    const int64_t length = level.length[probes[0].list];
    const float zero = level.bits == 8 ? 127.5f : 7.5f;
    const int8_t* query[kBlock];
    float base[kBlock], scale[kBlock], shift[kBlock], threshold[kBlock];
    for (int64_t j = 0; j < count; ++j) {
        const Probe& probe = probes[j];
        query[j] = coded.numbers.data() + probe.query * coded.width;
        base[j] = probe.base;
        scale[j] = coded.scale[probe.query];
        shift[j] = -zero * scale[j] * coded.sum[probe.query];
        threshold[j] = std::max(best.threshold(probe.query), shared.get(probe.query));
    }
    Tile tile;
    tile.groups = level.groups;
    tile.bits = level.bits;
    for (int64_t at = 0; at < length; at += kTile) {
        const int64_t first = panel * kLanes + at, left = length - at;
        tile.panels = left > kLanes ? 2 : 1;
        tile.codes = level.codes + (panel + at / kLanes) * level.groups * kLine;
        tile.along = level.along + first;
        tile.step = level.step + first;
        const uint32_t valid = left >= kTile ? 0xffffffffu : (1u << left) - 1;
        for (int64_t begin = 0; begin < count; begin += kTileQueries) {
            tile.queries = int(std::min<int64_t>(kTileQueries, count - begin));
            tile.query = query + begin;
            tile.base = base + begin;
            tile.scale = scale + begin;
            tile.shift = shift + begin;
            tile.threshold = threshold + begin;
            simd.score(tile);
            for (int j = 0; j < tile.queries; ++j) {
                uint32_t bits = tile.reaches[j] & valid;
                if (!bits) continue;
                const int32_t row = probes[begin + j].query;
                for (; bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    best.push(row, {tile.score[j][lane], int32_t(first + lane)});
                }
                if (best.threshold(row) > threshold[begin + j]) {
                    threshold[begin + j] = best.threshold(row);
                    shared.raise(row, threshold[begin + j]);
                }
            }
        }
    }
}

// The best entries of the lists that the probes enter; `best` has one place a thread, merged into the first.
void scan(const Simd& simd, const Level& level, const Coded& coded, const std::vector<Probe>& probes,
          int64_t queries, int64_t wanted, std::vector<Best>& best, int threads) {
    // probes list by list, so that a list is read once for all queries that enter it
    std::vector<int64_t> begin(level.lists + 1, 0);
    for (const Probe& probe : probes) ++begin[probe.list + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<Probe> ordered(probes.size());
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (const Probe& probe : probes) ordered[next[probe.list]++] = probe;
    std::vector<Work> work;
    int64_t entries = 0;
    for (int64_t list = 0; list < level.lists; ++list) {
        for (int64_t at = begin[list]; at < begin[list + 1]; at += kBlock)
            work.push_back({at, std::min(at + kBlock, begin[list + 1])});
        entries += (begin[list + 1] - begin[list]) * level.length[list];
    }
    const int used = entries * level.groups * kGroup < kAlone ? 1 : threads;
    best.resize(used);
    for (Best& one : best) one.reset(queries, wanted);
    Shared shared(queries);
    const int64_t pieces = int64_t(work.size());
#pragma omp parallel for num_threads(used) schedule(dynamic, 1)
    for (int64_t i = 0; i < pieces; ++i)
        scan_list(simd, level, coded, ordered.data() + work[i].begin, work[i].end - work[i].begin,
                  best[thread_number()], shared);
#pragma omp parallel for num_threads(used) schedule(static)
    for (int64_t query = 0; query < queries; ++query) {
        for (int thread = 1; thread < used; ++thread)
            for (int64_t i = 0; i < best[thread].count(query); ++i)
                best[0].push(query, best[thread].begin(query)[i]);
        best[0].prune(query);
    }
}

void fill_best(std::vector<Entry>& entries, Found found, int64_t query) {
    const int64_t count = std::min<int64_t>(found.k, int64_t(entries.size()));
    std::partial_sort(entries.begin(), entries.begin() + count, entries.end(), better);
    for (int64_t i = 0; i < found.k; ++i) {
        found.score[query * found.k + i] = i < count ? entries[i].score : kNothing;
        found.row[query * found.k + i] = i < count ? entries[i].at : -1;
    }
}

inline void fetch(const Rows& rows, int64_t row) {
    const char* begin = rows.at(row);
    for (int64_t at = 0; at < rows.bytes(); at += 64) __builtin_prefetch(begin + at);
}

}  // namespace

bool search(const Simd& simd, const Queries& queries, const std::vector<Level>& levels,
            const std::vector<Rows>& direction, const std::vector<int64_t>& probes, const Rows& keys,
            int64_t rescored, Found found, Spent spent, int threads) {
    const int64_t count = queries.count, depth = int64_t(levels.size());
    const Coded coded(queries, threads);
    if (!coded.finite) return false;
    std::vector<Probe> entered(count);
    for (int64_t query = 0; query < count; ++query) entered[query] = {0, int32_t(query), 0.0f};
    std::vector<int64_t> bytes(count, 0);
    std::vector<Best> best;
    for (int64_t number = 0; number < depth; ++number) {
        const Level& level = levels[number];
        for (const Probe& probe : entered) bytes[probe.query] += level.length[probe.list] * level.entry_bytes();
        const bool last = number + 1 == depth;
        scan(simd, level, coded, entered, count, last ? rescored : probes[number], best, threads);
        if (last) break;
        std::vector<int64_t> begin(count + 1, 0);
        for (int64_t query = 0; query < count; ++query) begin[query + 1] = begin[query] + best[0].count(query);
        entered.resize(begin[count]);
        const Rows& vectors = direction[number];
#pragma omp parallel for num_threads(begin[count] * vectors.bytes() < kAlone ? 1 : threads) schedule(static)
        for (int64_t query = 0; query < count; ++query) {
            const Entry* own = best[0].begin(query);
            const int64_t own_count = best[0].count(query);
            bytes[query] += own_count * vectors.bytes();
            for (int64_t i = 0; i < own_count; ++i) {
                if (i + kAhead < own_count) fetch(vectors, level.child[own[i + kAhead].at]);
                const int32_t list = level.child[own[i].at];
                const float base = simd.dot(queries.at(query), vectors.at(list), queries.features, vectors.storage);
                entered[begin[query] + i] = {list, int32_t(query), base};
            }
        }
    }
    const Level& leaves = levels.back();
#pragma omp parallel num_threads(count * rescored * keys.bytes() < kAlone ? 1 : threads)
    {
        std::vector<Entry> entries;
#pragma omp for schedule(static)
        for (int64_t query = 0; query < count; ++query) {
            const Entry* own = best[0].begin(query);
            const int64_t own_count = best[0].count(query);
            entries.clear();
            for (int64_t i = 0; i < std::min<int64_t>(kAhead, own_count); ++i) fetch(keys, leaves.child[own[i].at]);
            for (int64_t i = 0; i < own_count; ++i) {
                if (i + kAhead < own_count) fetch(keys, leaves.child[own[i + kAhead].at]);
                const int32_t row = leaves.child[own[i].at];
                entries.push_back({simd.dot(queries.at(query), keys.at(row), queries.features, keys.storage), row});
            }
            fill_best(entries, found, query);
            spent.scored[query] = own_count;
            spent.reads[query] = float(bytes[query] + own_count * keys.bytes()) / float(4 * std::max<int64_t>(1, keys.features));
        }
    }
    return true;
}

void best_of(const Simd& simd, const Queries& queries, const Rows& keys, const int64_t* candidate,
             int64_t count, Found found, int threads) {
#pragma omp parallel num_threads(queries.count * count * keys.bytes() < kAlone ? 1 : threads)
    {
        std::vector<int64_t> rows;
        std::vector<Entry> entries;
#pragma omp for schedule(dynamic, 4)
        for (int64_t query = 0; query < queries.count; ++query) {
            rows.assign(candidate + query * count, candidate + (query + 1) * count);
            std::sort(rows.begin(), rows.end());
            rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
            if (!rows.empty() && rows.front() < 0) rows.erase(rows.begin());
            entries.clear();
            for (size_t i = 0; i < rows.size(); ++i) {
                if (i + kAhead < rows.size()) fetch(keys, rows[i + kAhead]);
                entries.push_back({simd.dot(queries.at(query), keys.at(rows[i]), queries.features, keys.storage),
                                   int32_t(rows[i])});
            }
            fill_best(entries, found, query);
        }
    }
}

}  // namespace hmn
