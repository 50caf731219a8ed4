// Entries into and out of lists; hmn._native.filing does the same in PyTorch.
#include "lists.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>


namespace hmn {
namespace {

constexpr int64_t kAlone = 1 << 18;  // numbers below which threads cost more than they bring

// Runs of equal lists among `count`, in ascending order of the lists and each in the order given.
template <typename Work>
void each_run(const int64_t* list, const std::vector<int64_t>& order, Work work) {
    for (size_t begin = 0, end; begin < order.size(); begin = end) {
        for (end = begin + 1; end < order.size() && list[order[end]] == list[order[begin]];) ++end;
        work(list[order[begin]], order.data() + begin, int64_t(end - begin));
    }
}

std::vector<int64_t> sorted(const int64_t* list, int64_t count) {
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [list](int64_t a, int64_t b) { return list[a] < list[b]; });
    return order;
}

int64_t panels_of(int64_t entries) { return (entries + kLanes - 1) / kLanes; }

void move_entry(const Filed& lists, int64_t from, int64_t to) {
    lists.along[to] = lists.along[from];
    lists.step[to] = lists.step[from];
    lists.child[to] = lists.child[from];
    const uint8_t* source = lists.codes + (from / kLanes * lists.groups * kLanes + from % kLanes) * kGroup;
    uint8_t* target = lists.codes + (to / kLanes * lists.groups * kLanes + to % kLanes) * kGroup;
    for (int group = 0; group < lists.groups; ++group, source += kLine, target += kLine)
        std::memcpy(target, source, kGroup);
}

// A list with room for so many panels, from this panel on.
void move_list(const Filed& lists, int64_t list, int64_t first, int64_t* where) {
    const int64_t old = lists.first_panel[list], length = lists.length[list], panels = panels_of(length);
    const int64_t line = int64_t(lists.groups) * kLine;
    std::memcpy(lists.codes + first * line, lists.codes + old * line, panels * line);
    const int64_t from = old * kLanes, to = first * kLanes;
    for (int64_t i = 0; i < length; ++i) {
        lists.along[to + i] = lists.along[from + i];
        lists.step[to + i] = lists.step[from + i];
        lists.child[to + i] = lists.child[from + i];
        lists.child[from + i] = -1;
        where[lists.child[to + i]] = to + i;
    }
    lists.first_panel[list] = first;
}

}  // namespace

void take_out(const Filed& lists, const int64_t* list, const int64_t* place, int64_t count, int64_t* where) {
    std::vector<char> gone;
    each_run(list, sorted(list, count), [&](int64_t at, const int64_t* run, int64_t taken) {
        // of the places at the end of the list that will be free, those still held must move
        const int64_t end = lists.first_panel[at] * kLanes + lists.length[at] - taken;
        gone.assign(taken, 0);
        for (int64_t i = 0; i < taken; ++i) {
            where[lists.child[place[run[i]]]] = -1;
            if (place[run[i]] >= end) gone[place[run[i]] - end] = 1;
        }
        int64_t source = end;
        for (int64_t i = 0; i < taken; ++i) {
            if (place[run[i]] >= end) continue;
            while (gone[source - end]) ++source;
            move_entry(lists, source, place[run[i]]);
            where[lists.child[source]] = place[run[i]];
            ++source;
        }
        std::fill_n(lists.child + end, taken, -1);
        lists.length[at] -= int32_t(taken);
    });
}

int64_t enter(const Filed& lists, int64_t* room, int64_t used, const int64_t* list, const int64_t* child, int64_t count,
              int64_t* where) {
    const std::vector<int64_t> order = sorted(list, count);
    int64_t needed = used;
    each_run(list, order, [&](int64_t at, const int64_t*, int64_t more) {
        const int64_t panels = panels_of(lists.length[at] + more);
        if (panels > room[at]) needed += std::max(panels, 2 * room[at]);
    });
    if (needed > lists.panels) return needed;
    each_run(list, order, [&](int64_t at, const int64_t* run, int64_t more) {
        const int64_t panels = panels_of(lists.length[at] + more);
        if (panels > room[at]) {
            move_list(lists, at, used, where);
            room[at] = std::max(panels, 2 * room[at]);
            used += room[at];
        }
        const int64_t end = lists.first_panel[at] * kLanes + lists.length[at];
        for (int64_t i = 0; i < more; ++i) {
            lists.child[end + i] = int32_t(child[run[i]]);
            where[child[run[i]]] = end + i;
        }
        lists.length[at] += int32_t(more);
    });
    return used;
}

void means(const Level& level, const int64_t* list, int64_t count, const Rows& vectors, const float* weight, float* mean,
           float* total, int threads) {
    const int64_t features = vectors.features;
    int64_t entries = 0;
    for (int64_t one = 0; one < count; ++one) entries += level.length[list[one]];
#pragma omp parallel num_threads(entries * features < kAlone ? 1 : threads)
    {
        std::vector<float> vector(features);
#pragma omp for schedule(dynamic, 16)
        for (int64_t one = 0; one < count; ++one) {
            float* sum = mean + one * features;
            std::fill_n(sum, features, 0.0f);
            double weights = 0, first = 0, second = 0;
            const int32_t* child = level.child + level.first_panel[list[one]] * kLanes;
            for (int32_t i = 0; i < level.length[list[one]]; ++i) {
                if (i + 1 < level.length[list[one]]) vectors.fetch(child[i + 1]);
                vectors.load(child[i], vector.data());
                const float by = weight ? weight[child[i]] : 1.0f;
                float square = 0;
#pragma omp simd reduction(+ : square)
                for (int64_t f = 0; f < features; ++f) {
                    sum[f] += by * vector[f];
                    square += vector[f] * vector[f];
                }
                const double length = std::sqrt(square);
                weights += by;
                first += by * length;
                second += by * length * length;
            }
            const float longer = float(second / (first > 0 ? first * first : 1.0));
            for (int64_t f = 0; f < features; ++f) sum[f] *= longer;
            total[one] = float(weights);
        }
    }
}

}  // namespace hmn
