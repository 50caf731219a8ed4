// Lists that lie by falling length; hmn._native.fallback.ordered does the same in PyTorch.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "lists.hpp"
#include "team.hpp"

namespace hmn {
namespace {

constexpr float kShortest = 1e-30f;  // lower limit of lengths, so that it is safe to divide by them
constexpr float kLeastShare = 0.05f;  // see hmn.index.storage.short_codes.LEAST_SHARE
constexpr int64_t kAlone = 1 << 8;    // vectors below which threads cost more than they save
constexpr int64_t kPiece = 64;        // vectors per piece of work
constexpr int64_t kSwaps = 8;         // swaps per panel beyond which sorting is faster

float length_at(const Lists& lists, int64_t slot) { return std::max(lists.size[2 * slot], kShortest); }

// Memory for the entries of one list.
struct Room {
    std::vector<uint8_t> codes, screen, fine;
    std::vector<float> along, step, size;
    std::vector<int32_t> child;

    Lists like(const Lists& lists, int64_t panels) {
        const int64_t entries = panels * kLanes;
        codes.resize(panels * lists.groups * kLine);
        screen.resize(panels * lists.lines * kLine);
        fine.resize(entries * lists.fine_bytes);
        along.resize(entries);
        step.resize(entries);
        size.resize(2 * entries);
        child.resize(entries);
        Lists room = lists;
        room.codes = codes.data();
        room.screen = screen.data();
        room.fine = fine.data();
        room.along = along.data();
        room.step = step.data();
        room.size = size.data();
        room.child = child.data();
        return room;
    }
};

uint16_t to_brain(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float length_of(const float* vector, int64_t features) {
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t f = 0; f < features; ++f) square += double(vector[f]) * vector[f];
    return float(std::sqrt(square));
}

// Half the squares of the centroids (parts, 16).
std::vector<float> half_squares(const Short& kind) {
    std::vector<float> half(kind.parts * kCentroids);
    for (int64_t place = 0; place < kind.parts * kind.width; ++place)
        for (int c = 0; c < kCentroids; ++c) {
            const float value = kind.centroid[place * kCentroids + c];
            half[place / kind.width * kCentroids + c] += value * value / 2;
        }
    return half;
}

// Codes (parts) of a vector by its places; returns the product of the vector with what they stand for.
float nearest(const Short& kind, const float* half, const float* placed, uint8_t* code) {
    float share = 0;
    for (int part = 0; part < kind.parts; ++part, half += kCentroids) {
        float product[kCentroids] = {}, value[kCentroids], best = -INFINITY;
        const float* centroid = kind.centroid + part * kind.width * kCentroids;
        for (int64_t i = 0; i < kind.width; ++i, centroid += kCentroids) {
            const float value = placed[part * kind.width + i];
            for (int c = 0; c < kCentroids; ++c) product[c] += value * centroid[c];
        }
#pragma omp simd reduction(max : best)
        for (int c = 0; c < kCentroids; ++c) {
            value[c] = product[c] - half[c];
            best = std::max(best, value[c]);
        }
        code[part] = 0;
        while (code[part] < kCentroids - 1 && value[code[part]] != best) ++code[part];
        share += product[code[part]];
    }
    return share;
}

// The codes of an entry as one row; see Level.fine.
void write_row(const Lists& lists, int64_t slot, uint32_t word, std::vector<uint8_t>& code) {
    const int64_t half = int64_t(lists.groups) * kGroup, width = lists.fine_bytes - kWord;
    code.assign(2 * std::max(width, half), 0);
    const uint8_t* line = lists.codes + (slot / kLanes * lists.groups * kLanes + slot % kLanes) * kGroup;
    for (int64_t byte = 0; byte < half; ++byte) {
        const uint8_t both = line[byte / kGroup * kLine + byte % kGroup];
        code[byte] = both & 15;
        code[half + byte] = both >> 4;
    }
    uint8_t* row = lists.fine + slot * lists.fine_bytes;
    std::memcpy(row, &word, kWord);
    for (int64_t byte = 0; byte < width; ++byte) row[kWord + byte] = code[byte] | code[width + byte] << 4;
}

}  // namespace

void write_screen(const Simd& simd, const Lists& lists, const Short& kind, const Rows& vectors, const int64_t* row,
                  int64_t count, const int64_t* list, const Rows& direction, const int64_t* slot, int threads) {
    const int64_t features = vectors.features, places = kind.parts * kind.width;
    const std::vector<float> half = half_squares(kind);
    Team(threads).each(count >= kAlone, count, kPiece, [&](int64_t begin, int64_t end, int) {
        std::vector<float> vector(features), placed(places);
        std::vector<uint8_t> code(kind.parts), unpacked;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t own = below(slot[i], lists.panels * kLanes, "a slot");
            if (i + 1 < end) vectors.fetch(row[i + 1]);
            vectors.load(below(row[i], vectors.count, "a row"), vector.data());
            lists.size[2 * own] = length_of(vector.data(), features);
            if (direction.data) {
                const void* of_list = direction.at(below(list[i], direction.count, "a list"));
                const float* towards = static_cast<const float*>(of_list);
                for (int64_t f = 0; f < features; ++f) vector[f] -= lists.along[own] * towards[f];
            }
            const float length = length_of(vector.data(), features);
            lists.size[2 * own + 1] = length;
            const float inverse = 1.0f / std::max(length, kShortest);
            for (int64_t f = 0; f < features; ++f) vector[f] *= inverse;
            for (int64_t place = 0; place < places; ++place) {
                if (kind.rotation) {
                    const float* towards = kind.rotation + place * features;
                    placed[place] = simd.dot(vector.data(), towards, features, Storage::float32);
                } else {
                    const int32_t feature = kind.order[place];
                    placed[place] = feature < 0 ? 0.0f : vector[below(feature, features, "a feature")];
                }
            }
            const float share = nearest(kind, half.data(), placed.data(), code.data());
            const float step = length / std::max(share, kLeastShare);
            const uint32_t along = uint32_t(to_brain(lists.along[own])) << 16;
            const uint32_t word = along | to_brain(step);
            uint8_t* line = lists.screen + own / kLanes * lists.lines * kLine;
            std::memcpy(line + own % kLanes * kWord, &word, kWord);
            for (int part = 0; part < kind.parts; part += 2 * kWord)
                for (int j = 0; j < kWord; ++j)
                    line[(1 + part / (2 * kWord)) * kLine + j * kLanes + own % kLanes] =
                        uint8_t(code[part + j] | code[part + kWord + j] << 4);
            write_row(lists, own, along | to_brain(lists.step[own]), unpacked);
        }
    });
}

