// AVX-512 with VNNI. Compiled with flags of its own, so no std:: templates here: the linker might use their code
// in other files, on processors without AVX-512.
#include <immintrin.h>

#include "simd.hpp"

namespace hmn {
namespace {

// sum += codes * query, as _mm512_dpbusd_epi32. In assembly, since GCC copies every sum around the intrinsic.
inline void add_products(__m512i& sum, __m512i codes, __m512i query) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(query));
}

inline __m512i group_of(const int8_t* query, int group) {
    return _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(query + group * kGroup));
}

// With few queries, each sum is split into several chains: additions to a single sum would wait for one another.
template <int QUERIES, int PANELS, int BITS>
void score_tile(Tile& tile) {
    constexpr int CHAINS = QUERIES * PANELS >= 8 ? 1 : QUERIES * PANELS >= 4 || BITS < 8 ? 2 : 4;
    const int groups = tile.groups;
    const int64_t panel_bytes = int64_t(groups) * kLine;
    const __m512i lowest = _mm512_set1_epi8((1 << BITS) - 1);
    __m512i sums[CHAINS][QUERIES][PANELS];
#pragma GCC unroll 4
    for (int c = 0; c < CHAINS; ++c)
#pragma GCC unroll 8
        for (int j = 0; j < QUERIES; ++j)
            for (int p = 0; p < PANELS; ++p) sums[c][j][p] = _mm512_setzero_si512();
    const uint8_t* line = tile.codes;
    const auto add_line = [&](int g, int chain) __attribute__((always_inline)) {
        __m512i whole[PANELS], codes[PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) whole[p] = _mm512_loadu_si512(line + g * kLine + p * panel_bytes);
#pragma GCC unroll 8
        for (int part = 0; part < 8 / BITS; ++part) {
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p)
                codes[p] = BITS == 8 ? whole[p] : _mm512_and_si512(_mm512_srli_epi16(whole[p], part * BITS), lowest);
#pragma GCC unroll 8
            for (int j = 0; j < QUERIES; ++j) {
                const __m512i query = group_of(tile.query[j], g + part * groups);
#pragma GCC unroll 2
                for (int p = 0; p < PANELS; ++p)
                    add_products(sums[part % 2 ? CHAINS - 1 : chain][j][p], codes[p], query);
            }
        }
    };
    int g = 0;
    if (BITS == 8 && CHAINS > 1) {
        for (; g + CHAINS <= groups; g += CHAINS)
#pragma GCC unroll 4
            for (int c = 0; c < CHAINS; ++c) add_line(g + c, c);
    }
    for (; g < groups; ++g) add_line(g, 0);
    __m512i sum[QUERIES][PANELS];
#pragma GCC unroll 8
    for (int j = 0; j < QUERIES; ++j)
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) {
            sum[j][p] = sums[0][j][p];
#pragma GCC unroll 4
            for (int c = 1; c < CHAINS; ++c) sum[j][p] = _mm512_add_epi32(sum[j][p], sums[c][j][p]);
        }
#pragma GCC unroll 8
    for (int j = 0; j < QUERIES; ++j) {
        const __m512 base = _mm512_set1_ps(tile.base[j]), scale = _mm512_set1_ps(tile.scale[j]);
        const __m512 shift = _mm512_set1_ps(tile.shift[j]), threshold = _mm512_set1_ps(tile.threshold[j]);
        uint32_t reaches = 0;
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) {
            const __m512 along = _mm512_loadu_ps(tile.along + p * kLanes);
            const __m512 step = _mm512_loadu_ps(tile.step + p * kLanes);
            const __m512 product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j][p]), scale, shift);
            const __m512 value = _mm512_fmadd_ps(step, product, _mm512_mul_ps(along, base));
            _mm512_storeu_ps(tile.score[j] + p * kLanes, value);
            reaches |= uint32_t(_mm512_cmp_ps_mask(value, threshold, _CMP_GE_OQ)) << (p * kLanes);
        }
        tile.reaches[j] = reaches;
    }
}

template <int PANELS, int BITS>
void by_queries(Tile& tile) {
    switch (tile.queries) {
        case 1: return score_tile<1, PANELS, BITS>(tile);
        case 2: return score_tile<2, PANELS, BITS>(tile);
        case 3: return score_tile<3, PANELS, BITS>(tile);
        case 4: return score_tile<4, PANELS, BITS>(tile);
        case 5: return score_tile<5, PANELS, BITS>(tile);
        case 6: return score_tile<6, PANELS, BITS>(tile);
        case 7: return score_tile<7, PANELS, BITS>(tile);
        default: return score_tile<8, PANELS, BITS>(tile);
    }
}

void score(Tile& tile) {
    switch (tile.bits) {
        case 16: return avx2().score(tile);
        case 8: return tile.panels == 2 ? by_queries<2, 8>(tile) : by_queries<1, 8>(tile);
        case 4: return tile.panels == 2 ? by_queries<2, 4>(tile) : by_queries<1, 4>(tile);
        default: return tile.panels == 2 ? by_queries<2, 1>(tile) : by_queries<1, 1>(tile);
    }
}

