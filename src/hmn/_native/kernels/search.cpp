#include "search.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
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
constexpr float kEverything = std::numeric_limits<float>::infinity();
constexpr int64_t kBlock = 64;          // queries of a piece of work
constexpr int64_t kAlone = 1 << 21;     // bytes below which threads cost more than they bring
constexpr int64_t kInOrder = 32;        // most entries that are worth keeping in order
constexpr int kAhead = 4;               // candidates fetched ahead
constexpr float kRounding = 1e-6f;      // of float32, in lengths of query and key, by the root of the features
constexpr float kLongestCode = 46000;  // of 16 bits: products of two, rounded, stay below 2^31
constexpr float kLongest = 1e12f;       // queries of other lengths than from its inverse to this are never certain

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

// Queries in numbers of 8 bits, or of 16 if the entries are: query = scale * number.
struct Coded {
    bool wide;
    int64_t width;  // bytes of a query
    std::atomic<bool> finite{true};
    std::vector<int8_t> numbers;
    std::vector<float> scale, sum, norm;

    const int8_t* at(int64_t row) const { return numbers.data() + row * width; }
    float number(int64_t row, int64_t i) const {
        if (!wide) return at(row)[i];
        int16_t found;
        std::memcpy(&found, at(row) + 2 * i, 2);
        return found;
    }

    Coded(const Queries& queries, int bits, int threads) : wide(bits == 16) {
        // whole groups, of any number of bits
        width = wide ? (queries.features + 1) / 2 * 4 : (queries.features + 31) / 32 * 32;
        numbers.assign(queries.count * width, 0);
        scale.resize(queries.count);
        sum.resize(queries.count);
        norm.resize(queries.count);
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
            if (wide) {
                widely(query, queries.features, largest, row);
                continue;
            }
            const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
            int32_t total = 0;
            float squares = 0;
            int8_t* out = numbers.data() + row * width;
#pragma omp simd reduction(+ : total, squares)
            for (int64_t i = 0; i < queries.features; ++i) {
                const int32_t number = rounded(query[i] * inverse);
                out[i] = int8_t(number);
                total += number;
                squares += query[i] * inverse * (query[i] * inverse);
            }
            scale[row] = largest / 127.0f;
            sum[row] = float(total);
            norm[row] = scale[row] * std::sqrt(squares);
        }
    }

private:
    // Numbers of 16 bits, as long as those of entries may be.
    void widely(const float* query, int64_t features, float largest, int64_t row) {
        const float inverse = largest > 0 ? 1.0f / largest : 0.0f;
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < features; ++i) squares += query[i] * inverse * (query[i] * inverse);
        const float length = std::sqrt(squares);
        const float most = length > 0 ? std::min(32767.0f, kLongestCode / length) : 0.0f;
        int16_t* out = reinterpret_cast<int16_t*>(numbers.data() + row * width);
        for (int64_t i = 0; i < features; ++i) out[i] = int16_t(rounded(query[i] * inverse * most));
        scale[row] = most > 0 ? largest / most : 0.0f;
        norm[row] = largest * length;
    }
};

