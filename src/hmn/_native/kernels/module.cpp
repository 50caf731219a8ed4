// The Python module: checks its arguments and releases the interpreter's lock while it works.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "allowed.hpp"
#include "buckets.hpp"
#include "groups.hpp"
#include "lists.hpp"
#include "rows.hpp"
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

// Address of a contiguous tensor whose type and shape hmn._native has checked. Tensors that change from call to
// call are passed so, since nanobind's checks of an array take longer than a small search.
using Address = uintptr_t;

template <typename T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

struct PythonLevel {
    Array<uint8_t, 4> codes;
    Array<float, 1> along, step;
    Array<int32_t, 1> child;
    Array<int64_t, 1> first_panel;
    Array<int32_t, 1> length;
    int bits;
    std::optional<Array<uint8_t, 3>> screen;
    std::optional<Array<uint8_t, 2>> fine;
    std::optional<Array<float, 2>> size, bound;

    // `children`: number that what the entries stand for is below
    hmn::Level level(int64_t children) const {
        return {codes.data(), along.data(), step.data(), child.data(), first_panel.data(), length.data(),
                int64_t(length.shape(0)), int64_t(codes.shape(0)), children, bits, int(codes.shape(1)), nullptr, nullptr,
                screen ? screen->data() : nullptr, lines(), fine ? fine->data() : nullptr, fine_bytes(),
                bound ? bound->data() : nullptr};
    }
    hmn::Lists lists() const {
        return {codes.data(), along.data(), step.data(), child.data(), first_panel.data(), length.data(),
                int64_t(length.shape(0)), int64_t(codes.shape(0)), int(codes.shape(1)),
                screen ? screen->data() : nullptr, lines(), fine ? fine->data() : nullptr, fine_bytes(),
                size ? size->data() : nullptr, bound ? bound->data() : nullptr};
    }
    int lines() const { return screen ? int(screen->shape(1)) : 0; }
    int64_t fine_bytes() const { return fine ? int64_t(fine->shape(1)) : 0; }
    void check_features(int64_t features) const {
        const int64_t per_group = 32 / bits;
        if (bits != hmn::kInFull && int64_t(codes.shape(1)) != (features + per_group - 1) / per_group)
            throw hmn::Misfit("the codes of a level have " + std::to_string(codes.shape(1)) +
                              " groups, which does not fit " + std::to_string(features) + " features");
    }
};

PythonLevel level(Array<uint8_t, 4> codes, Array<float, 1> along, Array<float, 1> step, Array<int32_t, 1> child,
                  Array<int64_t, 1> first_panel, Array<int32_t, 1> length,
                  std::optional<Array<uint8_t, 3>> screen, std::optional<Array<uint8_t, 2>> fine,
                  std::optional<Array<float, 2>> size, std::optional<Array<float, 2>> bound, int bits) {
    const size_t entries = codes.shape(0) * hmn::kLanes;
    const bool known = bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == hmn::kInFull;
    if (!known || codes.shape(2) != hmn::kLanes || codes.shape(3) != hmn::kGroup || along.shape(0) != entries ||
        step.shape(0) != entries || child.shape(0) != entries || first_panel.shape(0) != length.shape(0))
        throw hmn::Misfit("the parts of a level do not fit each other");
    const bool any = screen || fine || size || bound, all = screen && fine && size && bound;
    const bool fit = all && bits == 4 && screen->shape(0) == codes.shape(0) && screen->shape(1) > 1 &&
                     screen->shape(2) == hmn::kLine && fine->shape(0) == entries && fine->shape(1) % 32 == 0 &&
                     size->shape(0) == entries && size->shape(1) == 2 && bound->shape(0) == codes.shape(0) &&
                     bound->shape(1) == 2;
    if (any && !fit) throw hmn::Misfit("the parts of a level do not fit each other");
    return {codes, along, step, child, first_panel, length, bits, screen, fine, size, bound};
}

// Address of rows, and their number.
using Vectors = std::pair<Address, int64_t>;

