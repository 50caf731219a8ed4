// What each instruction set implements: scores of coded entries, and inner products of rows in full.
//
// A panel holds 16 entries. Its codes lie group by group, four features per group: 16 entries x 4 bytes, so that
// one 64-byte line is multiplied by one broadcast group of a query. With fewer than eight bits per feature, the
// lowest bits of a byte belong to group g, the next to group g + groups, and so on. With 16 bits, a group is two
// features, and codes and queries are signed.
#pragma once

#include <cstdint>

namespace hmn {

constexpr int kLanes = 16;       // entries per panel
constexpr int kGroup = 4;        // bytes of an entry per line: four features of 8 bits
constexpr int kLine = kLanes * kGroup;  // bytes of a group for all entries of a panel
constexpr int kTileQueries = 8;  // queries per tile, at most
constexpr int kTilePanels = 2;   // panels per tile, at most
constexpr int kTile = kLanes * kTilePanels;  // entries per tile, at most

// A tile: some queries times some panels. The score of an entry for a query is
//   along * base + step * (scale * sum(code * query) + shift).
struct Tile {
    const uint8_t* codes;        // panels, one after another
    int panels;                  // 1 or 2
    int groups;                  // lines per panel
    int bits;                    // 16, 8, 4 or 1
    const float* along;          // by entry
    const float* step;           // by entry
    int queries;                 // 1 to kTileQueries: length of the arrays below
    const int8_t* const* query;
    const float* base;
    const float* scale;
    const float* shift;
    const float* threshold;
    float score[kTileQueries][kTile];    // out
    uint32_t reaches[kTileQueries];      // out: bit i is set where score[i] >= threshold
};

constexpr int kParts = 8;        // parts of a short code per line: 4 bits for each of them and each entry of a panel
constexpr int kMostParts = 32;   // parts of a short code, at most

// What a panel must promise to be entered: `bound` by parts along the direction and rests together, or `along` by the
// parts along the direction alone.
struct Least {
    float bound, along;
    bool met(float directed, float rest) const { return directed + rest >= bound || directed >= along; }
};

// A run of panels whose entries are screened for one query by short codes. An entry's score is
//   along * base + step * (scale * sum(table of part j [code of part j]) + shift).
struct Screen {
    const uint8_t* block;        // first panel: a line of factors, then the lines of codes
    int lines;                   // lines of codes per panel: 1 to kMostParts / kParts
    const float* bound;          // (panels, 2): what panels promise, A * base + S * width
    int64_t panels;              // at most
    const uint8_t* tables;       // per line of codes, 2 x 64 bytes: tables of the low halves of bytes, of the high ones
    float scale, shift, base, width;
    Least least;                 // the first panel that does not promise that much ends the run
    float threshold;             // entries below do not pass
    int32_t slot;                // of the first entry
    int32_t* passed;             // out: slots of entries that pass; room for 16 more than there are entries
    int64_t count;               // out: number of these
    int64_t done;                // out: panels screened
};

enum class Storage : int { float32 = 0, float16 = 1, bfloat16 = 2 };

constexpr int kBlockQueries = 4;  // queries per block of inner products
constexpr int kBlockRows = 4;     // rows per block of inner products

struct Simd {
    const char* name;
    void (*score)(Tile&);
    float (*dot)(const float* query, const void* row, int64_t features, Storage);
    // Inner products of kBlockQueries queries with kBlockRows rows: product[query * kBlockRows + row].
    void (*dots)(const float* const* query, const void* const* row, int64_t features, Storage, float* product);
    // Add a row times its weight to a sum.
    void (*add)(float* sum, float weight, const void* row, int64_t features, Storage);
    void (*screen)(Screen&);
    // Sums of code * query over the codes of 4 bits in some of the rows: each of `bytes`, a multiple of 32, of which the
    // first 4 are no codes. The low halves of bytes are multiplied by `query`, the high ones by `query + bytes`; both
    // begin with 4 zeros.
    void (*rows)(const uint8_t* rows, int64_t bytes, const int32_t* row, int64_t count, const int8_t* query,
                 int32_t* sum);
    // Products of the parts of a vector with the centroids of a short code: product[part * 16 + code] is the sum over
    // `width` places i of vector[part * width + i] * centroid[(part * width + i) * 16 + code].
    void (*products)(const float* vector, const float* centroid, int64_t parts, int64_t width, float* product);
    // Numbers i, of `count`, a multiple of kLanes, of panels that promise enough by a[i] * base[i] and s[i] * width.
    int64_t (*reaching)(const float* base, const float* a, const float* s, int64_t count, float width, Least least,
                        int32_t* passed);
    // The sums of both, and the largest of each kLanes of them.
    void (*bounds)(const float* base, const float* a, const float* s, int64_t count, float width, float* bound,
                   float* largest);
};

Simd portable();
#if defined(__x86_64__)
Simd avx2();
Simd avx512();
bool has_avx2();
bool has_avx512();
#endif

}  // namespace hmn