void write_bounds(const Lists& lists, const int64_t* list, int64_t count, int64_t features) {
    for (int64_t i = 0; i < count; ++i) slot_of_list(lists, below(list[i], lists.lists, "a list"));
    for (int64_t i = 0; i < count; ++i) {
        const int64_t begin = slot_of_list(lists, list[i]), length = lists.length[list[i]];
        float above = -INFINITY, beside = 0;  // the largest so far, from the end of the list
        for (int64_t panel = panels_of(length) - 1; panel >= 0; --panel) {
            const int64_t first = begin + panel * kLanes, end = std::min(begin + length, first + kLanes);
            float longest = 0;
            double along = 0, whole = 0, rests = 0, squares = 0;  // sums, the last two of squares
            for (int64_t slot = first; slot < end; ++slot) {
                const double own = length_at(lists, slot), rest = lists.size[2 * slot + 1];
                longest = std::max(longest, float(own));
                along += lists.along[slot];
                whole += own;
                rests += rest * rest;
                squares += own * own;
            }
            above = std::max(above, float(longest * (along / whole)));
            beside = std::max(beside, float(longest * std::sqrt(rests / squares / double(features))));
            lists.bound[2 * (first / kLanes)] = above;
            lists.bound[2 * (first / kLanes) + 1] = beside;
        }
    }
}

void disorder(const Lists& lists, const int64_t* list, int64_t count, float* worst) {
    std::vector<float> sorted;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t begin = slot_of_list(lists, below(list[i], lists.lists, "a list"));
        const int64_t length = lists.length[list[i]];
        sorted.resize(length);
        for (int64_t at = 0; at < length; ++at) sorted[at] = length_at(lists, begin + at);
        std::sort(sorted.begin(), sorted.end(), [](float a, float b) { return a > b; });
        float longest = 0;
        worst[i] = 1;
        for (int64_t at = length - 1; at >= 0; --at) {
            longest = std::max(longest, length_at(lists, begin + at));
            if (at % kLanes == 0) worst[i] = std::max(worst[i], longest / sorted[at]);
        }
    }
}