// The levels of a search, each with what its entries stand for: lists of the next level, at last rows of the keys.
std::vector<hmn::Level> plain(const std::vector<const PythonLevel*>& levels, const std::vector<Vectors>& weight,
                              const std::vector<Vectors>& held, int64_t features, int64_t rows) {
    std::vector<hmn::Level> result;
    for (size_t i = 0; i < levels.size(); ++i) {
        levels[i]->check_features(features);
        result.push_back(levels[i]->level(i + 1 < levels.size() ? int64_t(levels[i + 1]->length.shape(0)) : rows));
        if (i < held.size()) {
            if (held[i].second != result[i].children) throw hmn::Misfit("there must be one number held per list");
            result[i].held = at<int32_t>(held[i].first);
        }
        if (weight.empty()) continue;
        if (weight[i].second != result[i].children) throw hmn::Misfit("there must be one weight per child");
        result[i].weight = at<float>(weight[i].first);
    }
    return result;
}

// Which rows queries may find; see hmn._native.allowed.filter. Address and number of: the mask, the numbers, of which
// one is not there and has -1; each limit; and the cells by row, or -1. Nothing for all rows.
hmn::Filter filter_of(const std::vector<Vectors>& parts, int64_t queries, int64_t rows) {
    if (parts.empty()) return {};
    if (parts.size() != 5) throw hmn::Misfit("a filter has five parts");
    const Vectors &mask = parts[0], &number = parts[1], &low = parts[2], &high = parts[3], &cell = parts[4];
    const bool shared = low.second == 1;
    if ((mask.second < 0) == (number.second < 0) || low.second != high.second || (!shared && low.second != queries) ||
        (cell.second >= 0 && cell.second < rows))
        throw hmn::Misfit("the parts of a filter do not fit the queries and the keys");
    return {at<uint8_t>(mask.first), at<int64_t>(number.first), std::max(mask.second, number.second),
            at<int64_t>(low.first), at<int64_t>(high.first), shared, at<int64_t>(cell.first), true};
}

int64_t search(Address query, int64_t count, int64_t features, const std::vector<const PythonLevel*>& levels,
               const std::vector<Vectors>& direction, const std::vector<int64_t>& probes,
               const std::vector<Vectors>& weight, const std::vector<Vectors>& held, Address list, Address base,
               int64_t lists, const std::vector<Vectors>& allowed, Address keys, int64_t rows, int storage,
               int64_t rescored, Address least, int64_t least_lists, int64_t looked, int64_t most, Address lacking, int64_t places,
               int64_t k, Address score, Address row, Address reads, Address scored, int threads) {
    const size_t steps = levels.size() - 1;
    if (levels.empty() || direction.size() != steps || probes.size() != steps ||
        (!weight.empty() && weight.size() != levels.size()) ||
        (!held.empty() && held.size() != steps && held.size() != levels.size()) ||
        (list && (!base || lists < 1)))
        throw hmn::Misfit("levels, directions, probes, weights, held and the lists to begin with do not fit each other");
    const auto small = [](int64_t number) { return number < 1; };
    if (rescored < 1 || k < 1 || levels[0]->length.shape(0) < 1 || std::any_of(probes.begin(), probes.end(), small))
        throw hmn::Misfit("a search needs a list to begin with, and numbers of at least 1");
    std::vector<hmn::Level> filled = plain(levels, weight, held, features, rows);
    filled.back().filter = filter_of(allowed, count, rows);
    if (least && (!lacking || !filled.back().filter.given))
        throw hmn::Misfit("a search for enough allowed entries needs a filter");
    std::vector<hmn::Rows> vectors;
    for (size_t i = 0; i < direction.size(); ++i) {
        if (direction[i].first && direction[i].second != filled[i].children)
            throw hmn::Misfit("there must be one direction per list");
        vectors.push_back({at<void>(direction[i].first), direction[i].second, features, hmn::Storage::float32});
    }
    nb::gil_scoped_release released;
    return hmn::search(chosen, {at<float>(query), count, features}, filled, vectors, probes,
                       {at<int64_t>(list), at<float>(base), list ? lists : 1},
                       {at<void>(keys), rows, features, hmn::Storage(storage)}, rescored,
                       {at<float>(least), least_lists, looked, most, at<uint8_t>(lacking)}, places,
                       {at<float>(score), at<int64_t>(row), k}, {at<float>(reads), at<int64_t>(scored)}, threads);
}

