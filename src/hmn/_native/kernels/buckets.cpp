// Rows of hash tables and leaves; hmn._native.fallback.buckets does the same in PyTorch.
#include "buckets.hpp"

#include <algorithm>
#include <vector>

#include "bounds.hpp"
#include "team.hpp"

namespace hmn {
namespace {

constexpr int64_t kAlone = 1 << 13;  // candidates below which threads cost more than they save
constexpr int64_t kMostRows = int64_t(1) << 31;
constexpr int64_t kPiece = 4;        // queries per piece of work

struct Frequency {
    int32_t count, row;
};

bool before(const Frequency& a, const Frequency& b) {
    return a.count != b.count ? a.count > b.count : a.row < b.row;
}

}  // namespace

void list_rows(const Lookups& lookups, const int64_t* filled, int64_t* candidate, int64_t width, int threads) {
    Team(threads).each(lookups.queries * width >= kAlone, lookups.queries, kPiece,
                       [&](int64_t first, int64_t end, int) {
        for (int64_t query = first; query < end; ++query) {
            int64_t* line = candidate + query * width;
            int64_t end = below(filled[query], width + 1, "the number of places taken");
            for (int64_t i = query * lookups.count; i < (query + 1) * lookups.count; ++i) {
                const int64_t size = below(lookups.size[i], width - end + 1, "the number of rows that a lookup lists");
                const int64_t begin = below(lookups.begin[i], lookups.rows - size + 1, "the first row of a lookup");
                std::copy_n(lookups.row + begin, size, line + end);
                end += size;
            }
        }
    });
}

int64_t most_frequent(const int64_t* candidate, int64_t queries, int64_t count, int64_t limit, int64_t* kept,
                      int threads) {
    std::vector<int64_t> distinct(queries);  // rows that each query keeps
    Team(threads).each(queries * count >= kAlone, queries, kPiece, [&](int64_t first, int64_t last, int) {
        std::vector<int32_t> rows;
        std::vector<Frequency> counted;
        for (int64_t query = first; query < last; ++query) {
            rows.clear();
            for (int64_t i = query * count; i < (query + 1) * count; ++i)
                if (candidate[i] >= 0) rows.push_back(int32_t(below(candidate[i], kMostRows, "a candidate")));
            std::sort(rows.begin(), rows.end());
            counted.clear();
            for (size_t begin = 0, end; begin < rows.size(); begin = end) {
                for (end = begin + 1; end < rows.size() && rows[end] == rows[begin];) ++end;
                counted.push_back({int32_t(end - begin), rows[begin]});
            }
            if (int64_t(counted.size()) > limit) {
                std::nth_element(counted.begin(), counted.begin() + limit, counted.end(), before);
                counted.resize(limit);
            }
            int64_t* to = kept + query * limit;
            for (const Frequency& frequency : counted) *to++ = frequency.row;
            std::fill(to, kept + (query + 1) * limit, -1);
            distinct[query] = int64_t(counted.size());
        }
    });
    return queries ? *std::max_element(distinct.begin(), distinct.end()) : 0;
}

}  // namespace hmn