namespace {

// Sort the entries of one list by falling length.
void sort_list(const Lists& lists, int64_t begin, int64_t length, int64_t* slot_of, Room& memory) {
    std::vector<int64_t> order(length);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        return lists.size[2 * (begin + a)] > lists.size[2 * (begin + b)];
    });
    const Lists room = memory.like(lists, panels_of(length));
    for (int64_t at = 0; at < length; ++at)
        if (order[at] != at) copy_entry(lists, begin + order[at], room, at);
    for (int64_t at = 0; at < length; ++at) {
        if (order[at] == at) continue;
        copy_entry(room, at, lists, begin + at);
        slot_of[lists.child[begin + at]] = begin + at;
    }
}

// The shortest and the longest entry of a panel.
struct Ends {
    float least, most;
    int64_t shortest, longest;
};

Ends ends_of(const Lists& lists, int64_t first, int64_t end) {
    Ends ends{INFINITY, 0, first, first};
    for (int64_t slot = first; slot < end; ++slot) {
        const float length = length_at(lists, slot);
        if (length < ends.least) ends.least = length, ends.shortest = slot;
        if (length > ends.most) ends.most = length, ends.longest = slot;
    }
    return ends;
}

// Swap entries until no panel has one that is more than `loose` times as long as one in a panel before it. Returns
// whether that took few swaps; if not, the list is left half way.
bool swap_entries(const Lists& lists, int64_t begin, int64_t length, float loose, int64_t* slot_of, Room& memory,
                  std::vector<Ends>& ends) {
    const int64_t panels = panels_of(length), end = begin + length;
    const Lists spare = memory.like(lists, 1);
    const auto measure = [&](int64_t panel) {
        const int64_t first = begin + panel * kLanes;
        ends[panel] = ends_of(lists, first, std::min(end, first + kLanes));
    };
    std::vector<float> behind(panels + 1, 0.0f);  // the longest entry from each panel on
    const auto look_back = [&](int64_t from, int64_t to) {
        for (int64_t panel = from; panel >= to; --panel) behind[panel] = std::max(behind[panel + 1], ends[panel].most);
    };
    look_back(panels - 1, 0);
    int64_t left = kSwaps * panels;
    for (int64_t panel = 0; panel + 1 < panels; ++panel) {
        // the shortest here goes as far as it may, so that each swap makes it `loose` times longer or ends it
        while (behind[panel + 1] > loose * ends[panel].least) {
            if (left-- == 0) return false;
            int64_t last = panels - 1;
            while (ends[last].most <= loose * ends[panel].least) --last;
            const int64_t shorter = ends[panel].shortest, longer = ends[last].longest;
            copy_entry(lists, shorter, spare, 0);
            copy_entry(lists, longer, lists, shorter);
            copy_entry(spare, 0, lists, longer);
            slot_of[lists.child[shorter]] = shorter;
            slot_of[lists.child[longer]] = longer;
            measure(panel);
            measure(last);
            look_back(last, panel + 1);
        }
    }
    return true;
}

}  // namespace

void settle(const Lists& lists, const int64_t* list, int64_t count, float loose, int64_t* slot_of, int64_t children) {
    for (int64_t i = 0; i < count; ++i) {
        const int64_t begin = slot_of_list(lists, below(list[i], lists.lists, "a list"));
        check_children(lists, begin, begin + lists.length[list[i]], children);
    }
    std::vector<Ends> ends;
    Room memory;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t begin = slot_of_list(lists, list[i]), length = lists.length[list[i]];
        const int64_t panels = panels_of(length);
        ends.resize(panels);
        float least = INFINITY, most = 0;
        for (int64_t panel = 0; panel < panels; ++panel) {
            const int64_t first = begin + panel * kLanes;
            ends[panel] = ends_of(lists, first, std::min(begin + length, first + kLanes));
            least = std::min(least, ends[panel].least);
            most = std::max(most, ends[panel].most);
        }
        if (panels < 2 || most <= loose * least) continue;
        if (!swap_entries(lists, begin, length, loose, slot_of, memory, ends))
            sort_list(lists, begin, length, slot_of, memory);
    }
}

}  // namespace hmn
