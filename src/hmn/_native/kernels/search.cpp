#include "scan.hpp"

namespace hmn {

namespace {

// A search on its way down the levels.
struct Descent {
    const Simd& simd;
    const Queries& queries;
    const std::vector<Level>& levels;
    const std::vector<Rows>& direction;
    const std::vector<int64_t>& probes;
    const Rows& keys;
    int64_t rescored;
    Enough enough;
    Found found;
    Spent spent;
    Team& team;
    const Coded& coded;
    std::vector<Probe> entered;      // lists of the level that comes next
    std::vector<int64_t> bytes;      // read by each query
    std::vector<int64_t> listed;     // entries of the lists that each query entered last
    std::vector<Best> best;

    void from(int64_t number);
    void enter(int64_t number);
    void lead(int64_t number, int64_t query, Probe* to);
    void choose(int64_t query, Probe* to, int64_t count);
    void rescore();
};

// Search a level and all below it. From the first level on that is worth threads, they stay at hand.
void Descent::from(int64_t number) {
    const Level& level = levels[number];
    const bool last = number + 1 == int64_t(levels.size());
    std::fill(listed.begin(), listed.end(), 0);
    for (const Probe& probe : entered) listed[probe.query] += level.length[probe.list];
    int64_t entries = 0;
    for (int64_t query = 0; query < queries.count; ++query) {
        bytes[query] += listed[query] * level.entry_bytes();
        entries += listed[query];
    }
    const bool worth = entries * (level.bits == kInFull ? keys.bytes() : level.entry_bytes()) >= kAlone;
    team.together(worth, [&] {
        scan(simd, level, coded, queries, keys, entered, last ? rescored : probes[number], best,
             team, worth);
        if (last) {
            rescore();
        } else {
            enter(number);
            from(number + 1);
        }
    });
}

// Enter the lists of the next level that the best entries of this one stand for.
void Descent::enter(int64_t number) {
    team.each(worth_merging(best, queries.count), queries.count, kPiece, [&](int64_t first, int64_t end, int) {
        for (int64_t query = first; query < end; ++query) merge(best, query);
    });
    std::vector<int64_t> begin(queries.count + 1, 0);
    for (int64_t query = 0; query < queries.count; ++query) begin[query + 1] = begin[query] + best[0].count(query);
    entered.resize(begin.back());
    const bool worth = begin.back() * direction[number].bytes() >= kAlone;
    const bool chooses = enough.least && number + 2 == int64_t(levels.size());
    team.each(worth, queries.count, kPiece, [&](int64_t first, int64_t end, int) {
        for (int64_t query = first; query < end; ++query) {
            lead(number, query, entered.data() + begin[query]);
            if (chooses) choose(query, entered.data() + begin[query], begin[query + 1] - begin[query]);
        }
    });
    const auto passed = [](const Probe& probe) { return probe.list < 0; };
    if (chooses) entered.erase(std::remove_if(entered.begin(), entered.end(), passed), entered.end());
}

// Pass over lists without allowed entries, and over those behind enough of them.
void Descent::choose(int64_t query, Probe* to, int64_t count) {
    std::sort(to, to + count, [](const Probe& a, const Probe& b) {
        return a.base > b.base || (a.base == b.base && a.list < b.list);
    });
    float entries = 0;
    int64_t lists = 0;
    const auto all = [&] { return lists >= enough.lists && entries >= enough.least[query]; };
    for (Probe* probe = to; probe < to + count; ++probe) {
        const float allowed = all() ? 0.0f : count_allowed(levels.back(), probe->list, query, enough.looked, enough.most);
        entries += allowed;
        lists += allowed > 0;
        if (allowed == 0) probe->list = -1;
    }
    enough.lacking[query] = !all();
}

void Descent::lead(int64_t number, int64_t query, Probe* to) {
    const Level& level = levels[number];
    const Rows& vectors = direction[number];
    const Entry* own = best[0].begin(query);
    const int64_t own_count = best[0].count(query);
    if (!vectors.data) {
        for (int64_t i = 0; i < own_count; ++i) {
            const int32_t list = int32_t(level.child_of(own[i].at));
            to[i] = {list, int32_t(query), level.weight ? own[i].score / level.weight[list] : own[i].score};
        }
        return;
    }
    bytes[query] += own_count * vectors.bytes();
    for (int64_t i = 0; i < own_count; ++i) {
        if (i + kAhead < own_count) vectors.fetch(level.child[own[i + kAhead].at]);
        const int32_t list = int32_t(level.child_of(own[i].at));
        const float base = simd.dot(queries.at(query), vectors.at(list), queries.features, vectors.storage);
        to[i] = {list, int32_t(query), base};
    }
}

// Score the best entries of the last level in full.
void Descent::rescore() {
    const Level& leaves = levels.back();
    const bool worth = queries.count * rescored * keys.bytes() >= kAlone || worth_merging(best, queries.count);
    team.each(worth, queries.count, kPiece, [&](int64_t first, int64_t end, int) {
        std::vector<Entry> entries;
        for (int64_t query = first; query < end; ++query) {
            merge(best, query);
            const Entry* own = best[0].begin(query);
            const int64_t own_count = best[0].count(query);
            const int64_t scored = leaves.bits == kInFull ? listed[query] : own_count;
            spent.scored[query] = scored;
            spent.reads[query] =
                float(bytes[query] + scored * keys.bytes()) / float(4 * std::max<int64_t>(1, keys.features));
            entries.clear();
            if (leaves.bits == kInFull) {
                for (int64_t i = 0; i < own_count; ++i) entries.push_back({own[i].score, int32_t(leaves.child_of(own[i].at))});
                fill_best(entries, found, query);
                continue;
            }
            for (int64_t i = 0; i < std::min<int64_t>(kAhead, own_count); ++i) keys.fetch(leaves.child[own[i].at]);
            for (int64_t i = 0; i < own_count; ++i) {
                if (i + kAhead < own_count) keys.fetch(leaves.child[own[i + kAhead].at]);
                const int32_t row = int32_t(leaves.child_of(own[i].at));
                entries.push_back({simd.dot(queries.at(query), keys.at(row), queries.features, keys.storage), row});
            }
            fill_best(entries, found, query);
        }
    });
}

}  // namespace

int64_t search(const Simd& simd, const Queries& queries, const std::vector<Level>& levels,
               const std::vector<Rows>& direction, const std::vector<int64_t>& probes, const Begin& begin,
               const Rows& keys, int64_t rescored, const Enough& enough, int64_t places, Found found, Spent spent,
               int threads) {
    Team team(threads);
    const Coded coded(queries, 8, team);
    if (!coded.finite) return -1;
    std::vector<Probe> entered;
    entered.reserve(queries.count * begin.count);
    for (int64_t query = 0; query < queries.count; ++query) {
        if (!begin.list) entered.push_back({0, int32_t(query), 0.0f});
        for (int64_t i = query * begin.count; begin.list && i < (query + 1) * begin.count; ++i) {
            if (begin.list[i] < 0) continue;
            const int32_t list = int32_t(below(begin.list[i], levels[0].lists, "a list to begin with"));
            entered.push_back({list, int32_t(query), begin.base[i]});
        }
    }
    const std::vector<int64_t> nothing(queries.count, 0);
    Descent descent{simd, queries, levels, direction, probes, keys, rescored, enough, found, spent, team, coded,
                    std::move(entered), nothing, nothing, {}};
    descent.from(0);
    int64_t unfilled = 0;
    for (int64_t query = 0; query < queries.count; ++query) unfilled += descent.best[0].count(query) < places;
    return unfilled;
}

float count_allowed(const Level& level, int64_t list, int64_t query, int64_t looked, int64_t most) {
    const int64_t slot = level.slot_of(list), length = level.length[list], last = std::min(length, most);
    int64_t at = 0, found = 0;
    for (; at < last && (at < looked || !found); ++at)
        found += level.filter.allows(query, level.child_of(slot + at));
    return at ? float(found) * float(length) / float(at) : 0.0f;
}

void best_of(const Simd& simd, const Queries& queries, const Rows& keys, const int64_t* candidate,
             int64_t count, Found found, int threads) {
    Team team(threads);
    team.each(queries.count * count * keys.bytes() >= kAlone, queries.count, kPiece,
              [&](int64_t first, int64_t end, int) {
        std::vector<int64_t> rows;
        std::vector<Entry> entries;
        for (int64_t query = first; query < end; ++query) {
            rows.assign(candidate + query * count, candidate + (query + 1) * count);
            std::sort(rows.begin(), rows.end());
            rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
            if (!rows.empty() && rows.front() < 0) rows.erase(rows.begin());
            if (!rows.empty()) below(rows.back(), keys.count, "a candidate");
            entries.clear();
            for (size_t i = 0; i < rows.size(); ++i) {
                if (i + kAhead < rows.size()) keys.fetch(rows[i + kAhead]);
                entries.push_back({simd.dot(queries.at(query), keys.at(rows[i]), queries.features, keys.storage),
                                   int32_t(rows[i])});
            }
            fill_best(entries, found, query);
        }
    });
}

}  // namespace hmn
