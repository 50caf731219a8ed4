// Rows of a table that queries read, and what training gives back to them.
#pragma once

#include <cstdint>

#include "search.hpp"

namespace hmn {

// Rows that each query reads: (queries, count); -1 for none.
struct Reads {
    const int64_t* row;
    int64_t queries, count;
};

// Inner products (queries, count) of each query with the rows that it reads; 0 for none.
void row_products(const Simd&, const Queries&, const Rows&, const Reads&, float* product, int threads);

// Sums (queries, features) of the rows that each query reads, by their weights (queries, count).
void row_sums(const Simd&, const float* weight, const Rows&, const Reads&, float* sum, int threads);

// Reads in the order of their rows: those of the i-th row are `place[begin[i]]` to before `place[begin[i + 1]]`. A
// place is that of a read in (queries, count).
struct ByRow {
    const int64_t* place;  // (places)
    int64_t places;
    const int64_t* begin;  // (rows + 1)
    int64_t rows;
};

// Sums (rows, features) of the vectors of the queries that read each row, by the factors (queries, count) of the reads.
void gathered(const Simd&, const ByRow&, const float* factor, int64_t count, const Queries& vector, float* sum,
              int threads);

// A step of Adam.
struct Step {
    float first, second;  // weights of the new gradient in both moments: 1 - beta
    float square_scale;   // what second moments are multiplied by: 1 / (1 - beta ** steps)
    float rate;           // learning rate / (1 - beta ** steps)
    float eps, kept;      // added to the root; share of a row that weight decay leaves
};

// Move some `row` (count) of a table and their moments, all (rows, features), by their gradients (count, features).
void move_rows(const Step&, const int64_t* row, int64_t count, const float* gradient, float* table, float* mean,
               float* square, int64_t rows, int64_t features, int threads);

}  // namespace hmn
