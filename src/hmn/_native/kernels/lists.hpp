// Lists that grow and shrink in place, and the means of what is in them.
#pragma once

#include <cstdint>

#include "search.hpp"

namespace hmn {

// The lists of a level as they may be changed.
struct Filed {
    uint8_t* codes;        // (panels, groups, 16, 4)
    float* along;          // (panels * 16)
    float* step;           // (panels * 16)
    int32_t* child;        // (panels * 16)
    int64_t* first_panel;  // (lists)
    int32_t* length;       // (lists)
    int64_t panels;
    int groups;
};

// Take the entries at places (count) out of their lists (count); the last of each list take their places.
// `where` holds the place of each child: -1 from then on for those taken out.
void take_out(const Filed&, const int64_t* list, const int64_t* place, int64_t count, int64_t* where);

// Enter children (count) into lists (count), without their codes. A list without room for them moves to the end,
// after `used` panels, with room for the double. Returns how many panels are used then; if that is more than
// there are, nothing was changed.
int64_t enter(const Filed&, int64_t* room, int64_t used, const int64_t* list, const int64_t* child, int64_t count,
              int64_t* where);

// Mean (count, features) and weight (count) of the vectors of what is in lists (count), of weights by child, or
// 1 if that is null. Longer vectors count more: the mean is as much longer as their lengths weighted by
// themselves are.
void means(const Level&, const int64_t* list, int64_t count, const Rows& vectors, const float* weight, float* mean,
           float* total, int threads);

}  // namespace hmn
