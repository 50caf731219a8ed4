// Plain C++, for any machine.
#include <cstring>

#include "numbers.hpp"
#include "simd.hpp"

namespace hmn {
namespace {

// Multiply a line of 16-bit codes by a group of a query.
void add_wide(int32_t* sum, const uint8_t* line, const int8_t* query) {
    int16_t codes[2 * kLanes], group[2];
    std::memcpy(codes, line, sizeof codes);
    std::memcpy(group, query, sizeof group);
    for (int lane = 0; lane < kLanes; ++lane)
        sum[lane] += int32_t(codes[2 * lane]) * group[0] + int32_t(codes[2 * lane + 1]) * group[1];
}

void score(Tile& tile) {
    const bool wide = tile.bits == 16;
    const int most = (1 << tile.bits) - 1;
    for (int j = 0; j < tile.queries; ++j) {
        const int8_t* query = tile.query[j];
        tile.reaches[j] = 0;
        for (int panel = 0; panel < tile.panels; ++panel) {
            int32_t sum[kLanes] = {};
            const uint8_t* line = tile.codes + int64_t(panel) * tile.groups * kLine;
            for (int g = 0; g < tile.groups; ++g, line += kLine) {
                if (wide) {
                    add_wide(sum, line, query + g * kGroup);
                    continue;
                }
                for (int at = 0; at < 8 / tile.bits; ++at) {
                    const int8_t* part = query + (g + at * tile.groups) * kGroup;
                    for (int lane = 0; lane < kLanes; ++lane)
                        for (int i = 0; i < kGroup; ++i)
                            sum[lane] += (line[lane * kGroup + i] >> at * tile.bits & most) * part[i];
                }
            }
            for (int lane = 0; lane < kLanes; ++lane) {
                const int at = panel * kLanes + lane;
                const float value = tile.along[at] * tile.base[j] +
                                    tile.step[at] * (tile.scale[j] * float(sum[lane]) + tile.shift[j]);
                tile.score[j][at] = value;
                tile.reaches[j] |= uint32_t(value >= tile.threshold[j]) << at;
            }
        }
    }
}

// A number of a row.
inline float number(const void* row, int64_t i, Storage storage) {
    if (storage == Storage::float32) return static_cast<const float*>(row)[i];
    const uint16_t half = static_cast<const uint16_t*>(row)[i];
    return storage == Storage::float16 ? from_half(half) : from_brain(half);
}

float dot(const float* query, const void* row, int64_t features, Storage storage) {
    float sum[8] = {};
    for (int64_t i = 0; i < features; ++i) sum[i & 7] += query[i] * number(row, i, storage);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

void dots(const float* const* query, const void* const* row, int64_t features, Storage storage, float* product) {
    for (int j = 0; j < kBlockQueries; ++j)
        for (int r = 0; r < kBlockRows; ++r)
            product[j * kBlockRows + r] = dot(query[j], row[r], features, storage);
}

void add(float* sum, float weight, const void* row, int64_t features, Storage storage) {
    for (int64_t i = 0; i < features; ++i) sum[i] += weight * number(row, i, storage);
}

void screen(Screen& run) {
    const int64_t bytes = int64_t(run.lines + 1) * kLine;
    run.count = run.done = 0;
    for (; run.done < run.panels; ++run.done) {
        if (!run.least.met(run.bound[2 * run.done] * run.base, run.bound[2 * run.done + 1] * run.width)) return;
        const uint8_t* block = run.block + run.done * bytes;
        for (int lane = 0; lane < kLanes; ++lane) {
            uint32_t factors;
            std::memcpy(&factors, block + 4 * lane, 4);
            int32_t sum = 0;
            for (int part = 0; part < run.lines * kParts; ++part) {
                const int at = part % 4 * kLanes + lane, high = part / 4 % 2;
                const uint8_t byte = block[(1 + part / kParts) * kLine + at];
                sum += run.tables[part * kLanes + (high ? byte >> 4 : byte & 15)];
            }
            const float value = from_brain(uint16_t(factors >> 16)) * run.base +
                                from_brain(uint16_t(factors)) * (run.scale * float(sum) + run.shift);
            if (value >= run.threshold) run.passed[run.count++] = run.slot + int32_t(run.done * kLanes + lane);
        }
    }
}

void rows(const uint8_t* rows, int64_t bytes, const int32_t* row, int64_t count, const int8_t* query, int32_t* sum) {
    for (int64_t r = 0; r < count; ++r) {
        const uint8_t* codes = rows + row[r] * bytes;
        sum[r] = 0;
        for (int64_t i = 0; i < bytes; ++i) sum[r] += (codes[i] & 15) * query[i] + (codes[i] >> 4) * query[bytes + i];
    }
}

void products(const float* vector, const float* centroid, int64_t parts, int64_t width, float* product) {
    for (int64_t part = 0; part < parts; ++part, product += kLanes) {
        for (int code = 0; code < kLanes; ++code) product[code] = 0;
        for (int64_t i = 0; i < width; ++i, ++vector, centroid += kLanes)
            for (int code = 0; code < kLanes; ++code) product[code] += *vector * centroid[code];
    }
}

int64_t reaching(const float* base, const float* a, const float* s, int64_t count, float width, Least least,
                 int32_t* passed) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) {
        passed[found] = int32_t(i);
        found += least.met(a[i] * base[i], s[i] * width);
    }
    return found;
}

void bounds(const float* base, const float* a, const float* s, int64_t count, float width, float* bound,
            float* largest) {
    for (int64_t i = 0; i < count; i += kLanes) {
        float most = a[i] * base[i] + s[i] * width;
        for (int64_t j = i; j < i + kLanes; ++j) {
            bound[j] = a[j] * base[j] + s[j] * width;
            most = bound[j] > most ? bound[j] : most;
        }
        largest[i / kLanes] = most;
    }
}

}  // namespace

Simd portable() { return {"portable", score, dot, dots, add, screen, rows, products, reaching, bounds}; }

}  // namespace hmn
