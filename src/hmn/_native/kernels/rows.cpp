// Rows of a table that queries read; hmn._native.fallback.rows does the same in PyTorch.
#include "rows.hpp"

#include <algorithm>
#include <cmath>

#include "team.hpp"

namespace hmn {
namespace {

constexpr int64_t kAlone = 1 << 15;  // floats below which threads cost more than they save
constexpr int64_t kPiece = 4;        // queries per piece of work
constexpr int64_t kRowPiece = 64;    // rows per piece of work
constexpr int64_t kAhead = 6;        // reads ahead of which rows are fetched

// Call `work` with each read of a query and its row; rows are fetched ahead.
template <typename Work>
void each_read(const Rows& table, const Reads& reads, int64_t query, Work work) {
    const int64_t* row = reads.row + query * reads.count;
    for (int64_t i = 0; i < reads.count; ++i) {
        if (i + kAhead < reads.count && row[i + kAhead] >= 0)
            table.fetch(below(row[i + kAhead], table.count, "a row that is read"));
        if (row[i] >= 0) work(i, table.at(below(row[i], table.count, "a row that is read")));
    }
}

void move(const Step step, const float* __restrict gradient, float* __restrict row, float* __restrict mean,
          float* __restrict square, int64_t features) {
    for (int64_t i = 0; i < features; ++i) {
        mean[i] += (gradient[i] - mean[i]) * step.first;
        square[i] += (gradient[i] * gradient[i] - square[i]) * step.second;
        row[i] = row[i] * step.kept - step.rate * mean[i] / (std::sqrt(square[i] * step.square_scale) + step.eps);
    }
}

}  // namespace

void row_products(const Simd& simd, const Queries& queries, const Rows& table, const Reads& reads, float* product,
                  int threads) {
    const bool worth = reads.queries * reads.count * table.features >= kAlone;
    Team(threads).each(worth, reads.queries, kPiece, [&](int64_t begin, int64_t end, int) {
        std::fill(product + begin * reads.count, product + end * reads.count, 0.0f);
        for (int64_t query = begin; query < end; ++query)
            each_read(table, reads, query, [&](int64_t i, const char* row) {
                product[query * reads.count + i] = simd.dot(queries.at(query), row, table.features, table.storage);
            });
    });
}

void row_sums(const Simd& simd, const float* weight, const Rows& table, const Reads& reads, float* sum, int threads) {
    const bool worth = reads.queries * reads.count * table.features >= kAlone;
    Team(threads).each(worth, reads.queries, kPiece, [&](int64_t begin, int64_t end, int) {
        std::fill(sum + begin * table.features, sum + end * table.features, 0.0f);
        for (int64_t query = begin; query < end; ++query)
            each_read(table, reads, query, [&](int64_t i, const char* row) {
                simd.add(sum + query * table.features, weight[query * reads.count + i], row, table.features,
                         table.storage);
            });
    });
}

void gathered(const Simd& simd, const ByRow& by_row, const float* factor, int64_t count, const Queries& vector,
              float* sum, int threads) {
    const int64_t features = vector.features, reads = vector.count * count;
    const bool worth = by_row.places * features >= kAlone;
    Team(threads).each(worth, by_row.rows, kRowPiece, [&](int64_t first, int64_t last, int) {
        std::fill(sum + first * features, sum + last * features, 0.0f);
        for (int64_t row = first; row < last; ++row) {
            const int64_t end = below(by_row.begin[row + 1], by_row.places + 1, "the end of a row's reads");
            for (int64_t i = below(by_row.begin[row], end + 1, "the begin of a row's reads"); i < end; ++i) {
                const int64_t place = below(by_row.place[i], reads, "a read");
                simd.add(sum + row * features, factor[place], vector.at(place / count), features, Storage::float32);
            }
        }
    });
}

void move_rows(const Step& step, const int64_t* row, int64_t count, const float* gradient, float* table, float* mean,
               float* square, int64_t rows, int64_t features, int threads) {
    for (int64_t i = 0; i < count; ++i) below(row[i], rows, "a row that is moved");
    Team(threads).each(count * features >= kAlone, count, kRowPiece, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            if (i + kAhead < end)
                for (float* data : {table, mean, square})
                    for (int64_t at = 0; at < features; at += 16)
                        __builtin_prefetch(data + row[i + kAhead] * features + at, 1);
            const int64_t at = row[i] * features;
            move(step, gradient + i * features, table + at, mean + at, square + at, features);
        }
    });
}

}  // namespace hmn
