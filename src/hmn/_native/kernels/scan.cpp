#include "scan.hpp"

#include <numeric>

namespace hmn {
namespace {

constexpr int64_t kBlock = 64;  // queries per piece of work
constexpr int64_t kKeysAhead = 3 * kBlockRows;  // rows of keys to prefetch

struct Work {
    int64_t begin, end;  // range of the sorted probes, all of one list
};

// A threshold per query that all threads raise. A stale value is still a lower bound of the worst score kept.
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

// Multiply the scores of a tile by weights; the bits of the result say which products reach the threshold.
inline uint32_t weighted(float* score, const float* weight, float threshold) {
    for (int lane = 0; lane < kTile; ++lane) score[lane] *= weight[lane];
    uint32_t bits = 0;
    for (int lane = 0; lane < kTile; ++lane) bits |= uint32_t(score[lane] >= threshold) << lane;
    return bits;
}

void scan_list(const Simd& simd, const Level& level, const Coded& coded, const Probe* probes, int64_t count,
               Best& best, Shared& shared) {
    const int64_t panel = level.slot_of(probes[0].list) / kLanes;
    const int64_t length = level.length[probes[0].list];
    const float zero = level.bits == 16 ? 0.0f : float((1 << level.bits) - 1) / 2;
    const bool filtered = level.filter.given;
    const int8_t* query[kBlock];
    float base[kBlock], scale[kBlock], shift[kBlock], threshold[kBlock];
    for (int64_t j = 0; j < count; ++j) {
        const Probe& probe = probes[j];
        query[j] = coded.at(probe.query);
        base[j] = probe.base;
        scale[j] = coded.scale[probe.query];
        shift[j] = -zero * scale[j] * coded.sum[probe.query];
        // with weights, only weighted scores are compared
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
                weight[lane] = level.weight[level.child_of(first + lane)];
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
                    if (level.held && level.held[level.child_of(first + lane)] == 0) continue;
                    if (filtered && !level.filter.allows(row, level.child_of(first + lane))) continue;
                    best.push(row, {tile.score[j][lane], int32_t(first + lane)});
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

// As scan_list, but entries are scored by their keys: kBlockRows entries for all queries, then the next.
void scan_keys(const Simd& simd, const Level& level, const Queries& queries, const Rows& keys, const Probe* probes,
               int64_t count, Best& best, Shared& shared) {
    const int64_t first = level.slot_of(probes[0].list);
    const int64_t length = level.length[probes[0].list];
    const int32_t* child = level.child + first;
    const bool filtered = level.filter.given;
    const auto offer = [&](int64_t j, int64_t at, float score) {
        const int32_t row = probes[j].query;
        if (!(score >= std::max(best.threshold(row), shared.get(row)))) return;
        if (filtered && !level.filter.allows(row, child[at])) return;
        best.push(row, {score, int32_t(first + at)});
        shared.raise(row, best.threshold(row));
    };
    const void* row[kBlockRows];
    const float* query[kBlockQueries];
    float product[kBlockQueries * kBlockRows];
    for (int64_t at = 0; at < length; at += kBlockRows) {
        const int64_t rows = std::min<int64_t>(kBlockRows, length - at);
        for (int64_t r = 0; r < kBlockRows; ++r) row[r] = keys.at(level.child_of(first + at + std::min(r, rows - 1)));
        for (int64_t r = at + kKeysAhead; r < std::min(at + kKeysAhead + kBlockRows, length); ++r) keys.fetch(child[r]);
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

// Stable sort of probes by list. Counting sort is faster, but its cost grows with the number of lists: it is used
// only where that is no larger than a few times the number of probes.
void by_list(std::vector<Probe>& probes, int64_t lists) {
    if (lists > 4 * int64_t(probes.size())) {
        std::stable_sort(probes.begin(), probes.end(),
                         [](const Probe& a, const Probe& b) { return a.list < b.list; });
        return;
    }
    std::vector<int64_t> next(lists + 1, 0);
    for (const Probe& probe : probes) ++next[probe.list + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    std::vector<Probe> ordered(probes.size());
    for (const Probe& probe : probes) ordered[next[probe.list]++] = probe;
    probes.swap(ordered);
}

}  // namespace

void scan(const Simd& simd, const Level& level, const Coded& coded, const Queries& queries, const Rows& keys,
          const std::vector<Probe>& probes, int64_t wanted, std::vector<Best>& best, Team& team, bool worth) {
    // sorted by list, so that a list is read once for all queries that enter it
    std::vector<Probe> ordered = probes;
    by_list(ordered, level.lists);
    std::vector<Work> work;
    for (int64_t at = 0, end = 0; at < int64_t(ordered.size()); at = end) {
        while (end < int64_t(ordered.size()) && end < at + kBlock && ordered[end].list == ordered[at].list) ++end;
        work.push_back({at, end});
    }
    const int threads = team.threads(worth);
    best.resize(threads);
    for (Best& own : best) own.reset(queries.count, wanted);
    Shared shared(queries.count);
    team.each(worth, int64_t(work.size()), 1, [&](int64_t first, int64_t end, int thread) {
        for (int64_t i = first; i < end; ++i) {
            const Probe* piece = ordered.data() + work[i].begin;
            const int64_t count = work[i].end - work[i].begin;
            if (level.bits == kInFull)
                scan_keys(simd, level, queries, keys, piece, count, best[thread], shared);
            else
                scan_list(simd, level, coded, piece, count, best[thread], shared);
        }
    });
}

void merge(std::vector<Best>& best, int64_t query) {
    for (size_t thread = 1; thread < best.size(); ++thread)
        for (int64_t i = 0; i < best[thread].count(query); ++i)
            best[0].push(query, best[thread].begin(query)[i]);
    best[0].prune(query);
}

bool worth_merging(const std::vector<Best>& best, int64_t queries) {
    int64_t entries = 0;
    for (const Best& own : best)
        for (int64_t query = 0; query < queries; ++query) entries += own.count(query);
    return entries * kMergeBytes >= kAlone;
}

}  // namespace hmn
