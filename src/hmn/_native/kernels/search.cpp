#include "scan.hpp"

namespace hmn {

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
            spent.reads[query] =
                float(bytes[query] + scored * keys.bytes()) / float(4 * std::max<int64_t>(1, keys.features));
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
