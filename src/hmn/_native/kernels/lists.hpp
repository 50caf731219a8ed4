// Lists that grow and shrink in place, and the means of their children.
#pragma once

#include <cstdint>

#include "search.hpp"

namespace hmn {

// The lists of a level, writable.
struct Lists {
    uint8_t* codes;        // (panels, groups, 16, 4)
    float* along;          // (panels * 16)
    float* step;           // (panels * 16)
    int32_t* child;        // (panels * 16)
    int64_t* first_panel;  // (lists)
    int32_t* length;       // (lists)
    int64_t lists, panels;
    int groups;
};

// The functions below throw OutOfRange, with nothing changed, if a number points outside of the arrays.

// Take the entries at slots (count) out of their lists (count); the last entries of each list fill the gaps.
// `slot_of` (children), the slot of each child, is kept up to date; children taken out get -1.
void take_out(const Lists&, const int64_t* list, const int64_t* slot, int64_t count, int64_t* slot_of,
              int64_t children);

// Append children (count) to lists (count), without their codes. A list without room for them moves behind the
// `used` panels and gets at least twice its room. Returns the panels in use afterwards; if the level has fewer,
// nothing was changed.
int64_t enter(const Lists&, int64_t* room, int64_t used, const int64_t* list, const int64_t* child, int64_t count,
              int64_t* slot_of, int64_t children);

// Mean (count, features) and total weight (count) of the vectors of the children of lists (count). `weight` is by
// child; null means 1. Longer vectors count more: a mean is multiplied by the ratio of the vectors' mean length
// when each is weighted by its length to their plain mean length.
void means(const Level&, const int64_t* list, int64_t count, const Rows& vectors, const float* weight, float* mean,
           float* total, int threads);

}  // namespace hmn
