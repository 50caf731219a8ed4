// Exact search by upper bounds from codes; see hmn.index.structures.screening.
#include "scan.hpp"

namespace hmn {
namespace {

// Rounding of a float32 score, relative to the lengths of query and key, per sqrt(features).
constexpr float kRounding = 1e-6f;
// Results of queries longer than this, or shorter than its inverse, are never certain.
constexpr float kLongest = 1e12f;

}  // namespace

bool screened(const Simd& simd, const Queries& queries, const Level& level, float ratio, const Rows& keys,
              int64_t room, Found found, uint8_t* certain, int threads) {
    Team team(threads);
    const Coded coded(queries, level.bits, team);
    if (!coded.finite) return false;
    // Bound of a score, with x' and k' for the decoded query and key:
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
    int64_t entries = 0;
    for (int64_t list = 0; list < level.lists; ++list) entries += level.length[list];
    const bool worth = queries.count * entries * level.entry_bytes() >= kAlone;
    std::vector<Best> best;
    const auto score = [&](int64_t query, std::vector<Entry>& bound, std::vector<Entry>& top) {
        merge(best, query);
        bound.assign(best[0].begin(query), best[0].begin(query) + best[0].count(query));
        std::sort(bound.begin(), bound.end(), better);
        top.clear();  // a heap, its worst entry first
        const int64_t count = int64_t(bound.size());
        bool all = count < room;  // no entry was left out
        for (int64_t i = 0; i < count; ++i) {
            if (int64_t(top.size()) == found.k && top.front().score >= bound[i].score) {
                all = true;
                break;
            }
            if (i + kAhead < count) keys.fetch(level.child[bound[i + kAhead].at]);
            const int32_t row = int32_t(level.child_of(bound[i].at));
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
    };
    team.together(worth, [&] {
        scan(simd, level, coded, queries, keys, entered, room, best, team, worth);
        const bool many =
            queries.count * found.k * keys.bytes() >= kAlone || worth_merging(best, queries.count);
        team.each(many, queries.count, kPiece, [&](int64_t first, int64_t end, int) {
            std::vector<Entry> bound, top;
            for (int64_t query = first; query < end; ++query) score(query, bound, top);
        });
    });
    return true;
}

}  // namespace hmn
