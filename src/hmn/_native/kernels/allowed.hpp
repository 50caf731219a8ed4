// Which rows queries may find, and search among those where they are few.
#pragma once

#include "search.hpp"

namespace hmn {

// Share of the rows from 0 to `used` that each query may find, or one for all if the filter is shared; estimated from
// `sampled` of them.
void share_allowed(const Filter&, int64_t queries, int64_t used, int64_t sampled, float* share);

// The best k rows per query among all that it may find, scored in full, where these are `few` at most. `done` (queries)
// says which queries are asked, and in the end which of them were answered; the others have no results. Returns false,
// without results, if a query is not finite.
bool score_few(const Simd&, const Queries&, const Filter&, const Rows& keys, int64_t used, int64_t few, uint8_t* done,
               Found, Spent, int threads);

}  // namespace hmn
