// The Python module: checks what it is given, and lets go of the interpreter's lock while it works.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "search.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T, int DIMENSIONS>
using Array = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;

hmn::Simd chosen = hmn::portable();

void use(const std::string& name) {
    if (name == "portable") {
        chosen = hmn::portable();
        return;
    }
#if defined(__x86_64__)
    if (name == "avx2" && hmn::has_avx2()) {
        chosen = hmn::avx2();
        return;
    }
    if (name == "avx512" && hmn::has_avx512()) {
        chosen = hmn::avx512();
        return;
    }
#endif
    throw std::invalid_argument("this processor cannot use " + name);
}

std::vector<std::string> available() {
    std::vector<std::string> names;
#if defined(__x86_64__)
    if (hmn::has_avx512()) names.push_back("avx512");
    if (hmn::has_avx2()) names.push_back("avx2");
#endif
    names.push_back("portable");
    return names;
}

// Rows of any storage type; float16 and bfloat16 come as 16-bit numbers.
struct Matrix {
    nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> array;
    hmn::Storage storage;
    hmn::Rows rows() const { return {array.data(), int64_t(array.shape(1)), storage}; }
};

Matrix matrix(nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> array, int storage) {
    const size_t bytes = storage == 0 ? 4 : 2;
    if (storage < 0 || storage > 2 || array.itemsize() != bytes)
        throw std::invalid_argument("keys are of another type than their storage says");
    return {array, hmn::Storage(storage)};
}

struct PythonLevel {
    Array<const uint8_t, 4> codes;
    Array<const float, 1> along, step;
    Array<const int32_t, 1> child;
    Array<const int64_t, 1> first_panel;
    Array<const int32_t, 1> length;
    int bits;

    hmn::Level level() const {
        return {codes.data(),       along.data(),  step.data(),
                child.data(),       first_panel.data(), length.data(),
                int64_t(length.shape(0)), bits,    int(codes.shape(1))};
    }
};

PythonLevel level(Array<const uint8_t, 4> codes, Array<const float, 1> along, Array<const float, 1> step,
                  Array<const int32_t, 1> child, Array<const int64_t, 1> first_panel,
                  Array<const int32_t, 1> length, int bits) {
    const size_t entries = codes.shape(0) * hmn::kLanes;
    if (codes.shape(2) != hmn::kLanes || codes.shape(3) != hmn::kGroup || (bits != 4 && bits != 8) ||
        along.shape(0) != entries || step.shape(0) != entries || child.shape(0) != entries ||
        first_panel.shape(0) != length.shape(0))
        throw std::invalid_argument("the parts of a level do not fit each other");
    return {codes, along, step, child, first_panel, length, bits};
}

hmn::Queries queries_of(const Array<const float, 2>& query, const hmn::Rows& keys) {
    if (int64_t(query.shape(1)) != keys.features) throw std::invalid_argument("queries and keys differ in features");
    return {query.data(), int64_t(query.shape(0)), int64_t(query.shape(1))};
}

hmn::Found found_of(Array<float, 2>& score, Array<int64_t, 2>& row, const hmn::Queries& queries) {
    if (int64_t(score.shape(0)) != queries.count || row.shape(0) != score.shape(0) || row.shape(1) != score.shape(1))
        throw std::invalid_argument("the results' arrays do not fit the queries");
    return {score.data(), row.data(), int64_t(score.shape(1))};
}

void search(Array<const float, 2> query, const std::vector<PythonLevel>& levels,
            const std::vector<Matrix>& direction, const std::vector<int64_t>& probes, const Matrix& keys,
            int64_t rescored, Array<float, 2> score, Array<int64_t, 2> row, Array<int64_t, 2> scanned, int threads) {
    const hmn::Rows key_rows = keys.rows();
    const hmn::Queries queries = queries_of(query, key_rows);
    const hmn::Found found = found_of(score, row, queries);
    if (levels.empty() || direction.size() + 1 != levels.size() || probes.size() + 1 != levels.size() ||
        scanned.shape(0) != query.shape(0) || scanned.shape(1) != levels.size() || rescored < 1)
        throw std::invalid_argument("levels, directions and probes do not fit each other");
    std::vector<hmn::Level> plain;
    std::vector<hmn::Rows> vectors;
    for (const PythonLevel& one : levels) plain.push_back(one.level());
    for (const Matrix& one : direction) vectors.push_back(one.rows());
    nb::gil_scoped_release released;
    hmn::search(chosen, queries, plain, vectors, probes, key_rows, rescored, found, scanned.data(), threads);
}

void best_of(Array<const float, 2> query, const Matrix& keys, Array<const int64_t, 2> candidate,
             Array<float, 2> score, Array<int64_t, 2> row, int threads) {
    const hmn::Rows key_rows = keys.rows();
    const hmn::Queries queries = queries_of(query, key_rows);
    const hmn::Found found = found_of(score, row, queries);
    if (candidate.shape(0) != query.shape(0)) throw std::invalid_argument("candidates do not fit the queries");
    nb::gil_scoped_release released;
    hmn::best_of(chosen, queries, key_rows, candidate.data(), int64_t(candidate.shape(1)), found, threads);
}

}  // namespace

NB_MODULE(_kernels, module) {
    module.doc() = "Compiled kernels of hmn; see hmn._native.";
    nb::class_<Matrix>(module, "Matrix");
    nb::class_<PythonLevel>(module, "Level");
    module.def("matrix", &matrix, "array"_a, "storage"_a);
    module.def("level", &level, "codes"_a, "along"_a, "step"_a, "child"_a, "first_panel"_a, "length"_a, "bits"_a);
    module.def("search", &search, "query"_a, "levels"_a, "direction"_a, "probes"_a, "keys"_a, "rescored"_a,
               "score"_a.noconvert(), "row"_a.noconvert(), "scanned"_a.noconvert(), "threads"_a);
    module.def("best_of", &best_of, "query"_a, "keys"_a, "candidate"_a, "score"_a.noconvert(), "row"_a.noconvert(),
               "threads"_a);
    module.def("use", &use, "name"_a);
    module.def("available", &available);
    module.def("in_use", [] { return std::string(chosen.name); });
    use(available().front());
}
