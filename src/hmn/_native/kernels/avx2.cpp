// AVX2 with FMA and F16C. Compiled with flags of its own, like avx512.cpp: no std:: templates here.
#include <immintrin.h>

#include "simd.hpp"

namespace hmn {
namespace {

constexpr int kWide = 8;     // lanes of a register: entries of half a panel
constexpr int kQueries = 4;  // queries scored at a time

// Sums of code * query for the 8 entries of half a line. Codes stay below 16 in each product, so that 16-bit sums
// of two cannot overflow; an 8-bit code is split into two of 4 bits.
template <int BITS>
inline __m256i add_line(__m256i sum, __m256i low, __m256i high, const int8_t* query, int g, int groups) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i group = _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query + g * kGroup));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(low, group), ones));
    if (BITS == 8) {
        const __m256i sixteen = _mm256_set1_epi16(16);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(high, group), sixteen));
    }
    const __m256i other = _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query + (g + groups) * kGroup));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(high, other), ones));
}

// As add_line, with one bit per feature: 16-bit sums over all eight bits of a byte cannot overflow either.
inline __m256i add_bits(__m256i sum, __m256i line, const int8_t* query, int g, int groups) {
    const __m256i lowest = _mm256_set1_epi8(1);
    __m256i products = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int bit = 0; bit < 8; ++bit) {
        const int8_t* part = query + (g + bit * groups) * kGroup;
        const __m256i group = _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(part));
        const __m256i codes = _mm256_and_si256(_mm256_srli_epi16(line, bit), lowest);
        products = _mm256_add_epi16(products, _mm256_maddubs_epi16(codes, group));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}

// sum += codes * query, by pairs of 16-bit numbers. In assembly, since GCC copies every sum around the intrinsics.
inline void add_pairs(__m256i& sum, __m256i codes, __m256i query) {
    __m256i products;
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(codes), "x"(query));
}

// A whole line of 16-bit codes.
template <int QUERIES>
inline void add_wide(__m256i (&sum)[QUERIES][2], const uint8_t* line, const int8_t* const* query, int g) {
    const __m256i one = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
    const __m256i other = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + kWide * kGroup));
#pragma GCC unroll 4
    for (int j = 0; j < QUERIES; ++j) {
        const __m256i group = _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query[j] + g * kGroup));
        add_pairs(sum[j][0], one, group);
        add_pairs(sum[j][1], other, group);
    }
}

template <int QUERIES, int BITS>
void score_part(Tile& tile, int first, int panel) {
    __m256i sum[QUERIES][2];
    for (int j = 0; j < QUERIES; ++j) sum[j][0] = sum[j][1] = _mm256_setzero_si256();
    const __m256i low_half = _mm256_set1_epi8(15);
    const uint8_t* line = tile.codes + int64_t(panel) * tile.groups * kLine;
    for (int g = 0; g < tile.groups; ++g, line += kLine) {
        if (BITS == 16) {
            add_wide<QUERIES>(sum, line, tile.query + first, g);
            continue;
        }
        for (int half = 0; half < 2; ++half) {
            const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + half * kWide * kGroup));
            if (BITS == 1) {
                for (int j = 0; j < QUERIES; ++j)
                    sum[j][half] = add_bits(sum[j][half], both, tile.query[first + j], g, tile.groups);
                continue;
            }
            const __m256i low = _mm256_and_si256(both, low_half);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
            for (int j = 0; j < QUERIES; ++j)
                sum[j][half] = add_line<BITS>(sum[j][half], low, high, tile.query[first + j], g, tile.groups);
        }
    }
    for (int j = 0; j < QUERIES; ++j) {
        const int row = first + j;
        const __m256 base = _mm256_set1_ps(tile.base[row]), scale = _mm256_set1_ps(tile.scale[row]);
        const __m256 shift = _mm256_set1_ps(tile.shift[row]), threshold = _mm256_set1_ps(tile.threshold[row]);
        for (int half = 0; half < 2; ++half) {
            const int at = panel * kLanes + half * kWide;
            const __m256 product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[j][half]), scale, shift);
            const __m256 value = _mm256_fmadd_ps(_mm256_loadu_ps(tile.step + at), product,
                                                 _mm256_mul_ps(_mm256_loadu_ps(tile.along + at), base));
            _mm256_storeu_ps(tile.score[row] + at, value);
            const int reaches = _mm256_movemask_ps(_mm256_cmp_ps(value, threshold, _CMP_GE_OQ));
            tile.reaches[row] |= uint32_t(reaches) << at;
        }
    }
}