// Entries of all lists of a level that a query may find.
void count_allowed(const PythonLevel& level, int64_t rows, const std::vector<Vectors>& allowed, Address count) {
    hmn::Level plain = level.level(rows);
    plain.filter = filter_of(allowed, 1, rows);
    if (!plain.filter.given) throw hmn::Misfit("there is no filter to count by");
    nb::gil_scoped_release released;
    for (int64_t list = 0; list < plain.lists; ++list)
        at<int32_t>(count)[list] = int32_t(hmn::count_allowed(plain, list, 0, plain.length[list], plain.length[list]));
}

void share_allowed(int64_t queries, const std::vector<Vectors>& allowed, int64_t used, int64_t sampled, Address share) {
    const hmn::Filter filter = filter_of(allowed, queries, used);
    nb::gil_scoped_release released;
    hmn::share_allowed(filter, queries, used, sampled, at<float>(share));
}

bool score_few(Address query, int64_t count, int64_t features, const std::vector<Vectors>& allowed, Address keys,
               int64_t rows, int storage, int64_t used, int64_t few, Address done, int64_t k, Address score, Address row,
               Address reads, Address scored, int threads) {
    const hmn::Filter filter = filter_of(allowed, count, rows);
    if (!filter.given || used < 0 || used > rows || k < 1) throw hmn::Misfit("there is no filter to search by");
    nb::gil_scoped_release released;
    return hmn::score_few(chosen, {at<float>(query), count, features}, filter,
                          {at<void>(keys), rows, features, hmn::Storage(storage)}, used, few, at<uint8_t>(done),
                          {at<float>(score), at<int64_t>(row), k}, {at<float>(reads), at<int64_t>(scored)}, threads);
}

bool screened(Address query, int64_t count, int64_t features, const PythonLevel& level, float ratio,
              const std::vector<Vectors>& allowed, Address keys, int64_t rows, int storage, int64_t room, int64_t k,
              Address score, Address row, Address certain, int threads) {
    level.check_features(features);
    if (k < 1 || k > room) throw hmn::Misfit("k must be from 1 to room");
    hmn::Level plain = level.level(rows);
    plain.filter = filter_of(allowed, count, rows);
    nb::gil_scoped_release released;
    return hmn::screened(chosen, {at<float>(query), count, features}, plain, ratio,
                         {at<void>(keys), rows, features, hmn::Storage(storage)}, room,
                         {at<float>(score), at<int64_t>(row), k}, at<uint8_t>(certain), threads);
}

void best_of(Address query, int64_t count, int64_t features, Address keys, int64_t rows, int storage,
             Address candidate, int64_t candidates, int64_t k, Address score, Address row, int threads) {
    nb::gil_scoped_release released;
    hmn::best_of(chosen, {at<float>(query), count, features}, {at<void>(keys), rows, features, hmn::Storage(storage)},
                 at<int64_t>(candidate), candidates, {at<float>(score), at<int64_t>(row), k}, threads);
}

void row_products(Address query, int64_t count, int64_t features, Address table, int64_t rows, int storage, Address row,
                  int64_t reads, Address product, int threads) {
    nb::gil_scoped_release released;
    hmn::row_products(chosen, {at<float>(query), count, features}, {at<void>(table), rows, features, hmn::Storage(storage)},
                      {at<int64_t>(row), count, reads}, at<float>(product), threads);
}