inline __m512 load(const void* row, int64_t i, Storage storage, __mmask16 mask) {
    if (storage == Storage::float32) return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(row) + i);
    const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(row) + i);
    if (storage == Storage::float16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

template <Storage STORAGE>
float dot_of(const float* query, const void* row, int64_t features) {
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t i = 0;
    for (; i + 64 <= features; i += 64)
        for (int part = 0; part < 4; ++part)
            sum[part] = _mm512_fmadd_ps(_mm512_loadu_ps(query + i + 16 * part),
                                        load(row, i + 16 * part, STORAGE, 0xffff), sum[part]);
    for (; i < features; i += 16) {
        const __mmask16 mask = features - i >= 16 ? 0xffff : __mmask16((1u << (features - i)) - 1);
        sum[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, query + i), load(row, i, STORAGE, mask), sum[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

float dot(const float* query, const void* row, int64_t features, Storage storage) {
    switch (storage) {
        case Storage::float32: return dot_of<Storage::float32>(query, row, features);
        case Storage::float16: return dot_of<Storage::float16>(query, row, features);
        default: return dot_of<Storage::bfloat16>(query, row, features);
    }
}

void add(float* sum, float weight, const void* row, int64_t features, Storage storage) {
    const __m512 times = _mm512_set1_ps(weight);
    for (int64_t i = 0; i < features; i += 16) {
        const __mmask16 mask = features - i >= 16 ? 0xffff : __mmask16((1u << (features - i)) - 1);
        const __m512 old = _mm512_maskz_loadu_ps(mask, sum + i);
        _mm512_mask_storeu_ps(sum + i, mask, _mm512_fmadd_ps(times, load(row, i, storage, mask), old));
    }
}

template <Storage STORAGE>
void dots_of(const float* const* query, const void* const* row, int64_t features, float* product) {
    __m512 sum[kBlockQueries][kBlockRows];
#pragma GCC unroll 4
    for (int j = 0; j < kBlockQueries; ++j)
#pragma GCC unroll 4
        for (int r = 0; r < kBlockRows; ++r) sum[j][r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < features; i += kLanes) {
        const __mmask16 mask = features - i >= kLanes ? 0xffff : __mmask16((1u << (features - i)) - 1);
        __m512 part[kBlockQueries];
#pragma GCC unroll 4
        for (int j = 0; j < kBlockQueries; ++j) part[j] = _mm512_maskz_loadu_ps(mask, query[j] + i);
#pragma GCC unroll 4
        for (int r = 0; r < kBlockRows; ++r) {
            const __m512 values = load(row[r], i, STORAGE, mask);
#pragma GCC unroll 4
            for (int j = 0; j < kBlockQueries; ++j) sum[j][r] = _mm512_fmadd_ps(part[j], values, sum[j][r]);
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < kBlockQueries; ++j)
#pragma GCC unroll 4
        for (int r = 0; r < kBlockRows; ++r) product[j * kBlockRows + r] = _mm512_reduce_add_ps(sum[j][r]);
}

void dots(const float* const* query, const void* const* row, int64_t features, Storage storage, float* product) {
    switch (storage) {
        case Storage::float32: return dots_of<Storage::float32>(query, row, features, product);
        case Storage::float16: return dots_of<Storage::float16>(query, row, features, product);
        default: return dots_of<Storage::bfloat16>(query, row, features, product);
    }
}

template <int LINES>
void screen_lines(Screen& run) {
    const __m512i low_half = _mm512_set1_epi8(15), upper = _mm512_set1_epi32(int(0xffff0000u));
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512 scale = _mm512_set1_ps(run.scale), shift = _mm512_set1_ps(run.shift);
    const __m512 base = _mm512_set1_ps(run.base), threshold = _mm512_set1_ps(run.threshold);
    __m512i low[LINES], high[LINES];
#pragma GCC unroll 4
    for (int line = 0; line < LINES; ++line) {
        low[line] = _mm512_loadu_si512(run.tables + 2 * line * kLine);
        high[line] = _mm512_loadu_si512(run.tables + (2 * line + 1) * kLine);
    }
    constexpr int64_t bytes = (LINES + 1) * kLine;
    int64_t count = 0, done = 0;
    const uint8_t* block = run.block;
    for (; done < run.panels; ++done, block += bytes) {
        if (!run.least.met(run.bound[2 * done] * run.base, run.bound[2 * done + 1] * run.width)) break;
#pragma GCC unroll 5
        for (int line = 0; line <= LINES; ++line) _mm_prefetch(block + 4 * bytes + line * kLine, _MM_HINT_T0);
        __m512i sum = _mm512_setzero_si512(), other = _mm512_setzero_si512();  // bytes: those of four parts
#pragma GCC unroll 4
        for (int line = 0; line < LINES; ++line) {
            const __m512i both = _mm512_loadu_si512(block + (line + 1) * kLine);
            sum = _mm512_add_epi8(sum, _mm512_shuffle_epi8(low[line], _mm512_and_si512(both, low_half)));
            other = _mm512_add_epi8(
                other, _mm512_shuffle_epi8(high[line], _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half)));
        }
        sum = _mm512_add_epi8(sum, other);
        const __m512i wide = _mm512_add_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(sum)),
                                              _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(sum, 1)));
        const __m256i sums = _mm256_add_epi16(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64(wide, 1));
        const __m512i factors = _mm512_loadu_si512(block);
        const __m512 along = _mm512_castsi512_ps(_mm512_and_si512(factors, upper));
        const __m512 step = _mm512_castsi512_ps(_mm512_slli_epi32(factors, 16));
        const __m512 total = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
        const __m512 value = _mm512_fmadd_ps(step, _mm512_fmadd_ps(total, scale, shift), _mm512_mul_ps(along, base));
        const __mmask16 passes = _mm512_cmp_ps_mask(value, threshold, _CMP_GE_OQ);
        const __m512i slots = _mm512_add_epi32(lanes, _mm512_set1_epi32(run.slot + int32_t(done * kLanes)));
        _mm512_storeu_si512(run.passed + count, _mm512_maskz_compress_epi32(passes, slots));
        count += __builtin_popcount(passes);
    }
    run.count = count;
    run.done = done;
}

void screen(Screen& run) {
    switch (run.lines) {
        case 1: return screen_lines<1>(run);
        case 2: return screen_lines<2>(run);
        case 3: return screen_lines<3>(run);
        default: return screen_lines<4>(run);
    }
}

// Products of one row of codes, in 16 sums that are still to be added up.
inline __m512i row_products(const uint8_t* codes, int64_t bytes, const int8_t* query) {
    const __m512i low_half = _mm512_set1_epi8(15);
    __m512i sum = _mm512_setzero_si512(), other = _mm512_setzero_si512();
    int64_t i = 0;
    for (; i + kLine <= bytes; i += kLine) {
        const __m512i both = _mm512_loadu_si512(codes + i);
        add_products(sum, _mm512_and_si512(both, low_half), _mm512_loadu_si512(query + i));
        add_products(other, _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half),
                     _mm512_loadu_si512(query + bytes + i));
    }
    if (i < bytes) {  // 32 bytes: low halves and high ones side by side
        const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
        const __m512i halves = _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi16(both, 4), 1);
        const __m256i one = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + i));
        const __m256i two = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + bytes + i));
        add_products(sum, _mm512_and_si512(halves, low_half), _mm512_inserti64x4(_mm512_castsi256_si512(one), two, 1));
    }
    return _mm512_add_epi32(sum, other);
}