template <int BITS>
void score_bits(Tile& tile) {
    for (int j = 0; j < tile.queries; ++j) tile.reaches[j] = 0;
    for (int panel = 0; panel < tile.panels; ++panel) {
        int first = 0;
        for (; first + kQueries <= tile.queries; first += kQueries) score_part<kQueries, BITS>(tile, first, panel);
        for (; first < tile.queries; ++first) score_part<1, BITS>(tile, first, panel);
    }
}

void score(Tile& tile) {
    switch (tile.bits) {
        case 16: return score_bits<16>(tile);
        case 8: return score_bits<8>(tile);
        case 4: return score_bits<4>(tile);
        default: return score_bits<1>(tile);
    }
}

template <Storage STORAGE>
inline __m256 load(const void* row, int64_t i) {
    if (STORAGE == Storage::float32) return _mm256_loadu_ps(static_cast<const float*>(row) + i);
    const __m128i half =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(row) + i));
    if (STORAGE == Storage::float16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

template <Storage STORAGE>
float dot_of(const float* query, const void* row, int64_t features) {
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int64_t i = 0;
    for (; i + 32 <= features; i += 32)
        for (int part = 0; part < 4; ++part)
            sum[part] = _mm256_fmadd_ps(_mm256_loadu_ps(query + i + kWide * part),
                                        load<STORAGE>(row, i + kWide * part), sum[part]);
    for (; i + kWide <= features; i += kWide)
        sum[0] = _mm256_fmadd_ps(_mm256_loadu_ps(query + i), load<STORAGE>(row, i), sum[0]);
    float parts[kWide];
    _mm256_storeu_ps(parts, _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
    float total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
    if (i < features) {
        const int64_t rest = features - i;
        const char* begin = static_cast<const char*>(row) + i * (STORAGE == Storage::float32 ? 4 : 2);
        total += portable().dot(query + i, begin, rest, STORAGE);
    }
    return total;
}

float dot(const float* query, const void* row, int64_t features, Storage storage) {
    switch (storage) {
        case Storage::float32: return dot_of<Storage::float32>(query, row, features);
        case Storage::float16: return dot_of<Storage::float16>(query, row, features);
        default: return dot_of<Storage::bfloat16>(query, row, features);
    }
}

template <Storage STORAGE>
void add_of(float* sum, float weight, const void* row, int64_t features) {
    const __m256 times = _mm256_set1_ps(weight);
    int64_t i = 0;
    for (; i + kWide <= features; i += kWide)
        _mm256_storeu_ps(sum + i, _mm256_fmadd_ps(times, load<STORAGE>(row, i), _mm256_loadu_ps(sum + i)));
    if (i < features) {
        const char* begin = static_cast<const char*>(row) + i * (STORAGE == Storage::float32 ? 4 : 2);
        portable().add(sum + i, weight, begin, features - i, STORAGE);
    }
}

void add(float* sum, float weight, const void* row, int64_t features, Storage storage) {
    switch (storage) {
        case Storage::float32: return add_of<Storage::float32>(sum, weight, row, features);
        case Storage::float16: return add_of<Storage::float16>(sum, weight, row, features);
        default: return add_of<Storage::bfloat16>(sum, weight, row, features);
    }
}

// Two rows at a time, since registers do not suffice for more.
template <Storage STORAGE>
void dots_of(const float* const* query, const void* const* row, int64_t features, float* product) {
    const int64_t whole = features / kWide * kWide;
    for (int first = 0; first < kBlockRows; first += 2) {
        __m256 sum[kBlockQueries][2];
        for (int j = 0; j < kBlockQueries; ++j) sum[j][0] = sum[j][1] = _mm256_setzero_ps();
        for (int64_t i = 0; i < whole; i += kWide) {
            const __m256 one = load<STORAGE>(row[first], i), other = load<STORAGE>(row[first + 1], i);
#pragma GCC unroll 4
            for (int j = 0; j < kBlockQueries; ++j) {
                const __m256 part = _mm256_loadu_ps(query[j] + i);
                sum[j][0] = _mm256_fmadd_ps(part, one, sum[j][0]);
                sum[j][1] = _mm256_fmadd_ps(part, other, sum[j][1]);
            }
        }
        for (int j = 0; j < kBlockQueries; ++j)
            for (int r = 0; r < 2; ++r) {
                float parts[kWide];
                _mm256_storeu_ps(parts, sum[j][r]);
                float total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) +
                              ((parts[4] + parts[5]) + (parts[6] + parts[7]));
                if (whole < features) {
                    const char* rest = static_cast<const char*>(row[first + r]) +
                                       whole * (STORAGE == Storage::float32 ? 4 : 2);
                    total += portable().dot(query[j] + whole, rest, features - whole, STORAGE);
                }
                product[j * kBlockRows + first + r] = total;
            }
    }
}

void dots(const float* const* query, const void* const* row, int64_t features, Storage storage, float* product) {
    switch (storage) {
        case Storage::float32: return dots_of<Storage::float32>(query, row, features, product);
        case Storage::float16: return dots_of<Storage::float16>(query, row, features, product);
        default: return dots_of<Storage::bfloat16>(query, row, features, product);
    }
}

// Sums of a panel's 16 entries over the tables, in 16-bit numbers.
inline __m256i table_sums(const uint8_t* codes, int lines, const uint8_t* tables) {
    const __m256i low_half = _mm256_set1_epi8(15);
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};  // bytes: those of two parts of 16 entries
    for (int line = 0; line < lines; ++line, codes += kLine, tables += 2 * kLine)
        for (int half = 0; half < 2; ++half) {
            const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half));
            const __m256i* table = reinterpret_cast<const __m256i*>(tables + 32 * half);
            const __m256i low = _mm256_and_si256(both, low_half);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
            sum[half] = _mm256_add_epi8(sum[half], _mm256_shuffle_epi8(_mm256_loadu_si256(table), low));
            sum[half] = _mm256_add_epi8(sum[half], _mm256_shuffle_epi8(_mm256_loadu_si256(table + 2), high));
        }
    const __m256i one = _mm256_add_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(sum[0])),
                                         _mm256_cvtepu8_epi16(_mm256_extracti128_si256(sum[0], 1)));
    const __m256i other = _mm256_add_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(sum[1])),
                                           _mm256_cvtepu8_epi16(_mm256_extracti128_si256(sum[1], 1)));
    return _mm256_add_epi16(one, other);
}