void row_sums(Address weight, int64_t count, Address table, int64_t rows, int storage, int64_t features, Address row,
              int64_t reads, Address sum, int threads) {
    nb::gil_scoped_release released;
    hmn::row_sums(chosen, at<float>(weight), {at<void>(table), rows, features, hmn::Storage(storage)},
                  {at<int64_t>(row), count, reads}, at<float>(sum), threads);
}

void gathered(Address place, int64_t places, Address begin, int64_t rows, Address factor, int64_t reads, Address vector,
              int64_t count, int64_t features, Address sum, int threads) {
    if (reads < 1 && places > 0) throw hmn::Misfit("there are places of reads but no reads");
    nb::gil_scoped_release released;
    hmn::gathered(chosen, {at<int64_t>(place), places, at<int64_t>(begin), rows}, at<float>(factor), reads,
                  {at<float>(vector), count, features}, at<float>(sum), threads);
}

void move_rows(Address row, int64_t count, Address gradient, Address table, Address mean, Address square, int64_t rows,
               int64_t features, float first, float second, float square_scale, float rate, float eps, float kept,
               int threads) {
    nb::gil_scoped_release released;
    hmn::move_rows({first, second, square_scale, rate, eps, kept}, at<int64_t>(row), count, at<float>(gradient),
                   at<float>(table), at<float>(mean), at<float>(square), rows, features, threads);
}

void list_rows(Address listed, int64_t rows, Address begin, Address size, int64_t queries, int64_t count,
               Address filled, Address candidate, int64_t width, int threads) {
    nb::gil_scoped_release released;
    hmn::list_rows({at<int32_t>(listed), rows, at<int64_t>(begin), at<int64_t>(size), queries, count},
                   at<int64_t>(filled), at<int64_t>(candidate), width, threads);
}

int64_t most_frequent(Address candidate, int64_t queries, int64_t count, int64_t limit, Address kept, int threads) {
    nb::gil_scoped_release released;
    return hmn::most_frequent(at<int64_t>(candidate), queries, count, limit, at<int64_t>(kept), threads);
}

void encode(const PythonLevel& level, Address vectors, int64_t vectors_count, int storage, int64_t features,
            Address row, int64_t count, Address list, Address direction, int64_t directions, Address slot,
            int threads) {
    level.check_features(features);
    if (level.bits > 8) throw hmn::Misfit("codes of 16 bits are written by PyTorch");
    nb::gil_scoped_release released;
    hmn::encode(level.level(0), level.codes.data(), level.along.data(), level.step.data(),
                {at<void>(vectors), vectors_count, features, hmn::Storage(storage)}, at<int64_t>(row), count,
                at<int64_t>(list), {at<void>(direction), directions, features, hmn::Storage::float32},
                at<int64_t>(slot), threads);
}

void take_out(const PythonLevel& level, Address list, Address slot, int64_t count, Address slot_of,
              int64_t children) {
    nb::gil_scoped_release released;
    hmn::take_out(level.lists(), at<int64_t>(list), at<int64_t>(slot), count, at<int64_t>(slot_of), children);
}

int64_t enter(const PythonLevel& level, Address room, int64_t used, Address list, Address child, int64_t count,
              Address slot_of, int64_t children) {
    nb::gil_scoped_release released;
    return hmn::enter(level.lists(), at<int64_t>(room), used, at<int64_t>(list), at<int64_t>(child), count,
                      at<int64_t>(slot_of), children);
}

// Lists whose entries lie by falling length.
hmn::Lists ordered(const PythonLevel& level) {
    if (!level.screen) throw hmn::Misfit("the lists of this level have no short codes");
    return level.lists();
}

