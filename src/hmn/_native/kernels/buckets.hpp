// Rows that lookups list, and which of them are listed most often.
#pragma once

#include <cstdint>

namespace hmn {

// Lookups (queries, count), each a run of `row`: from `begin` on, `size` of them.
struct Lookups {
    const int32_t* row;
    const int64_t* begin;
    const int64_t* size;
    int64_t queries, count;
};

// Write the rows of a query's lookups one after another into its line of `candidate` (queries, width), from
// `filled` (queries) on.
void list_rows(const Lookups&, const int64_t* filled, int64_t* candidate, int64_t width, int threads);

// Of the candidates (queries, count) of each query, the `limit` that are there most often, of equal ones the
// smallest, each once and in no order; -1 is none. The rest of a line of `kept` (queries, limit) is -1. Returns
// how many the longest line holds.
int64_t most_frequent(const int64_t* candidate, int64_t queries, int64_t count, int64_t limit, int64_t* kept,
                      int threads);

}  // namespace hmn