void screen(Screen& run) {
    const int64_t bytes = int64_t(run.lines + 1) * kLine;
    const __m256 scale = _mm256_set1_ps(run.scale), shift = _mm256_set1_ps(run.shift);
    const __m256 base = _mm256_set1_ps(run.base), threshold = _mm256_set1_ps(run.threshold);
    const __m256i upper = _mm256_set1_epi32(int(0xffff0000u));
    int64_t count = 0, done = 0;
    const uint8_t* block = run.block;
    for (; done < run.panels; ++done, block += bytes) {
        if (!run.least.met(run.bound[2 * done] * run.base, run.bound[2 * done + 1] * run.width)) break;
        const __m256i sums = table_sums(block + kLine, run.lines, run.tables);
        const __m128i part[2] = {_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)};
        uint32_t passes = 0;
        for (int half = 0; half < 2; ++half) {
            const __m256i factors = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 32 * half));
            const __m256 along = _mm256_castsi256_ps(_mm256_and_si256(factors, upper));
            const __m256 step = _mm256_castsi256_ps(_mm256_slli_epi32(factors, 16));
            const __m256 sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(part[half]));
            const __m256 value = _mm256_fmadd_ps(step, _mm256_fmadd_ps(sum, scale, shift), _mm256_mul_ps(along, base));
            passes |= uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(value, threshold, _CMP_GE_OQ))) << (8 * half);
        }
        for (; passes; passes &= passes - 1)
            run.passed[count++] = run.slot + int32_t(done * kLanes) + __builtin_ctz(passes);
    }
    run.count = count;
    run.done = done;
}

