// Shared by searches that score entries by their codes: coded queries, the best entries seen, and the scan of the
// lists that queries enter.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "numbers.hpp"
#include "search.hpp"
#include "team.hpp"

namespace hmn {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr int64_t kAlone = 1 << 21;     // bytes of work below which threads cost more than they save
constexpr int64_t kMergeBytes = 64;     // bytes of work that take as long as merging an entry
constexpr int64_t kInOrder = 32;        // largest number of entries that is kept sorted
constexpr int kAhead = 4;               // candidates to prefetch
constexpr int64_t kPiece = 8;           // queries per piece of work
constexpr float kLongestCode = 46000;   // length in 16-bit codes: products of two, rounded, stay below 2^31

struct Entry {
    float score;
    int32_t at;
};

// A total order, so that results do not depend on the order in which threads finish.
struct Better {
    bool operator()(const Entry& a, const Entry& b) const {
        return a.score > b.score || (a.score == b.score && a.at < b.at);
    }
};
constexpr Better better{};

// Half as long again as queries may be (finite.py), since rounding makes vectors a little longer.
constexpr float kLongestQuery = 1.5f * 9223372036854775808.0f;

// Queries as integers of 8 bits, or of 16 bits if the entries have 16: query = scale * number.
struct Coded {
    bool wide;
    int64_t width;  // bytes per query
    std::atomic<bool> finite{true};
    std::vector<int8_t> numbers;
    std::vector<float> scale, sum, norm;

    const int8_t* at(int64_t row) const { return numbers.data() + row * width; }
    float number(int64_t row, int64_t i) const {
        if (!wide) return at(row)[i];
        int16_t number;
        std::memcpy(&number, at(row) + 2 * i, 2);
        return number;
    }

    Coded(const Queries& queries, int bits, Team& team) : wide(bits == 16) {
        // a multiple of the group for every number of bits
        width = wide ? (queries.features + 1) / 2 * 4 : (queries.features + 31) / 32 * 32;
        numbers.assign(queries.count * width, 0);
        scale.resize(queries.count);
        sum.resize(queries.count);
        norm.resize(queries.count);
        team.each(queries.count * width * 4 >= kAlone, queries.count, kPiece, [&](int64_t first, int64_t end, int) {
            for (int64_t row = first; row < end; ++row) code(queries.at(row), queries.features, row);
        });
    }

private:
    void code(const float* query, int64_t features, int64_t row) {
        float largest = 0, nothing = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nothing)
        for (int64_t i = 0; i < features; ++i) {
            largest = std::max(largest, std::fabs(query[i]));
            nothing += query[i] * 0.0f;
        }
        if (nothing != 0) {  // NaN: the query holds NaN or infinity
            finite = false;
            return;
        }
        if (wide) {
            widely(query, features, largest, row);
            return;
        }
        const float larger = larger_by(largest);
        const float inverse = largest > 0 ? 127.0f / (largest * larger) : 0.0f;
        int32_t total = 0;
        float squares = 0;
        int8_t* out = numbers.data() + row * width;
#pragma omp simd reduction(+ : total, squares)
        for (int64_t i = 0; i < features; ++i) {
            const float scaled = query[i] * larger * inverse;
            const int32_t number = rounded(scaled);
            out[i] = int8_t(number);
            total += number;
            squares += scaled * scaled;
        }
        scale[row] = largest / 127.0f;
        sum[row] = float(total);
        norm[row] = scale[row] * std::sqrt(squares);
        if (norm[row] > kLongestQuery) finite = false;
    }

    // A factor for tiny numbers, whose inverse would be infinite.
    static float larger_by(float largest) { return largest < 1e-30f ? 0x1p100f : 1.0f; }

    // Integers of 16 bits, no longer than the codes of entries may be.
    void widely(const float* query, int64_t features, float largest, int64_t row) {
        const float larger = larger_by(largest);
        const float inverse = largest > 0 ? 1.0f / (largest * larger) : 0.0f;
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < features; ++i) {
            const float scaled = query[i] * larger * inverse;
            squares += scaled * scaled;
        }
        const float length = std::sqrt(squares);
        const float most = length > 0 ? std::min(32767.0f, kLongestCode / length) : 0.0f;
        int16_t* out = reinterpret_cast<int16_t*>(numbers.data() + row * width);
        for (int64_t i = 0; i < features; ++i) out[i] = int16_t(rounded(query[i] * larger * inverse * most));
        scale[row] = most > 0 ? largest / most : 0.0f;
        norm[row] = largest * length;
        if (norm[row] > kLongestQuery) finite = false;
    }
};

// Put an entry where it belongs among `at` better and worse ones that lie in order.
inline void put_in_order(Entry* own, int64_t at, Entry entry) {
    for (; at > 0 && better(entry, own[at - 1]); --at) own[at] = own[at - 1];
    own[at] = entry;
}

// The best `wanted` entries per query that one thread has seen. A few are kept sorted; many are a pool that is pruned
// when it is full.
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
        put_in_order(own, count++, entry);
        if (count == wanted_) threshold_[query] = std::max(threshold_[query], own[count - 1].score);
    }
    void prune(int64_t query) {
        Entry* own = entries_.get() + query * room_;
        if (count_[query] <= wanted_) return;
        std::nth_element(own, own + wanted_ - 1, own + count_[query], better);
        count_[query] = wanted_;
        threshold_[query] = std::max(threshold_[query], own[wanted_ - 1].score);
    }
    const Entry* begin(int64_t query) const { return entries_.get() + query * room_; }
    int64_t count(int64_t query) const { return count_[query]; }

private:
    int64_t wanted_ = 0, room_ = 0;
    std::unique_ptr<Entry[]> entries_;
    std::vector<int64_t> count_;
    std::vector<float> threshold_;
};

// A list that a query enters, and the query's inner product with the list's vector.
struct Probe {
    int32_t list;
    int32_t query;
    float base;
};

// The best entries of the lists that the probes enter, in threads if it is `worth` them. `best` gets one element per
// thread, to be merged query by query by whoever goes through the queries next: every loop of a team waits for its
// slowest thread at its end, so there are as few as possible.
void scan(const Simd&, const Level&, const Coded&, const Queries&, const Rows& keys, const std::vector<Probe>&,
          int64_t wanted, std::vector<Best>& best, Team&, bool worth);

// Merge what the threads found for a query; the first element gets the result.
void merge(std::vector<Best>& best, int64_t query);

// Whether merging all queries is worth threads.
bool worth_merging(const std::vector<Best>& best, int64_t queries);

inline void fill_best(std::vector<Entry>& entries, Found found, int64_t query) {
    const int64_t count = std::min<int64_t>(found.k, int64_t(entries.size()));
    std::partial_sort(entries.begin(), entries.begin() + count, entries.end(), better);
    for (int64_t i = 0; i < found.k; ++i) {
        found.score[query * found.k + i] = i < count ? entries[i].score : kNothing;
        found.row[query * found.k + i] = i < count ? entries[i].at : -1;
    }
}

}  // namespace hmn
