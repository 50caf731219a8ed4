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

enum class Storage : int { float32 = 0, float16 = 1, bfloat16 = 2 };

constexpr int kBlockQueries = 4;  // queries per block of inner products
constexpr int kBlockRows = 4;     // rows per block of inner products

struct Simd {
    const char* name;
    void (*score)(Tile&);
    float (*dot)(const float* query, const void* row, int64_t features, Storage);
    // Inner products of kBlockQueries queries with kBlockRows rows: product[query * kBlockRows + row].
    void (*dots)(const float* const* query, const void* const* row, int64_t features, Storage, float* product);
};

Simd portable();
#if defined(__x86_64__)
Simd avx2();
Simd avx512();
bool has_avx2();
bool has_avx512();
#endif

}  // namespace hmn
