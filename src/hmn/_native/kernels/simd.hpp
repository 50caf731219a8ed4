// What each instruction set implements: scores of coded entries, and inner products of rows in full.
//
// A panel holds 16 entries. Its codes lie group by group, four features a group: 16 entries x 4 bytes, so that
// one 64-byte line meets one broadcast group of a query. With fewer bits a feature than eight, the lowest of a
// byte belong to group g, the next to group g + groups, and so on. With 16 bits a group is two features, signed,
// of codes and of queries.
#pragma once

#include <cstdint>

namespace hmn {

constexpr int kLanes = 16;       // entries of a panel
constexpr int kGroup = 4;        // features of a group
constexpr int kLine = kLanes * kGroup;
constexpr int kTileQueries = 8;  // most queries of a tile
constexpr int kTilePanels = 2;   // most panels of a tile
constexpr int kTile = kLanes * kTilePanels;

// A tile: queries x panels. The score of an entry is
//   along * base + step * (scale * sum(code * query) + shift).
struct Tile {
    const uint8_t* codes;        // panels, one after the other
    int panels;                  // 1 or 2
    int groups;                  // lines of a panel
    int bits;                    // 16, 8, 4 or 1
    const float* along;          // of each entry
    const float* step;           // of each entry
    int queries;                 // 1 to kTileQueries; what follows has as many
    const int8_t* const* query;
    const float* base;
    const float* scale;
    const float* shift;
    const float* threshold;
    float score[kTileQueries][kTile];    // out
    uint32_t reaches[kTileQueries];      // out: bit i is set where score[i] >= threshold
};

enum class Storage : int { float32 = 0, float16 = 1, bfloat16 = 2 };

constexpr int kBlockQueries = 4;  // queries and
constexpr int kBlockRows = 4;     // rows of a block of inner products

struct Simd {
    const char* name;
    void (*score)(Tile&);
    float (*dot)(const float* query, const void* row, int64_t features, Storage);
    // Inner products of kBlockQueries queries with kBlockRows rows, query by query.
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
