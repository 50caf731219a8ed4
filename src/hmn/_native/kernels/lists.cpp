// Lists that change; hmn._native.fallback.lists does the same in PyTorch.
#include "lists.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "team.hpp"

namespace hmn {
namespace {

constexpr int64_t kAlone = 1 << 18;  // floats below which threads cost more than they save
constexpr int64_t kPiece = 16;       // lists per piece of work

// Call `work` for each run of equal lists in `order`, with the list, the run and its length.
template <typename Work>
void each_run(const int64_t* list, const std::vector<int64_t>& order, Work work) {
    for (size_t begin = 0, end; begin < order.size(); begin = end) {
        for (end = begin + 1; end < order.size() && list[order[end]] == list[order[begin]];) ++end;
        work(list[order[begin]], order.data() + begin, int64_t(end - begin));
    }
}

// Positions of `list` (count), stably sorted by their lists.
std::vector<int64_t> sorted(const int64_t* list, int64_t count) {
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [list](int64_t a, int64_t b) { return list[a] < list[b]; });
    return order;
}

// As many entries of the end of a list stay, and must move, as are taken out before the end.
void check_taken(const Lists& lists, int64_t list, const int64_t* slot, const int64_t* run, int64_t taken,
                 int64_t children) {
    const int64_t begin = slot_of_list(lists, below(list, lists.lists, "a list")), length = lists.length[list];
    const int64_t end = begin + length - below(taken, length + 1, "the number of entries taken out of a list");
    std::vector<int64_t> slots;
    for (int64_t i = 0; i < taken; ++i) slots.push_back(slot[run[i]]);
    std::sort(slots.begin(), slots.end());
    for (int64_t i = 0; i < taken; ++i) {
        below(slots[i] - begin, length, "the slot of an entry within its list");
        if (i && slots[i] == slots[i - 1]) throw OutOfRange("an entry is taken out twice");
        check_children(lists, slots[i], slots[i] + 1, children);
    }
    check_children(lists, end, end + taken, children);
}

// Copy the short codes, the row and the size of an entry.
void copy_short(const Lists& own, int64_t from, const Lists& other, int64_t to) {
    const uint8_t* source = own.screen + from / kLanes * own.lines * kLine;
    uint8_t* target = other.screen + to / kLanes * own.lines * kLine;
    std::memcpy(target + to % kLanes * kWord, source + from % kLanes * kWord, kWord);
    for (int byte = kLine; byte < own.lines * kLine; byte += kLanes)
        target[byte + to % kLanes] = source[byte + from % kLanes];
    std::memcpy(other.fine + to * own.fine_bytes, own.fine + from * own.fine_bytes, own.fine_bytes);
    std::memcpy(other.size + 2 * to, own.size + 2 * from, 2 * sizeof(float));
}

// Move a list to begin at another panel.
void move_list(const Lists& lists, int64_t list, int64_t first, int64_t* slot_of) {
    const int64_t old = lists.first_panel[list], length = lists.length[list], panels = panels_of(length);
    const int64_t line = int64_t(lists.groups) * kLine;
    if (line > 0)  // without codes there is no memory either
        std::memcpy(lists.codes + first * line, lists.codes + old * line, panels * line);
    const int64_t from = old * kLanes, to = first * kLanes;
    if (lists.screen) {
        const int64_t bytes = int64_t(lists.lines) * kLine;
        std::memcpy(lists.screen + first * bytes, lists.screen + old * bytes, panels * bytes);
        std::memcpy(lists.fine + to * lists.fine_bytes, lists.fine + from * lists.fine_bytes,
                    length * lists.fine_bytes);
        std::memcpy(lists.size + 2 * to, lists.size + 2 * from, length * 2 * sizeof(float));
    }
    for (int64_t i = 0; i < length; ++i) {
        lists.along[to + i] = lists.along[from + i];
        lists.step[to + i] = lists.step[from + i];
        lists.child[to + i] = lists.child[from + i];
        lists.child[from + i] = -1;
        slot_of[lists.child[to + i]] = to + i;
    }
    lists.first_panel[list] = first;
}

}  // namespace

int64_t slot_of_list(const Lists& lists, int64_t list) {
    return first_slot(lists.first_panel[list], lists.length[list], lists.panels);
}

void check_children(const Lists& lists, int64_t begin, int64_t end, int64_t children) {
    for (int64_t slot = begin; slot < end; ++slot) below(lists.child[slot], children, "what an entry stands for");
}

void copy_entry(const Lists& own, int64_t from, const Lists& other, int64_t to) {
    other.along[to] = own.along[from];
    other.step[to] = own.step[from];
    other.child[to] = own.child[from];
    const uint8_t* source = own.codes + (from / kLanes * own.groups * kLanes + from % kLanes) * kGroup;
    uint8_t* target = other.codes + (to / kLanes * own.groups * kLanes + to % kLanes) * kGroup;
    for (int group = 0; group < own.groups; ++group, source += kLine, target += kLine)
        std::memcpy(target, source, kGroup);
    if (own.screen) copy_short(own, from, other, to);
}