void write_screen(const PythonLevel& level, Address vectors, int64_t vectors_count, int storage, int64_t features,
                  Address row, int64_t count, Address list, Address direction, int64_t directions, Address slot,
                  Address centroid, int parts, int64_t width, Address order, Address rotation, int threads) {
    level.check_features(features);
    const hmn::Lists lists = ordered(level);
    if (parts < 1 || width < 1 || parts != (lists.lines - 1) * 2 * hmn::kWord || !order == !rotation ||
        2 * (lists.fine_bytes - hmn::kWord) < features)
        throw hmn::Misfit("the short codes do not fit the lists");
    nb::gil_scoped_release released;
    hmn::write_screen(chosen, lists, {at<float>(centroid), parts, width, at<int32_t>(order), at<float>(rotation)},
                      {at<void>(vectors), vectors_count, features, hmn::Storage(storage)}, at<int64_t>(row), count,
                      at<int64_t>(list), {at<void>(direction), directions, features, hmn::Storage::float32},
                      at<int64_t>(slot), threads);
}

void write_bounds(const PythonLevel& level, Address list, int64_t count, int64_t features) {
    nb::gil_scoped_release released;
    hmn::write_bounds(ordered(level), at<int64_t>(list), count, features);
}

void disorder(const PythonLevel& level, Address list, int64_t count, Address worst) {
    nb::gil_scoped_release released;
    hmn::disorder(ordered(level), at<int64_t>(list), count, at<float>(worst));
}

void settle(const PythonLevel& level, Address list, int64_t count, float loose, Address slot_of, int64_t children) {
    nb::gil_scoped_release released;
    hmn::settle(ordered(level), at<int64_t>(list), count, loose, at<int64_t>(slot_of), children);
}

void means(const PythonLevel& level, Address list, int64_t count, Address vectors, int64_t vectors_count, int storage,
           int64_t features, Address weight, Address mean, Address total, int threads) {
    nb::gil_scoped_release released;
    hmn::means(level.level(vectors_count), at<int64_t>(list), count,
               {at<void>(vectors), vectors_count, features, hmn::Storage(storage)}, at<float>(weight),
               at<float>(mean), at<float>(total), threads);
}

// A structure of groups and the rows of their cells; see hmn._native.groups.GroupsView.
struct PythonGroups {
    PythonLevel routing, cells;
    std::optional<Array<int32_t, 1>> chosen;
    std::optional<Array<float, 2>> basis;
    std::optional<Array<int32_t, 1>> order;
    std::optional<Array<float, 2>> rotation;
    Array<float, 3> centroid;
    Array<float, 2> front;
    hmn::Rows keys;

    hmn::Groups groups() const {
        const int64_t parts = centroid.shape(0), width = centroid.shape(1);
        return {routing.level(int64_t(cells.length.shape(0))),
                cells.level(keys.count),
                {chosen ? chosen->data() : nullptr, basis ? basis->data() : nullptr, routed()},
                {order ? order->data() : nullptr, rotation ? rotation->data() : nullptr, parts * width},
                centroid.data(),
                parts,
                width,
                front.data()};
    }
    int64_t routed() const { return chosen ? chosen->shape(0) : basis ? basis->shape(0) : keys.features; }
    bool fits() const {
        const size_t parts = centroid.shape(0), places = parts * centroid.shape(1);
        const auto of_queries = [&](const auto& rows) { return !rows || int64_t(rows->shape(1)) == keys.features; };
        return routing.length.shape(0) == 1 && routing.bits <= 8 && cells.screen && cells.bits == 4 && parts > 0 &&
               parts <= hmn::kMostParts && parts % hmn::kParts == 0 && centroid.shape(2) == hmn::kLanes &&
               cells.lines() == int(1 + parts / hmn::kParts) && bool(order) != bool(rotation) &&
               (order ? order->shape(0) : rotation->shape(0)) == places && !(chosen && basis) &&
               front.shape(0) == 2 && front.shape(1) == routing.codes.shape(0) * hmn::kLanes && of_queries(basis) &&
               of_queries(rotation) && 2 * (cells.fine_bytes() - 4) >= keys.features;
    }
};