void rows(const uint8_t* rows, int64_t bytes, const int32_t* row, int64_t count, const int8_t* query, int32_t* sum) {
    int64_t r = 0;
    for (; r + 4 <= count; r += 4) {  // four rows share the steps of adding up
        const __m512i a = row_products(rows + row[r] * bytes, bytes, query);
        const __m512i b = row_products(rows + row[r + 1] * bytes, bytes, query);
        const __m512i c = row_products(rows + row[r + 2] * bytes, bytes, query);
        const __m512i d = row_products(rows + row[r + 3] * bytes, bytes, query);
        const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(sum + r),
                         _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
    }
    for (; r < count; ++r) sum[r] = _mm512_reduce_add_epi32(row_products(rows + row[r] * bytes, bytes, query));
}

void products(const float* vector, const float* centroid, int64_t parts, int64_t width, float* product) {
    for (int64_t part = 0; part < parts; ++part, product += kLanes) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < width; ++i, ++vector, centroid += kLanes)
            sum = _mm512_fmadd_ps(_mm512_set1_ps(*vector), _mm512_loadu_ps(centroid), sum);
        _mm512_storeu_ps(product, sum);
    }
}

inline __m512 bound_of(const float* base, const float* a, const float* s, int64_t i, __m512 width) {
    return _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(base + i),
                           _mm512_mul_ps(_mm512_loadu_ps(s + i), width));
}

int64_t reaching(const float* base, const float* a, const float* s, int64_t count, float width, Least least,
                 int32_t* passed) {
    int64_t found = 0;
    const __m512 bound = _mm512_set1_ps(least.bound), along = _mm512_set1_ps(least.along), wide = _mm512_set1_ps(width);
    for (int64_t i = 0; i < count; i += kLanes) {
        const __m512 directed = _mm512_mul_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(base + i));
        for (uint32_t passes = _mm512_cmp_ps_mask(bound_of(base, a, s, i, wide), bound, _CMP_GE_OQ) |
                               _mm512_cmp_ps_mask(directed, along, _CMP_GE_OQ);
             passes; passes &= passes - 1)
            passed[found++] = int32_t(i) + __builtin_ctz(passes);
    }
    return found;
}

void bounds(const float* base, const float* a, const float* s, int64_t count, float width, float* bound,
            float* largest) {
    const __m512 wide = _mm512_set1_ps(width);
    for (int64_t i = 0; i < count; i += kLanes) {
        const __m512 own = bound_of(base, a, s, i, wide);
        _mm512_storeu_ps(bound + i, own);
        largest[i / kLanes] = _mm512_reduce_max_ps(own);
    }
}

}  // namespace

Simd avx512() { return {"avx512", score, dot, dots, add, screen, rows, products, reaching, bounds}; }

}  // namespace hmn
