// Search through groups of cells that lie by falling length, in panels that promise how much they can score.
#pragma once

#include "search.hpp"

namespace hmn {

// Linear maps of a query. Without either, it is the query itself.
struct Map {
    const int32_t* chosen;    // (count) features of the query, -1 for a zero; or null
    const float* projection;  // (count, features); or null
    int64_t count;
};

struct Groups {
    Level routing;          // one list, whose children are the lists of `cells`
    Level cells;            // with short codes; their children are rows of the keys
    Map routed;             // what queries are routed by
    Map parted;             // (parts * width) places of the features of each part of a short code
    const float* centroid;  // (parts, width, 16)
    int64_t parts, width;
    const float* front;     // (2, slots of `routing`): A and S of the first panel of each group, see Level::bound
};

// How far a search looks.
struct Limits {
    std::vector<float> reach;  // one per round, ascending: a panel may score A * base + reach * S * |query|
    float slack;               // what short codes may lose: slack * step * |query|
    int64_t first;             // entries looked at first, for a first estimate of the lowest wanted score
    int64_t kept;              // rows scored in full, at least k
    int64_t wanted;            // results, from the best on, that must be found; k or more for all
    float own;                 // weight of the lowest wanted score in what panels must promise; the other weight is that of
    float spread;              // what groups promise by their directions: the mean, and `spread` standard deviations
};

// The best k rows per query. With `tiles`, all entries of the panels that are reached are scored by their codes of
// 4 bits, as pays for many queries; without, only those that pass by their short codes. Returns the number of queries
// with fewer than `places` results; or -1, without results, if a query is not finite.
int64_t search_groups(const Simd&, const Queries&, const Groups&, const Limits&, const Rows& keys, int64_t places,
                      bool tiles, Found, Spent, int threads);

}  // namespace hmn
