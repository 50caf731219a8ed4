// Which rows queries may find; hmn._native.fallback.allowed does the same in PyTorch.
#include "allowed.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

namespace hmn {
namespace {

constexpr uint64_t kScatter = 2654435761u;  // cells of one sequence or tenant often lie in steps: samples must not
constexpr int64_t kMostNumber = std::numeric_limits<int64_t>::max();

using Limits = std::pair<int64_t, int64_t>;  // lower and upper

// Segments of numbers, between the limits of all sets. The numbers of a set are those of successive segments.
class Segments {
public:
    Segments(const std::vector<Limits>& sets, int64_t rows) {
        for (const Limits& set : sets) {
            if (set.first > set.second) continue;
            begin_.push_back(set.first);
            if (set.second < kMostNumber) begin_.push_back(set.second + 1);
        }
        std::sort(begin_.begin(), begin_.end());
        begin_.erase(std::unique(begin_.begin(), begin_.end()), begin_.end());
        std::vector<int32_t> change(begin_.size() + 1, 0);
        for (const Limits& set : sets) {
            if (set.first > set.second) continue;
            ++change[from(set)];
            --change[to(set)];
        }
        int32_t sets_here = 0;
        for (size_t i = 0; i < begin_.size(); ++i) {
            sets_here += change[i];
            of_.push_back(sets_here > 0 ? int32_t(i) : -1);
        }
        if (begin_.empty() || uint64_t(begin_.back()) - uint64_t(begin_.front()) > uint64_t(4 * rows)) return;
        for (size_t i = 0; i + 1 < begin_.size(); ++i)
            table_.insert(table_.end(), size_t(begin_[i + 1] - begin_[i]), of_[i]);
    }
    int64_t count() const { return int64_t(begin_.size()); }
    int64_t from(const Limits& set) const { return place(set.first); }
    int64_t to(const Limits& set) const { return set.second < kMostNumber ? place(set.second + 1) : count(); }
    // The segment of a number; -1 where it is in no set.
    int32_t of(int64_t number) const {
        if (begin_.empty() || number < begin_.front()) return -1;
        if (number >= begin_.back()) return of_.back();
        if (!table_.empty()) return table_[number - begin_.front()];
        return of_[std::upper_bound(begin_.begin(), begin_.end(), number) - begin_.begin() - 1];
    }

private:
    int64_t place(int64_t number) const {
        return std::lower_bound(begin_.begin(), begin_.end(), number) - begin_.begin();
    }
    std::vector<int64_t> begin_;
    std::vector<int32_t> of_;     // by segment
    std::vector<int32_t> table_;  // by number, where numbers lie close together
};

// Rows that some query may find, segment by segment.
struct Sorted {
    std::vector<int64_t> start;
    std::vector<int32_t> row;
};

// The rows of one set, up to one more than `most`.
template <typename In>
Sorted of_one(const Filter& filter, int64_t used, int64_t most, In in) {
    Sorted result;
    if (!filter.cell) used = std::min(used, filter.count);
    for (int64_t row = 0; row < used && int64_t(result.row.size()) <= most; ++row) {
        const int64_t at = filter.cell ? filter.cell[row] : row;
        if (filter.cell && uint64_t(at) >= uint64_t(filter.count)) continue;
        if (in(at)) result.row.push_back(int32_t(row));
    }
    result.start = {0, int64_t(result.row.size())};
    return result;
}

template <typename Of>
Sorted by_segment(const Filter& filter, int64_t used, int64_t segments, Of of) {
    std::vector<std::pair<int32_t, int32_t>> there;  // segment and row
    Sorted result;
    result.start.assign(segments + 1, 0);
    for (int64_t row = 0; row < used; ++row) {
        const int64_t at = filter.cell ? filter.cell[row] : row;
        if (uint64_t(at) >= uint64_t(filter.count)) continue;
        const int32_t segment = of(at);
        if (segment < 0) continue;
        there.push_back({segment, int32_t(row)});
        ++result.start[segment + 1];
    }
    for (int64_t i = 0; i < segments; ++i) result.start[i + 1] += result.start[i];
    std::vector<int64_t> next(result.start.begin(), result.start.end() - 1);
    result.row.resize(there.size());
    for (const auto& each : there) result.row[next[each.first]++] = each.second;
    return result;
}

}  // namespace

void share_allowed(const Filter& filter, int64_t queries, int64_t used, int64_t sampled, float* share) {
    const int64_t sets = filter.shared ? 1 : queries, some = std::min(used, sampled);
    std::vector<int64_t> row(some);
    int64_t live = 0;
    for (int64_t i = 0; i < some; ++i) {
        row[i] = used <= sampled ? i : int64_t(uint64_t(i) * kScatter % uint64_t(used));
        live += !filter.cell || filter.cell[row[i]] >= 0;
    }
    for (int64_t set = 0; set < sets; ++set) {
        int64_t found = 0;
        for (int64_t i = 0; i < some; ++i) found += filter.allows(set, row[i]);
        share[set] = float(found) / float(std::max<int64_t>(1, live));
    }
}

bool score_few(const Simd& simd, const Queries& queries, const Filter& filter, const Rows& keys, int64_t used,
               int64_t few, uint8_t* done, Found found, Spent spent, int threads) {
    // 1. the distinct sets of the queries that are asked
    // 2. rows by number: those of each set lie side by side
    // 3. a level without codes, whose lists are the sets that are few; one list more is that of all other queries
    std::vector<Limits> sets;
    std::map<Limits, int64_t> number_of;
    std::vector<int64_t> set(queries.count, -1);
    for (int64_t query = 0; query < queries.count; ++query) {
        if (!done[query]) continue;
        const int64_t i = filter.shared ? 0 : query;
        const Limits limits = filter.mask ? Limits{0, 0} : Limits{filter.low[i], filter.high[i]};
        const auto known = number_of.insert({limits, int64_t(sets.size())});
        if (known.second) sets.push_back(limits);
        set[query] = known.first->second;
    }
    const bool one = sets.size() == 1;
    const Segments segments(one ? std::vector<Limits>() : sets, used);
    Sorted rows;
    if (one && filter.mask) {
        rows = of_one(filter, used, few, [mask = filter.mask](int64_t at) { return mask[at]; });
    } else if (one) {
        rows = of_one(filter, used, few, [number = filter.number, set = sets[0]](int64_t at) {
            return number[at] >= set.first && number[at] <= set.second;
        });
    } else {
        rows = by_segment(filter, used, segments.count(), [&](int64_t at) { return segments.of(filter.number[at]); });
    }
    std::vector<int64_t> first_panel, list_of(sets.size(), -1);
    std::vector<int32_t> length, child;
    const auto add = [&](int64_t begin, int64_t end) {
        first_panel.push_back(int64_t(child.size()) / kLanes);
        length.push_back(int32_t(end - begin));
        child.insert(child.end(), rows.row.begin() + begin, rows.row.begin() + end);
        child.resize(panels_of(int64_t(child.size())) * kLanes, 0);
    };
    add(0, 0);
    for (size_t i = 0; i < sets.size(); ++i) {
        const bool any = !one && sets[i].first <= sets[i].second;
        const int64_t begin = any ? rows.start[segments.from(sets[i])] : 0;
        const int64_t end = one ? rows.start[1] : any ? rows.start[segments.to(sets[i])] : 0;
        if (end - begin > few) continue;
        list_of[i] = int64_t(length.size());
        add(begin, end);
    }
    std::vector<int64_t> list(queries.count, 0);
    const std::vector<float> base(queries.count, 0.0f);
    for (int64_t query = 0; query < queries.count; ++query) {
        done[query] = set[query] >= 0 && list_of[set[query]] >= 0;
        if (done[query]) list[query] = list_of[set[query]];
    }
    Level level{};
    level.child = child.data();
    level.first_panel = first_panel.data();
    level.length = length.data();
    level.lists = int64_t(length.size());
    level.panels = int64_t(child.size()) / kLanes;
    level.children = keys.count;
    level.bits = kInFull;
    return search(simd, queries, {level}, {}, {}, {list.data(), base.data(), 1}, keys, found.k, {}, 0, found, spent,
                  threads) >= 0;
}

}  // namespace hmn