void rows(const uint8_t* rows, int64_t bytes, const int32_t* row, int64_t count, const int8_t* query, int32_t* sums) {
    const __m256i low_half = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    for (int64_t r = 0; r < count; ++r) {
        const uint8_t* codes = rows + row[r] * bytes;
        __m256i sum = _mm256_setzero_si256();
        for (int64_t i = 0; i < bytes; i += 32) {
            const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
            const __m256i low = _mm256_maddubs_epi16(
                _mm256_and_si256(both, low_half), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + i)));
            const __m256i high =
                _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(both, 4), low_half),
                                     _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + bytes + i)));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(low, high), ones));
        }
        __m128i part = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        part = _mm_add_epi32(part, _mm_shuffle_epi32(part, 0x4e));
        sums[r] = _mm_cvtsi128_si32(_mm_add_epi32(part, _mm_shuffle_epi32(part, 0xb1)));
    }
}

void products(const float* vector, const float* centroid, int64_t parts, int64_t width, float* product) {
    for (int64_t part = 0; part < parts; ++part, product += kLanes) {
        __m256 low = _mm256_setzero_ps(), high = low;
        for (int64_t i = 0; i < width; ++i, ++vector, centroid += kLanes) {
            const __m256 value = _mm256_broadcast_ss(vector);
            low = _mm256_fmadd_ps(value, _mm256_loadu_ps(centroid), low);
            high = _mm256_fmadd_ps(value, _mm256_loadu_ps(centroid + kWide), high);
        }
        _mm256_storeu_ps(product, low);
        _mm256_storeu_ps(product + kWide, high);
    }
}

inline __m256 bound_of(const float* base, const float* a, const float* s, int64_t i, __m256 width) {
    return _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(base + i),
                           _mm256_mul_ps(_mm256_loadu_ps(s + i), width));
}

int64_t reaching(const float* base, const float* a, const float* s, int64_t count, float width, Least least,
                 int32_t* passed) {
    int64_t found = 0;
    const __m256 bound = _mm256_set1_ps(least.bound), along = _mm256_set1_ps(least.along), wide = _mm256_set1_ps(width);
    for (int64_t i = 0; i < count; i += kWide) {
        const __m256 directed = _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(base + i));
        const __m256 meets = _mm256_or_ps(_mm256_cmp_ps(bound_of(base, a, s, i, wide), bound, _CMP_GE_OQ),
                                          _mm256_cmp_ps(directed, along, _CMP_GE_OQ));
        for (int passes = _mm256_movemask_ps(meets); passes; passes &= passes - 1)
            passed[found++] = int32_t(i) + __builtin_ctz(passes);
    }
    return found;
}

void bounds(const float* base, const float* a, const float* s, int64_t count, float width, float* bound,
            float* largest) {
    const __m256 wide = _mm256_set1_ps(width);
    for (int64_t i = 0; i < count; i += kLanes) {
        const __m256 one = bound_of(base, a, s, i, wide), other = bound_of(base, a, s, i + kWide, wide);
        _mm256_storeu_ps(bound + i, one);
        _mm256_storeu_ps(bound + i + kWide, other);
        const __m256 both = _mm256_max_ps(one, other);
        __m128 most = _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
        most = _mm_max_ps(most, _mm_movehl_ps(most, most));
        largest[i / kLanes] = _mm_cvtss_f32(_mm_max_ss(most, _mm_shuffle_ps(most, most, 1)));
    }
}

}  // namespace

Simd avx2() { return {"avx2", score, dot, dots, add, screen, rows, products, reaching, bounds}; }

}  // namespace hmn