void take_out(const Lists& lists, const int64_t* list, const int64_t* slot, int64_t count, int64_t* slot_of,
              int64_t children) {
    const std::vector<int64_t> order = sorted(list, count);
    each_run(list, order, [&](int64_t own, const int64_t* run, int64_t taken) {
        check_taken(lists, own, slot, run, taken, children);
    });
    std::vector<char> gone;
    each_run(list, order, [&](int64_t own, const int64_t* run, int64_t taken) {
        // the slots from `end` on become free; entries in them that stay move to the gaps before
        const int64_t end = lists.first_panel[own] * kLanes + lists.length[own] - taken;
        gone.assign(taken, 0);
        for (int64_t i = 0; i < taken; ++i) {
            slot_of[lists.child[slot[run[i]]]] = -1;
            if (slot[run[i]] >= end) gone[slot[run[i]] - end] = 1;
        }
        int64_t source = end;
        for (int64_t i = 0; i < taken; ++i) {
            if (slot[run[i]] >= end) continue;
            while (gone[source - end]) ++source;
            copy_entry(lists, source, lists, slot[run[i]]);
            slot_of[lists.child[source]] = slot[run[i]];
            ++source;
        }
        std::fill_n(lists.child + end, taken, -1);
        lists.length[own] -= int32_t(taken);
    });
}

int64_t enter(const Lists& lists, int64_t* room, int64_t used, const int64_t* list, const int64_t* child,
              int64_t count, int64_t* slot_of, int64_t children) {
    const std::vector<int64_t> order = sorted(list, count);
    int64_t needed = below(used, lists.panels + 1, "the number of panels in use");
    each_run(list, order, [&](int64_t own, const int64_t* run, int64_t more) {
        const int64_t begin = slot_of_list(lists, below(own, lists.lists, "a list")), length = lists.length[own];
        const int64_t panels = panels_of(length + more);
        if (panels > room[own]) {
            needed += std::max(panels, 2 * room[own]);
            check_children(lists, begin, begin + length, children);
        } else {
            first_slot(begin / kLanes, length + more, lists.panels);
        }
        for (int64_t i = 0; i < more; ++i) below(child[run[i]], children, "what an entry stands for");
    });
    if (needed > lists.panels) return needed;
    each_run(list, order, [&](int64_t own, const int64_t* run, int64_t more) {
        const int64_t panels = panels_of(lists.length[own] + more);
        if (panels > room[own]) {
            move_list(lists, own, used, slot_of);
            room[own] = std::max(panels, 2 * room[own]);
            used += room[own];
        }
        const int64_t end = lists.first_panel[own] * kLanes + lists.length[own];
        for (int64_t i = 0; i < more; ++i) {
            lists.child[end + i] = int32_t(child[run[i]]);
            slot_of[child[run[i]]] = end + i;
        }
        lists.length[own] += int32_t(more);
    });
    return used;
}

void means(const Level& level, const int64_t* list, int64_t count, const Rows& vectors, const float* weight,
           float* mean, float* total, int threads) {
    const int64_t features = vectors.features;
    int64_t entries = 0;
    for (int64_t i = 0; i < count; ++i) entries += level.length[below(list[i], level.lists, "a list")];
    Team(threads).each(entries * features >= kAlone, count, kPiece, [&](int64_t begin, int64_t end, int) {
        std::vector<float> vector(features);
        for (int64_t number = begin; number < end; ++number) {
            float* sum = mean + number * features;
            std::fill_n(sum, features, 0.0f);
            double weights = 0, first = 0, second = 0;
            const int64_t slot = level.slot_of(list[number]);
            const int32_t* child = level.child + slot;
            for (int32_t i = 0; i < level.length[list[number]]; ++i) {
                if (i + 1 < level.length[list[number]]) vectors.fetch(child[i + 1]);
                vectors.load(level.child_of(slot + i), vector.data());
                const float factor = weight ? weight[child[i]] : 1.0f;
                float square = 0;
#pragma omp simd reduction(+ : square)
                for (int64_t f = 0; f < features; ++f) {
                    sum[f] += factor * vector[f];
                    square += vector[f] * vector[f];
                }
                double length = std::sqrt(square);
                if (square < 1e-30f) {  // squares of tiny numbers vanish in float
                    double exact = 0;
                    for (int64_t f = 0; f < features; ++f) exact += double(vector[f]) * vector[f];
                    length = std::sqrt(exact);
                }
                weights += factor;
                first += factor * length;
                second += factor * length * length;
            }
            const float longer = float(second / (first > 0 ? first * first : 1.0));
            for (int64_t f = 0; f < features; ++f) sum[f] *= longer;
            total[number] = float(weights);
        }
    });
}

}  // namespace hmn