// The best `wanted` entries of each query that one thread has seen: a few in order, many as a pool that is
// pruned when it is full.
class Best {
public:
    void reset(int64_t queries, int64_t wanted, float margin) {
        wanted_ = wanted;
        margin_ = margin;
        room_ = wanted <= kInOrder ? wanted : 2 * wanted + kTile;
        entries_.reset(new Entry[queries * room_]);
        count_.assign(queries, 0);
        threshold_.assign(queries, kNothing);
    }
    float threshold(int64_t query) const { return threshold_[query]; }
    // `norm` is the query's length.
    void push(int64_t query, Entry entry, float norm) {
        threshold_[query] = std::max(threshold_[query], entry.score - margin_ * norm);
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
        if (count == wanted_) threshold_[query] = std::max(threshold_[query], own[count - 1].score);
    }
    void prune(int64_t query) {
        Entry* own = entries_.get() + query * room_;
        if (margin_ < kEverything) drop(query);
        if (count_[query] <= wanted_) return;
        std::nth_element(own, own + wanted_ - 1, own + count_[query], better);
        count_[query] = wanted_;
        threshold_[query] = std::max(threshold_[query], own[wanted_ - 1].score);
    }
    // Drop what a threshold that has risen since leaves out.
    void drop(int64_t query) {
        Entry* own = entries_.get() + query * room_;
        const float threshold = threshold_[query];
        count_[query] = std::remove_if(own, own + count_[query],
                                       [=](const Entry& one) { return one.score < threshold; }) - own;
    }
    const Entry* begin(int64_t query) const { return entries_.get() + query * room_; }
    int64_t count(int64_t query) const { return count_[query]; }

private:
    int64_t wanted_ = 0, room_ = 0;
    float margin_ = kEverything;
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

// Multiplies the scores of a tile by weights; which of them reach a threshold then.
inline uint32_t weighted(float* score, const float* weight, float threshold) {
    for (int lane = 0; lane < kTile; ++lane) score[lane] *= weight[lane];
    uint32_t bits = 0;
    for (int lane = 0; lane < kTile; ++lane) bits |= uint32_t(score[lane] >= threshold) << lane;
    return bits;
}

void scan_list(const Simd& simd, const Level& level, const Coded& coded, const Probe* probes, int64_t count,
               Best& best, Shared& shared) {
    const int64_t panel = level.first_panel[probes[0].list];
    const int64_t length = level.length[probes[0].list];
    const float zero = level.bits == 16 ? 0.0f : float((1 << level.bits) - 1) / 2;
    const int8_t* query[kBlock];
    float base[kBlock], scale[kBlock], shift[kBlock], threshold[kBlock];
    for (int64_t j = 0; j < count; ++j) {
        const Probe& probe = probes[j];
        query[j] = coded.at(probe.query);
        base[j] = probe.base;
        scale[j] = coded.scale[probe.query];
        shift[j] = -zero * scale[j] * coded.sum[probe.query];
        // scores are not compared as they are where entries have weights
        threshold[j] = level.weight ? kNothing : std::max(best.threshold(probe.query), shared.get(probe.query));
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
        float weight[kTile] = {};
        if (level.weight)
            for (int64_t lane = 0; lane < std::min<int64_t>(kTile, left); ++lane)
                weight[lane] = level.weight[level.child[first + lane]];
        for (int64_t begin = 0; begin < count; begin += kTileQueries) {
            tile.queries = int(std::min<int64_t>(kTileQueries, count - begin));
            tile.query = query + begin;
            tile.base = base + begin;
            tile.scale = scale + begin;
            tile.shift = shift + begin;
            tile.threshold = threshold + begin;
            simd.score(tile);
            for (int j = 0; j < tile.queries; ++j) {
                const int32_t row = probes[begin + j].query;
                uint32_t bits = tile.reaches[j] & valid;
                if (level.weight) bits = weighted(tile.score[j], weight, best.threshold(row)) & valid;
                if (!bits) continue;
                for (; bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    best.push(row, {tile.score[j][lane], int32_t(first + lane)}, coded.norm[row]);
                }
                if (level.weight) continue;
                if (best.threshold(row) > threshold[begin + j]) {
                    threshold[begin + j] = best.threshold(row);
                    shared.raise(row, threshold[begin + j]);
                }
            }
        }
    }
}

// As scan_list, by the keys of the entries: a few of them against all queries of the piece, then the next few.
void scan_keys(const Simd& simd, const Level& level, const Coded& coded, const Queries& queries, const Rows& keys,
               const Probe* probes, int64_t count, Best& best, Shared& shared) {
    const int64_t first = level.first_panel[probes[0].list] * kLanes;
    const int64_t length = level.length[probes[0].list];
    const int32_t* child = level.child + first;
    const auto offer = [&](int64_t j, int64_t at, float score) {
        const int32_t row = probes[j].query;
        if (!(score >= std::max(best.threshold(row), shared.get(row)))) return;
        best.push(row, {score, int32_t(first + at)}, coded.norm[row]);
        shared.raise(row, best.threshold(row));
    };
    const void* row[kBlockRows];
    const float* query[kBlockQueries];
    float product[kBlockQueries * kBlockRows];
    for (int64_t at = 0; at < length; at += kBlockRows) {
        const int64_t rows = std::min<int64_t>(kBlockRows, length - at);
        for (int64_t r = 0; r < kBlockRows; ++r) row[r] = keys.at(child[at + std::min(r, rows - 1)]);
        for (int64_t r = at + kBlockRows; r < std::min(at + 2 * kBlockRows, length); ++r) keys.fetch(child[r]);
        if (count == 1) {
            for (int64_t r = 0; r < rows; ++r)
                offer(0, at + r, simd.dot(queries.at(probes[0].query), row[r], queries.features, keys.storage));
            continue;
        }
        for (int64_t begin = 0; begin < count; begin += kBlockQueries) {
            const int64_t some = std::min<int64_t>(kBlockQueries, count - begin);
            for (int64_t j = 0; j < kBlockQueries; ++j)
                query[j] = queries.at(probes[begin + std::min(j, some - 1)].query);
            simd.dots(query, row, queries.features, keys.storage, product);
            for (int64_t j = 0; j < some; ++j)
                for (int64_t r = 0; r < rows; ++r) offer(begin + j, at + r, product[j * kBlockRows + r]);
        }
    }
}

// Brings probes into the order of their lists, those of one list in the order in which they are: by counting
// where there are not many more lists than probes, so that a search never costs what all lists cost.
void by_list(std::vector<Probe>& probes, int64_t lists) {
    if (lists > 4 * int64_t(probes.size())) {
        std::stable_sort(probes.begin(), probes.end(),
                         [](const Probe& one, const Probe& two) { return one.list < two.list; });
        return;
    }
    std::vector<int64_t> next(lists + 1, 0);
    for (const Probe& probe : probes) ++next[probe.list + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    std::vector<Probe> ordered(probes.size());
    for (const Probe& probe : probes) ordered[next[probe.list]++] = probe;
    probes.swap(ordered);
}

// The best entries of the lists that the probes enter; `best` has one place a thread, merged into the first.
void scan(const Simd& simd, const Level& level, const Coded& coded, const Queries& queries, const Rows& keys,
          const std::vector<Probe>& probes, int64_t wanted, float margin, std::vector<Best>& best, int threads) {
    // probes list by list, so that a list is read once for all queries that enter it
    std::vector<Probe> ordered = probes;
    by_list(ordered, level.lists);
    std::vector<Work> work;
    int64_t entries = 0;
    for (int64_t at = 0, end = 0; at < int64_t(ordered.size()); at = end) {
        while (end < int64_t(ordered.size()) && end < at + kBlock && ordered[end].list == ordered[at].list) ++end;
        work.push_back({at, end});
        entries += (end - at) * level.length[ordered[at].list];
    }
    const int64_t bytes = level.bits == kInFull ? keys.bytes() : level.entry_bytes();
    const int used = entries * bytes < kAlone ? 1 : threads;
    best.resize(used);
    for (Best& one : best) one.reset(queries.count, wanted, margin);
    Shared shared(queries.count);
    const int64_t pieces = int64_t(work.size());
#pragma omp parallel for num_threads(used) schedule(dynamic, 1)
    for (int64_t i = 0; i < pieces; ++i) {
        const Probe* piece = ordered.data() + work[i].begin;
        const int64_t count = work[i].end - work[i].begin;
        Best& own = best[thread_number()];
        if (level.bits == kInFull)
            scan_keys(simd, level, coded, queries, keys, piece, count, own, shared);
        else
            scan_list(simd, level, coded, piece, count, own, shared);
    }
#pragma omp parallel for num_threads(used) schedule(static)
    for (int64_t query = 0; query < queries.count; ++query) {
        for (int thread = 1; thread < used; ++thread)
            for (int64_t i = 0; i < best[thread].count(query); ++i)
                best[0].push(query, best[thread].begin(query)[i], coded.norm[query]);
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

}  // namespace

bool search(const Simd& simd, const Queries& queries, const std::vector<Level>& levels,
            const std::vector<Rows>& direction, const std::vector<int64_t>& probes, const std::vector<float>& margin,
            const Rows& keys, int64_t rescored, Found found, Spent spent, int threads) {
    const int64_t count = queries.count, depth = int64_t(levels.size());
    const Coded coded(queries, 8, threads);
    if (!coded.finite) return false;
    std::vector<Probe> entered(count);
    for (int64_t query = 0; query < count; ++query) entered[query] = {0, int32_t(query), 0.0f};
    std::vector<int64_t> bytes(count, 0), listed(count);
    std::vector<Best> best;
    for (int64_t number = 0; number < depth; ++number) {
        const Level& level = levels[number];
        std::fill(listed.begin(), listed.end(), 0);
        for (const Probe& probe : entered) listed[probe.query] += level.length[probe.list];
        for (int64_t query = 0; query < count; ++query) bytes[query] += listed[query] * level.entry_bytes();
        const bool last = number + 1 == depth;
        scan(simd, level, coded, queries, keys, entered, last ? rescored : probes[number],
             last ? kEverything : margin[number], best, threads);
        if (last) break;
        std::vector<int64_t> begin(count + 1, 0);
        for (int64_t query = 0; query < count; ++query) begin[query + 1] = begin[query] + best[0].count(query);
        entered.resize(begin[count]);
        const Rows& vectors = direction[number];
#pragma omp parallel for num_threads(begin[count] * vectors.bytes() < kAlone ? 1 : threads) schedule(static)
        for (int64_t query = 0; query < count; ++query) {
            const Entry* own = best[0].begin(query);
            const int64_t own_count = best[0].count(query);
            if (!vectors.data) {
                for (int64_t i = 0; i < own_count; ++i) {
                    const int32_t list = level.child[own[i].at];
                    const float score = level.weight ? own[i].score / level.weight[list] : own[i].score;
                    entered[begin[query] + i] = {list, int32_t(query), score};
                }
                continue;
            }
            bytes[query] += own_count * vectors.bytes();
            for (int64_t i = 0; i < own_count; ++i) {
                if (i + kAhead < own_count) vectors.fetch(level.child[own[i + kAhead].at]);
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
            const int64_t scored = leaves.bits == kInFull ? listed[query] : own_count;
            spent.scored[query] = scored;
            spent.reads[query] = float(bytes[query] + scored * keys.bytes()) / float(4 * std::max<int64_t>(1, keys.features));
            entries.clear();
            if (leaves.bits == kInFull) {
                for (int64_t i = 0; i < own_count; ++i) entries.push_back({own[i].score, leaves.child[own[i].at]});
                fill_best(entries, found, query);
                continue;
            }
            for (int64_t i = 0; i < std::min<int64_t>(kAhead, own_count); ++i) keys.fetch(leaves.child[own[i].at]);
            for (int64_t i = 0; i < own_count; ++i) {
                if (i + kAhead < own_count) keys.fetch(leaves.child[own[i + kAhead].at]);
                const int32_t row = leaves.child[own[i].at];
                entries.push_back({simd.dot(queries.at(query), keys.at(row), queries.features, keys.storage), row});
            }
            fill_best(entries, found, query);
        }
    }
    return true;
}

bool screened(const Simd& simd, const Queries& queries, const Level& level, float ratio, const Rows& keys,
              int64_t room, Found found, uint8_t* certain, int threads) {
    const Coded coded(queries, level.bits, threads);
    if (!coded.finite) return false;
    // With primes for what codes stand for:
    //   x.k <= x'.k' + |x| |k - k'| + |x - x'| |k'| <= x'.k' + max(ratio |x|, |x - x'|) (|k - k'| / ratio + |k'|)
    const float rounding = kRounding * std::sqrt(float(queries.features));
    std::vector<Probe> entered;
    for (int64_t query = 0; query < queries.count; ++query) {
        const float* exact = queries.at(query);
        const float scale = coded.scale[query], norm = coded.norm[query];
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < queries.features; ++i) {
            const float rest = exact[i] - scale * coded.number(query, i);
            squares += rest * rest;
        }
        const float slack = std::max(ratio * norm, std::sqrt(squares)) * (1 + rounding) + rounding * norm;
        for (int64_t list = 0; list < level.lists; ++list) entered.push_back({int32_t(list), int32_t(query), slack});
    }
    std::vector<Best> best;
    scan(simd, level, coded, queries, keys, entered, room, kEverything, best, threads);
#pragma omp parallel num_threads(queries.count * found.k * keys.bytes() < kAlone ? 1 : threads)
    {
        std::vector<Entry> bound, top;  // top: a heap, its worst first
#pragma omp for schedule(dynamic, 4)
        for (int64_t query = 0; query < queries.count; ++query) {
            bound.assign(best[0].begin(query), best[0].begin(query) + best[0].count(query));
            std::sort(bound.begin(), bound.end(), better);
            top.clear();
            const int64_t count = int64_t(bound.size());
            bool all = count < room;  // then none was left out
            for (int64_t i = 0; i < count; ++i) {
                if (int64_t(top.size()) == found.k && top.front().score >= bound[i].score) {
                    all = true;
                    break;
                }
                if (i + kAhead < count) keys.fetch(level.child[bound[i + kAhead].at]);
                const int32_t row = level.child[bound[i].at];
                const Entry entry{simd.dot(queries.at(query), keys.at(row), queries.features, keys.storage), row};
                if (int64_t(top.size()) == found.k) {
                    if (!better(entry, top.front())) continue;
                    std::pop_heap(top.begin(), top.end(), better);
                    top.pop_back();
                }
                top.push_back(entry);
                std::push_heap(top.begin(), top.end(), better);
            }
            const float norm = coded.norm[query];
            certain[query] = all && norm > 1 / kLongest && norm < kLongest;
            fill_best(top, found, query);
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
                if (i + kAhead < rows.size()) keys.fetch(rows[i + kAhead]);
                entries.push_back({simd.dot(queries.at(query), keys.at(rows[i]), queries.features, keys.storage),
                                   int32_t(rows[i])});
            }
            fill_best(entries, found, query);
        }
    }
}

}  // namespace hmn