PythonGroups groups(const PythonLevel& routing, const PythonLevel& cells, std::optional<Array<int32_t, 1>> chosen,
                    std::optional<Array<float, 2>> basis, std::optional<Array<int32_t, 1>> order,
                    std::optional<Array<float, 2>> rotation, Array<float, 3> centroid, Array<float, 2> front,
                    Address keys, int64_t rows, int storage, int64_t features) {
    PythonGroups result{routing, cells, chosen, basis, order, rotation, centroid, front,
                        {at<void>(keys), rows, features, hmn::Storage(storage)}};
    if (!result.fits()) throw hmn::Misfit("the parts of groups do not fit each other");
    routing.check_features(result.routed());
    cells.check_features(features);
    return result;
}

int64_t search_groups(Address query, int64_t count, const PythonGroups& groups, const std::vector<Vectors>& allowed,
                      const std::vector<float>& reach,
                      float slack, int64_t first, int64_t kept, int64_t wanted, float own, float spread, int64_t places,
                      bool tiles, int64_t k,
                      Address score, Address row, Address reads, Address scored, int threads) {
    if (reach.empty() || first < 1 || k < 1 || kept < k || wanted < 1 || !(own >= 0 && own <= 1) ||
        !(spread >= 0))
        throw hmn::Misfit("the limits of a search are out of range");
    hmn::Groups plain = groups.groups();
    plain.cells.filter = filter_of(allowed, count, groups.keys.count);
    nb::gil_scoped_release released;
    return hmn::search_groups(chosen, {at<float>(query), count, groups.keys.features}, plain,
                              {reach, slack, first, kept, wanted, own, spread}, groups.keys, places, tiles,
                              {at<float>(score), at<int64_t>(row), k}, {at<float>(reads), at<int64_t>(scored)}, threads);
}

// Errors of the kernels are the package's own.
void translate(const std::exception_ptr& error, void*) {
    const auto raise = [](const std::exception& error) {
        nb::object type = nb::module_::import_("hmn.errors").attr("ShapeError");
        PyErr_SetString(type.ptr(), error.what());
    };
    try {
        std::rethrow_exception(error);
    } catch (const hmn::OutOfRange& error) {
        raise(error);
    } catch (const hmn::Misfit& error) {
        raise(error);
    }
}

}  // namespace

NB_MODULE(_kernels, module) {
    // what still lives when a process ends is no leak: commands end without a last search for garbage
    nb::set_leak_warnings(false);
    module.doc() = "Compiled kernels of hmn; see hmn._native.";
    nb::register_exception_translator(translate);
    nb::class_<PythonLevel>(module, "Level");
    module.def("level", &level, "codes"_a, "along"_a, "step"_a, "child"_a, "first_panel"_a, "length"_a,
               "screen"_a.none(), "fine"_a.none(), "size"_a.none(), "bound"_a.none(), "bits"_a);
    module.def("search", &search);
    nb::class_<PythonGroups>(module, "Groups");
    module.def("groups", &groups, "routing"_a, "cells"_a, "chosen"_a.none(), "basis"_a.none(), "order"_a.none(),
               "rotation"_a.none(), "centroid"_a, "front"_a, "keys"_a, "rows"_a, "storage"_a, "features"_a);
    module.def("search_groups", &search_groups);
    module.def("count_allowed", &count_allowed);
    module.def("share_allowed", &share_allowed);
    module.def("score_few", &score_few);
    module.def("screened", &screened);
    module.def("best_of", &best_of);
    module.def("row_products", &row_products);
    module.def("row_sums", &row_sums);
    module.def("gathered", &gathered);
    module.def("move_rows", &move_rows);
    module.def("list_rows", &list_rows);
    module.def("most_frequent", &most_frequent);
    module.def("encode", &encode);
    module.def("take_out", &take_out);
    module.def("enter", &enter);
    module.def("write_screen", &write_screen);
    module.def("write_bounds", &write_bounds);
    module.def("disorder", &disorder);
    module.def("settle", &settle);
    module.def("means", &means);
    module.def("use", &use, "name"_a);
    module.def("available", &available);
    module.def("in_use", [] { return std::string(chosen.name); });
    use(available().front());
}
