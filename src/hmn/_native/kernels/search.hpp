// Search through levels of lists of coded entries, and scoring of candidates in full.
#pragma once

#include <cstdint>
#include <vector>

#include "bounds.hpp"
#include "numbers.hpp"
#include "simd.hpp"

namespace hmn {

inline int64_t panels_of(int64_t entries) { return (entries + kLanes - 1) / kLanes; }

// The first slot of a list, if all its entries lie within `panels`.
inline int64_t first_slot(int64_t first_panel, int64_t length, int64_t panels) {
    below(length, panels * kLanes + 1, "the length of a list");
    return below(first_panel, panels - panels_of(length) + 1, "the first panel of a list") * kLanes;
}

// Which rows queries may find: those whose number lies from a lower to an upper limit, or whose mask is set.
struct Filter {
    const uint8_t* mask = nullptr;     // (count) by cell; or null
    const int64_t* number = nullptr;   // (count) by cell; or null
    int64_t count = 0;                 // cells from here on are found by no query
    const int64_t* low = nullptr;      // by query, or one for all
    const int64_t* high = nullptr;
    bool shared = true;                // one set for all queries
    const int64_t* cell = nullptr;     // by row; null where cells are rows
    bool given = false;                // without, all rows are allowed
    bool allows(int64_t query, int64_t row) const {
        const int64_t at = cell ? cell[row] : row;
        if (uint64_t(at) >= uint64_t(count)) return false;
        if (mask) return mask[at];
        const int64_t i = shared ? 0 : query;
        return number[at] >= low[i] && number[at] <= high[i];
    }
};

constexpr int kInFull = 32;  // value of Level::bits for entries without codes, which are scored by their keys

// One level: entries in lists, each list a run of whole panels. The children of a level are the lists of the next
// level; the children of the last level are rows of the keys.
struct Level {
    const uint8_t* codes;        // (panels, groups, 16, 4)
    const float* along;          // (panels * 16)
    const float* step;           // (panels * 16)
    const int32_t* child;        // (panels * 16)
    const int64_t* first_panel;  // (lists)
    const int32_t* length;       // (lists) entries per list
    int64_t lists, panels;
    int64_t children;            // all children are below this
    int bits;                    // per feature: 1, 4 or 8; 16 for screened(); or kInFull
    int groups;
    const float* weight;         // by child: factor of the scores that are compared; or null
    const int32_t* held;         // by child: what it holds, entries of empty ones are passed over; or null
    const uint8_t* screen;       // (panels, lines, 64) short codes; null, as the two below, for lists without
    int lines;
    const uint8_t* fine;         // (panels * 16, fine_bytes) codes, one row per entry
    int64_t fine_bytes;
    const float* bound;          // (panels, 2)
    Filter filter{};             // entries whose children it does not allow are passed over
    int64_t child_of(int64_t slot) const { return below(child[slot], children, "what an entry stands for"); }
    int64_t slot_of(int64_t list) const { return first_slot(first_panel[list], length[list], panels); }
    int64_t entry_bytes() const { return bits == kInFull ? 0 : int64_t(groups) * kGroup + 8; }  // code, along, step
};

struct Rows {
    const void* data;
    int64_t count, features;
    Storage storage;
    int64_t bytes() const { return features * (storage == Storage::float32 ? 4 : 2); }
    const char* at(int64_t row) const { return static_cast<const char*>(data) + row * bytes(); }
    void fetch(int64_t row) const {  // prefetch
        for (int64_t at = 0; at < bytes(); at += 64) __builtin_prefetch(this->at(row) + at);
    }
    void load(int64_t row, float* vector) const {
        const char* data = at(row);
        if (storage == Storage::float32) {
            std::memcpy(vector, data, features * 4);
            return;
        }
        const bool half = storage == Storage::float16;
        for (int64_t i = 0; i < features; ++i) {
            uint16_t bits;
            std::memcpy(&bits, data + 2 * i, 2);
            vector[i] = half ? from_half(bits) : from_brain(bits);
        }
    }
};

struct Queries {
    const float* data;
    int64_t count, features;
    const float* at(int64_t row) const { return data + row * features; }
};

// Results per query, best first; unused places hold -inf and -1.
struct Found {
    float* score;    // (queries, k)
    int64_t* row;    // (queries, k)
    int64_t k;
};

// Cost of a search.
struct Spent {
    float* reads;      // (queries) bytes read, divided by the bytes of a float32 key
    int64_t* scored;   // (queries) rows scored in full
};

// How many allowed entries a query looks at in the last level, besides those of `lists` lists. Lists without any are
// passed over.
struct Enough {
    const float* least;     // (queries), in estimated entries; null: every list that leads to the last level is entered
    int64_t lists;          // number of lists with allowed entries that are entered at least
    int64_t looked, most;   // see count_allowed
    uint8_t* lacking;       // (queries) out: whether the lists found had too few
};

// Lists of the first level that each query enters, and the inner product of the query with the direction of each.
struct Begin {
    const int64_t* list;  // (queries, count), -1 for none; null: every query enters list 0, with a product of 0
    const float* base;    // (queries, count)
    int64_t count;        // 1 if there are no lists
};

// The best k rows per query. `direction[l]` holds the vectors of the lists of level l + 1; if it is null, a list's
// vector is what its code stands for. The best `probes[l]` of them are entered. Returns the number of queries with
// fewer than `places` results; or -1, without results, if a query is not finite.
int64_t search(const Simd&, const Queries&, const std::vector<Level>&, const std::vector<Rows>& direction,
               const std::vector<int64_t>& probes, const Begin&, const Rows& keys, int64_t rescored, const Enough&,
               int64_t places, Found, Spent, int threads);

// The best k rows per query among all entries of one level, by an upper bound of each row's score. An entry's
// `along` is the length of its decoded vector, plus the distance of that vector from the row divided by `ratio`.
// At most `room` rows are scored in full; `certain` (queries) is 1 where no other row can be among the best.
// Returns false, without results, if a query is not finite.
bool screened(const Simd&, const Queries&, const Level&, float ratio, const Rows& keys, int64_t room, Found,
              uint8_t* certain, int threads);

// Entries of a list that the filter of its level allows to a query, estimated from its first `looked` entries, or from
// as many as it takes to find one, but at most `most`.
float count_allowed(const Level&, int64_t list, int64_t query, int64_t looked, int64_t most);

// The best k of the candidates (queries, count) of each query, scored in full; -1 and repeats are skipped.
void best_of(const Simd&, const Queries&, const Rows& keys, const int64_t* candidate, int64_t count, Found,
             int threads);

// Encode the rows (count) of `vectors` into the slots (count) of a level. The part of a vector along the direction
// of its list, a row of `direction`, is stored in `along`, and the rest in codes; without directions, everything is in
// the codes.
void encode(const Level&, uint8_t* codes, float* along, float* step, const Rows& vectors, const int64_t* row,
            int64_t count, const int64_t* list, const Rows& direction, const int64_t* slot, int threads);

}  // namespace hmn
