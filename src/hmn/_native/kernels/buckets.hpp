// Candidates from buckets: gather the rows that lookups list, and keep the most frequent.
#pragma once

#include <cstdint>

namespace hmn {

// Lookups (queries, count); each is a run of `size` rows of `row`, starting at `begin`.
struct Lookups {
    const int32_t* row;  // (rows)
    int64_t rows;
    const int64_t* begin;
    const int64_t* size;
    int64_t queries, count;
};

// Copy the rows of each query's lookups, one lookup after another, into its line of `candidate` (queries, width),
// starting at `filled` (queries).
void list_rows(const Lookups&, const int64_t* filled, int64_t* candidate, int64_t width, int threads);

// Keep the `limit` most frequent candidates (queries, count) of each query, each once and in no particular order.
// Of equally frequent rows, the smallest stay; -1 is skipped. The rest of a line of `kept` (queries, limit) is -1.
// Returns the length of the longest line.
int64_t most_frequent(const int64_t* candidate, int64_t queries, int64_t count, int64_t limit, int64_t* kept,
                      int threads);

}  // namespace hmn
