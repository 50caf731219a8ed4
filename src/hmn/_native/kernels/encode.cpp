// Short codes of vectors; hmn._native.codes computes the same in PyTorch.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "numbers.hpp"
#include "search.hpp"
#include "team.hpp"

namespace hmn {
namespace {

constexpr float kShrunk[] = {1.0f, 0.85f, 0.7f};  // largest representable coordinate, relative to the vector's largest
constexpr int64_t kAlone = 1 << 8;                // vectors below which threads cost more than they save
constexpr int64_t kPiece = 32;                    // vectors per piece of work

// In double, since the square of a large float overflows.
double dot(const float* a, const float* b, int64_t count) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) total += double(a[i]) * b[i];
    return total;
}

// Codes of a vector for a given step, the vector's inner product with their levels, and the levels' square.
void try_codes(const float* vector, int64_t features, float inverse, float zero, uint8_t* code, float& product,
               float& square) {
    const float most = 2 * zero;
    float products = 0, squares = 0;
#pragma omp simd reduction(+ : products, squares)
    for (int64_t i = 0; i < features; ++i) {
        const float wanted = vector[i] * inverse + zero;
        const int32_t number = rounded(std::min(std::max(wanted, 0.0f), most));
        const float level = float(number) - zero;
        code[i] = uint8_t(number);
        products += vector[i] * level;
        squares += level * level;
    }
    product = products;
    square = squares;
}

}  // namespace

void encode(const Level& level, uint8_t* codes, float* along, float* step, const Rows& vectors, const int64_t* row,
            int64_t count, const int64_t* list, const Rows& direction, const int64_t* slot, int threads) {
    const int64_t features = vectors.features, width = int64_t(level.groups) * kGroup;
    const int parts = 8 / level.bits;
    const float zero = float((1 << level.bits) - 1) / 2;
    const int tries = level.bits == 4 ? 3 : 1;
    Team(threads).each(count >= kAlone, count, kPiece, [&](int64_t first, int64_t end, int) {
        std::vector<float> vector(features), rest(features);
        std::vector<uint8_t> tried(parts * width), best(parts * width);  // features beyond the last stay 0
        for (int64_t i = first; i < end; ++i) {
            if (i + 1 < end) vectors.fetch(row[i + 1]);
            vectors.load(below(row[i], vectors.count, "a row"), vector.data());
            below(slot[i], level.panels * kLanes, "a slot");
            float part = 0;
            if (direction.data) {
                const void* own = direction.at(below(list[i], direction.count, "a list"));
                const float* towards = static_cast<const float*>(own);
                const double square = dot(towards, towards, features);
                part = float(dot(vector.data(), towards, features) / (square > 0 ? square : 1.0));
                for (int64_t f = 0; f < features; ++f) rest[f] = vector[f] - part * towards[f];
            } else {
                rest = vector;
            }
            float largest = 0;
#pragma omp simd reduction(max : largest)
            for (int64_t f = 0; f < features; ++f) largest = std::max(largest, std::fabs(rest[f]));
            float best_gain = -1, best_step = 0;
            for (int number = 0; number < tries; ++number) {
                const float size = largest * kShrunk[number] / zero;
                float product, square;
                try_codes(rest.data(), features, size > 0 ? 1.0f / size : 0.0f, zero, tried.data(), product, square);
                // the best step for these codes by least squares, and the part of the vector's square that it explains
                float fitted = product / std::max(square, 1e-30f);
                const float gain = fitted * product;
                if (level.bits == 1) {  // RaBitQ: the step that makes the vector's inner product with itself exact
                    const double own = dot(rest.data(), rest.data(), features);
                    fitted = product > 0 ? float(own / product) : 0.0f;
                }
                if (!(gain > best_gain)) continue;
                best_gain = gain;
                best_step = fitted;
                tried.swap(best);
            }
            along[slot[i]] = part;
            step[slot[i]] = best_step;
            uint8_t* line = codes + (slot[i] / kLanes * level.groups * kLanes + slot[i] % kLanes) * kGroup;
            for (int64_t at = 0; at < width; at += kGroup, line += kLine) {
                for (int f = 0; f < kGroup; ++f) {
                    int byte = 0;
                    for (int part = 0; part < parts; ++part) byte |= best[part * width + at + f] << part * level.bits;
                    line[f] = uint8_t(byte);
                }
            }
        }
    });
}

}  // namespace hmn
