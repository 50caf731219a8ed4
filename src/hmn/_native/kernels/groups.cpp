#include "groups.hpp"

#include "scan.hpp"

namespace hmn {
namespace {

constexpr int64_t kMostQueries = 256;   // per block: they share the lists that they enter
constexpr int64_t kPanelsAtATime = 64;  // panels screened before the entries that passed are looked at
constexpr int64_t kRowsAhead = 12;      // rows of codes to prefetch
constexpr int64_t kRowsAtATime = 16;    // rows of codes multiplied at a time
constexpr int64_t kGroupsAhead = 4;     // groups whose first panel to prefetch
constexpr int64_t kHeader = 4;          // bytes of a row of codes before the codes
constexpr int64_t kSorted = 64;        // most entries that are kept sorted
constexpr int64_t kRoom = 32;           // entries kept beyond twice the wanted ones, before the worst are dropped
constexpr int64_t kWider = 4;           // factor of the groups looked at first where they hold too few entries
constexpr int64_t kBoundBytes = 2 * sizeof(float);
constexpr float kLeast = std::numeric_limits<float>::min();  // what a panel must promise at least
constexpr float kFar = std::numeric_limits<float>::infinity();  // promised by no panel
constexpr float kClosed = -1e30f;  // product with the direction of a group that a query is done with
constexpr int32_t kAll = std::numeric_limits<int32_t>::max();  // panels of any group

// What a query has seen: the entries of highest score, by slot, and as many of the highest scores as are wanted.
struct Pool {
    std::vector<Entry> entries;  // few are kept sorted; many are pruned when there are too many
    std::vector<float> highest;  // of many: a heap, the lowest on top
    float least = kNothing;      // entries below are not among the best
    float tau = kNothing;        // the lowest of the wanted scores, once there are k entries
    float usual = 0;             // what groups promise by their directions, see Limits

    // Panels that promise less are passed over. Where `tau` is negative, none are: bounds that a negative product with
    // a direction makes negative rise along a list. Where it is zero, panels that promise no more are passed over too:
    // those are all of them for a query of zeros.
    Least least_promise(float own) const {
        if (tau < 0) return {kNothing, kNothing};
        return {std::max(own * tau + (1 - own) * usual, kLeast), std::max(tau, kLeast)};
    }
};

// A group that a query enters: its panels from `done` to before `end`.
struct Way {
    int32_t slot, query;
    float base;
    int32_t done, end;
};

// What short codes, and rows of codes, are multiplied by.
struct Tables {
    std::vector<uint8_t> table;  // see Screen::tables
    std::vector<int8_t> row;     // see Simd::rows
    float scale, shift;
};

// Queries on their way through the groups.
class Block {
public:
    Block(const Simd& simd, const Groups& groups, const Limits& limits, const Rows& keys, const Queries& queries,
          const Coded& coded, const Coded& routed, int64_t first, int64_t count, int64_t k)
        : simd_(simd), groups_(groups), cells_(groups.cells), limits_(limits), keys_(keys), queries_(queries),
          coded_(coded), routed_(routed), first_(first), count_(count), start_(groups.routing.slot_of(0)),
          slots_(panels_of(groups.routing.length[0]) * kLanes), k_(k), wanted_(std::min(k, limits.wanted)),
          farthest_(limits.reach.back()) {}

    void run(const float* parted, bool tiles, Found found, Spent spent);

private:
    void route();
    void prepare(int64_t query, const float* parted);
    void begin(int64_t query);
    float usual(int64_t query);
    void enter_alone(int64_t query, float reach);
    void enter_together(float reach, bool tiles);
    void scan_together(Way* ways, int64_t count, float reach);
    void scan_alone(const Way& way, float width);
    int64_t keep_allowed(int64_t query, int64_t count);
    void look(int64_t query, float base, int64_t count);
    void push(int64_t query, Entry entry);
    void insert(Pool& pool, Entry entry) const;
    void prune(Pool& pool) const;
    void fetch(int32_t slot) const;
    void finish(int64_t query, Found found, Spent spent);

    float norm(int64_t query) const { return coded_.norm[first_ + query]; }
    float* base(int64_t query) { return base_.data() + query * slots_; }
    int32_t& done(int64_t query, int64_t slot) { return done_[query * slots_ + slot]; }
    const float* front(int part) const { return groups_.front + part * groups_.routing.panels * kLanes + start_; }
    // Whether a panel may hold entries that are wanted.
    bool promises(int64_t panel, float base, float width, const Pool& pool) const {
        return pool.least_promise(limits_.own).met(cells_.bound[2 * panel] * base,
                                                   cells_.bound[2 * panel + 1] * width);
    }
    // Note that panels of a group before `done` are done. It is closed where the others can never be wanted: the lowest
    // wanted score only rises.
    void leave(int64_t query, int64_t slot, int64_t panel, int32_t panels, int32_t done) {
        float& base = this->base(query)[slot];
        const bool closed = done >= panels || !promises(panel + done, base, farthest_ * norm(query), pool_[query]);
        this->done(query, slot) = closed ? kAll : done;
        if (closed) base = kClosed;
    }
    int64_t list_of(int64_t slot) const { return groups_.routing.child_of(start_ + slot); }

    const Simd& simd_;
    const Groups& groups_;
    const Level& cells_;
    const Limits& limits_;
    const Rows& keys_;
    const Queries& queries_;
    const Coded& coded_;
    const Coded& routed_;
    const int64_t first_, count_;
    const int64_t start_, slots_;  // first slot of the groups, and their number, rounded up; slots here count from it
    const int64_t k_, wanted_;
    const float farthest_;       // reach of the last round
    std::vector<float> base_;    // (queries, slots): inner products with the directions of groups
    std::vector<int32_t> done_;  // (queries, slots): panels of groups that are done
    std::vector<Tables> tables_;
    std::vector<Pool> pool_;
    std::vector<int64_t> bytes_;
    std::vector<int32_t> reached_, passed_;
    std::vector<float> bound_, largest_;
    std::vector<Way> ways_, ordered_;
    std::vector<int64_t> next_;
};

// 1. Products with the directions of all groups.
// 2. A first estimate of the lowest wanted score, from the first panels of the groups that promise most.
// 3. In each round, the panels that promise more than that estimate, which rises on the way.
// 4. The best entries in full.
void Block::run(const float* parted, bool tiles, Found found, Spent spent) {
    const Level& routing = groups_.routing;
    done_.assign(count_ * slots_, 0);
    tables_.resize(count_);
    pool_.resize(count_);
    bytes_.assign(count_, routing.length[0] * (routing.entry_bytes() + kBoundBytes));
    reached_.resize(slots_ + kLanes);
    passed_.resize((kPanelsAtATime + 1) * kLanes);
    bound_.resize(slots_);
    largest_.resize(slots_ / kLanes);
    route();
    for (int64_t query = 0; query < count_; ++query) {
        prepare(query, parted + query * groups_.parted.count);
        begin(query);
    }
    for (const float reach : limits_.reach) {
        if (tiles || count_ > 1)
            enter_together(reach, tiles);
        else
            enter_alone(0, reach);
    }
    for (int64_t query = 0; query < count_; ++query) finish(query, found, spent);
}

void Block::route() {
    const Level& routing = groups_.routing;
    base_.resize(count_ * slots_);
    const float zero = float((1 << routing.bits) - 1) / 2;
    const int8_t* query[kTileQueries];
    float none[kTileQueries] = {}, scale[kTileQueries], shift[kTileQueries], threshold[kTileQueries];
    Tile tile;
    tile.groups = routing.groups;
    tile.bits = routing.bits;
    tile.query = query;
    tile.base = none;
    tile.scale = scale;
    tile.shift = shift;
    tile.threshold = threshold;
    for (int64_t at = 0; at < count_; at += kTileQueries) {
        tile.queries = int(std::min<int64_t>(kTileQueries, count_ - at));
        for (int j = 0; j < tile.queries; ++j) {
            const int64_t row = first_ + at + j;
            query[j] = routed_.at(row);
            scale[j] = routed_.scale[row];
            shift[j] = -zero * scale[j] * routed_.sum[row];
            threshold[j] = kNothing;
        }
        for (int64_t panel = 0; panel < slots_ / kLanes; panel += kTilePanels) {
            const int64_t from = start_ / kLanes + panel;
            tile.panels = int(std::min<int64_t>(kTilePanels, slots_ / kLanes - panel));
            tile.codes = routing.codes + from * routing.groups * kLine;
            tile.along = routing.along + from * kLanes;
            tile.step = routing.step + from * kLanes;
            simd_.score(tile);
            for (int j = 0; j < tile.queries; ++j)
                std::memcpy(base(at + j) + panel * kLanes, tile.score[j], tile.panels * kLanes * sizeof(float));
        }
    }
}

void Block::prepare(int64_t query, const float* parted) {
    Tables& own = tables_[query];
    const int64_t parts = groups_.parts, width = groups_.width;
    float product[kMostParts][kLanes], lowest[kMostParts];
    simd_.products(parted, groups_.centroid, parts, width, product[0]);
    float range = 0, total = 0;
    for (int64_t part = 0; part < parts; ++part) {
        const float* sums = product[part];
        float low = sums[0], high = sums[0];
        for (int code = 1; code < kLanes; ++code) {
            low = std::min(low, sums[code]);
            high = std::max(high, sums[code]);
        }
        lowest[part] = low;
        range = std::max(range, high - low);
        total += low;
    }
    // the sum of two bytes per line must fit a byte
    const float most = float(255 / (2 * (parts / kParts)));
    const float inverse = range > 0 ? most / range : 0.0f;
    own.scale = range / most;
    own.shift = total + limits_.slack * norm(query);
    own.table.resize(parts * kLanes);
    for (int64_t part = 0; part < parts; ++part)
        for (int code = 0; code < kLanes; ++code)
            own.table[part * kLanes + code] = uint8_t(rounded((product[part][code] - lowest[part]) * inverse));
    const int64_t bytes = cells_.fine_bytes, features = queries_.features;
    const int8_t* numbers = coded_.at(first_ + query);
    own.row.assign(2 * bytes, 0);
    const int64_t low = std::min(features, bytes - kHeader);
    std::memcpy(own.row.data() + kHeader, numbers, low);
    std::memcpy(own.row.data() + bytes + kHeader, numbers + low, features - low);
}

void Block::begin(int64_t query) {
    const float width = limits_.reach.front() * norm(query);
    Pool& pool = pool_[query];
    pool.usual = usual(query);
    simd_.bounds(base(query), front(0), front(1), slots_, width, bound_.data(), largest_.data());
    const int64_t blocks = int64_t(largest_.size());
    std::vector<std::pair<float, int32_t>> order;
    for (int64_t wanted = limits_.first / kLanes + 1;; wanted *= kWider) {
        float least = kNothing;
        if (wanted < blocks) {
            std::nth_element(largest_.begin(), largest_.begin() + wanted - 1, largest_.end(), std::greater<float>());
            least = largest_[wanted - 1];
        }
        const int64_t groups = simd_.reaching(base(query), front(0), front(1), slots_, width, {least, kFar}, reached_.data());
        order.clear();
        for (int64_t i = 0; i < groups; ++i) {
            const int32_t slot = reached_[i];
            if (slot >= groups_.routing.length[0] || done(query, slot) || !cells_.length[list_of(slot)]) continue;
            order.push_back({-bound_[slot], slot});
            fetch(slot);
        }
        std::sort(order.begin(), order.end());
        const bool all = wanted >= blocks && int64_t(order.size()) <= wanted;
        if (int64_t(order.size()) > wanted) order.resize(wanted);
        for (const auto& next : order) scan_alone({next.second, int32_t(query), base(query)[next.second], 0, 1}, width);
        if (all || pool.tau >= 0) return;
    }
}

// What groups promise by their directions: the mean, and some standard deviations.
float Block::usual(int64_t query) {
    const float *base = this->base(query), *along = front(0), *rest = front(1);
    if (limits_.own == 1) return 0;
    const int64_t groups = groups_.routing.length[0];
    float count = 0, sum = 0, squares = 0;
#pragma omp simd reduction(+ : count, sum)
    for (int64_t i = 0; i < groups; ++i) {
        const float there = rest[i] >= 0 ? 1.0f : 0.0f;
        count += there;
        sum += there * along[i] * base[i];
    }
    const float mean = sum / std::max(count, 1.0f);
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < groups; ++i) {
        const float there = rest[i] >= 0 ? 1.0f : 0.0f;
        const float more = along[i] * base[i] - mean;
        squares += there * more * more;
    }
    return mean + limits_.spread * std::sqrt(squares / std::max(count, 1.0f));
}

void Block::fetch(int32_t slot) const {
    const int64_t panel = cells_.slot_of(list_of(slot)) / kLanes;
    const uint8_t* block = cells_.screen + panel * cells_.lines * kLine;
    for (int line = 0; line < cells_.lines; ++line) __builtin_prefetch(block + line * kLine);
    __builtin_prefetch(cells_.bound + 2 * panel);
}

// Screen a group's panels as long as they promise enough.
void Block::scan_alone(const Way& way, float width) {
    const int64_t query = way.query;
    const int64_t list = list_of(way.slot), first = cells_.slot_of(list), length = cells_.length[list];
    const int64_t panels = std::min<int64_t>(way.end, panels_of(length));
    const Pool& pool = pool_[query];
    const Tables& own = tables_[query];
    int32_t done = way.done;
    if (done >= panels || !promises(first / kLanes + done, way.base, width, pool)) return;
    Screen run;
    run.lines = cells_.lines - 1;
    run.tables = own.table.data();
    run.scale = own.scale;
    run.shift = own.shift;
    run.base = way.base;
    run.width = width;
    run.passed = passed_.data();
    while (done < panels) {
        const int64_t panel = first / kLanes + done;
        run.block = cells_.screen + panel * cells_.lines * kLine;
        run.bound = cells_.bound + 2 * panel;
        run.panels = std::min(kPanelsAtATime, panels - done);
        run.slot = int32_t(panel * kLanes);
        run.threshold = pool.tau;
        run.least = pool.least_promise(limits_.own);
        simd_.screen(run);
        done += int32_t(run.done);
        bytes_[query] += run.done * (cells_.lines * kLine + kBoundBytes);
        while (run.count && run.passed[run.count - 1] >= first + length) --run.count;  // lanes behind the last entry
        look(query, run.base, cells_.filter.given ? keep_allowed(query, run.count) : run.count);
        if (run.done < run.panels) break;
    }
    leave(query, way.slot, first / kLanes, int32_t(panels_of(length)), done);
}

// Keep those of the entries that passed which the query may find; returns their number.
int64_t Block::keep_allowed(int64_t query, int64_t count) {
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
        passed_[kept] = passed_[i];
        kept += cells_.filter.allows(first_ + query, cells_.child_of(passed_[i]));
    }
    return kept;
}

// Estimate the entries that passed by their codes of 4 bits.
void Block::look(int64_t query, float base, int64_t count) {
    const int64_t bytes = cells_.fine_bytes;
    const auto fetch = [&](int64_t i) {
        const uint8_t* row = cells_.fine + passed_[i] * bytes;
        for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row + at);
    };
    const int8_t* own = tables_[query].row.data();
    const float scale = coded_.scale[first_ + query], shift = -7.5f * scale * coded_.sum[first_ + query];
    for (int64_t i = 0; i < std::min(count, kRowsAhead); ++i) fetch(i);
    const Pool& pool = pool_[query];
    int32_t sum[kRowsAtATime], chosen[kRowsAtATime];
    float score[kRowsAtATime];
    for (int64_t at = 0; at < count; at += kRowsAtATime) {
        const int64_t some = std::min(kRowsAtATime, count - at);
        for (int64_t i = at + kRowsAhead; i < std::min(count, at + kRowsAhead + kRowsAtATime); ++i) fetch(i);
        simd_.rows(cells_.fine, bytes, passed_.data() + at, some, own, sum);
        const float least = pool.least;
        int64_t good = 0;
        for (int64_t i = 0; i < some; ++i) {
            uint32_t factors;
            std::memcpy(&factors, cells_.fine + passed_[at + i] * bytes, sizeof factors);
            const float product = scale * float(sum[i]) + shift;
            score[i] = from_brain(uint16_t(factors >> 16)) * base + from_brain(uint16_t(factors)) * product;
            chosen[good] = int32_t(i);
            good += score[i] >= least;
        }
        for (int64_t i = 0; i < good; ++i) push(query, {score[chosen[i]], passed_[at + chosen[i]]});
    }
    bytes_[query] += count * bytes;
}

void Block::push(int64_t query, Entry entry) {
    Pool& pool = pool_[query];
    if (!(entry.score >= pool.least)) return;
    if (limits_.kept <= kSorted) {
        insert(pool, entry);
        return;
    }
    pool.entries.push_back(entry);
    if (int64_t(pool.entries.size()) >= 2 * limits_.kept + kRoom) prune(pool);
    if (!(entry.score > pool.tau)) return;
    std::vector<float>& highest = pool.highest;
    const bool full = int64_t(highest.size()) == wanted_;
    if (!full || entry.score > highest.front()) {
        if (full) {
            std::pop_heap(highest.begin(), highest.end(), std::greater<float>());
            highest.pop_back();
        }
        highest.push_back(entry.score);
        std::push_heap(highest.begin(), highest.end(), std::greater<float>());
    }
    if (int64_t(highest.size()) == wanted_ && int64_t(pool.entries.size()) >= k_) pool.tau = highest.front();
}

// Insert an entry where few are kept: in order.
void Block::insert(Pool& pool, Entry entry) const {
    std::vector<Entry>& entries = pool.entries;
    if (int64_t(entries.size()) < limits_.kept)
        entries.push_back(entry);
    else if (!better(entry, entries.back()))
        return;
    put_in_order(entries.data(), int64_t(entries.size()) - 1, entry);
    if (int64_t(entries.size()) == limits_.kept) pool.least = entries.back().score;
    if (int64_t(entries.size()) >= k_) pool.tau = entries[wanted_ - 1].score;
}

void Block::prune(Pool& pool) const {
    if (int64_t(pool.entries.size()) <= limits_.kept) return;
    const auto last = pool.entries.begin() + limits_.kept - 1;
    std::nth_element(pool.entries.begin(), last, pool.entries.end(), better);
    pool.least = last->score;
    pool.entries.resize(limits_.kept);
}

void Block::enter_alone(int64_t query, float reach) {
    const float width = reach * norm(query);
    const int64_t groups =
        simd_.reaching(base(query), front(0), front(1), slots_, width, pool_[query].least_promise(limits_.own),
                       reached_.data());
    const int32_t end = int32_t(groups_.routing.length[0]);
    for (int64_t i = 0; i < groups; ++i) {
        if (i + kGroupsAhead < groups && reached_[i + kGroupsAhead] < end) fetch(reached_[i + kGroupsAhead]);
        const int32_t slot = reached_[i];
        if (slot < end) scan_alone({slot, int32_t(query), base(query)[slot], done(query, slot), kAll}, width);
    }
}

// All queries of the block through one group after another.
void Block::enter_together(float reach, bool tiles) {
    const int32_t end = int32_t(groups_.routing.length[0]);
    ways_.clear();
    next_.assign(slots_ + 1, 0);
    for (int64_t query = 0; query < count_; ++query) {
        const float* base = this->base(query);
        const int64_t groups = simd_.reaching(base, front(0), front(1), slots_, reach * norm(query),
                                              pool_[query].least_promise(limits_.own), reached_.data());
        for (int64_t i = 0; i < groups && reached_[i] < end; ++i) {
            const int32_t slot = reached_[i];
            ways_.push_back({slot, int32_t(query), base[slot], done(query, slot), kAll});
            ++next_[slot + 1];
        }
    }
    for (int64_t slot = 0; slot < slots_; ++slot) next_[slot + 1] += next_[slot];
    ordered_.resize(ways_.size());
    for (const Way& way : ways_) ordered_[next_[way.slot]++] = way;
    for (int64_t at = 0, last = 0; at < int64_t(ordered_.size()); at = last) {
        while (last < int64_t(ordered_.size()) && ordered_[last].slot == ordered_[at].slot) ++last;
        if (tiles) {
            scan_together(ordered_.data() + at, last - at, reach);
            continue;
        }
        for (int64_t i = at; i < last; ++i) {
            if (i + 1 < last) {
                const uint8_t* next = tables_[ordered_[i + 1].query].table.data();
                for (int64_t j = 0; j < groups_.parts * kLanes; j += kLine) __builtin_prefetch(next + j);
            }
            scan_alone(ordered_[i], reach * norm(ordered_[i].query));
        }
    }
}

// Score a group's panels for all queries that enter it, each as far as the panels promise enough.
void Block::scan_together(Way* ways, int64_t count, float reach) {
    const int64_t list = list_of(ways[0].slot), first = cells_.slot_of(list), length = cells_.length[list];
    const int32_t panels = int32_t(panels_of(length));
    const int64_t panel = first / kLanes;
    const bool filtered = cells_.filter.given;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
        Way way = ways[i];
        const float width = reach * norm(way.query);
        const Least least = pool_[way.query].least_promise(limits_.own);
        const float* bound = cells_.bound + 2 * panel;
        for (way.end = way.done; way.end < panels; ++way.end)
            if (!least.met(bound[2 * way.end] * way.base, bound[2 * way.end + 1] * width)) break;
        if (way.end == way.done) continue;
        bytes_[way.query] += (way.end - way.done) * (cells_.entry_bytes() * kLanes + kBoundBytes);
        leave(way.query, way.slot, panel, panels, way.end);
        ways[kept++] = way;
    }
    std::sort(ways, ways + kept, [](const Way& a, const Way& b) { return a.end > b.end; });
    const int8_t* query[kTileQueries];
    float base[kTileQueries], scale[kTileQueries], shift[kTileQueries], threshold[kTileQueries];
    Tile tile;
    tile.groups = cells_.groups;
    tile.bits = cells_.bits;
    tile.query = query;
    tile.base = base;
    tile.scale = scale;
    tile.shift = shift;
    tile.threshold = threshold;
    for (int64_t at = 0; at < kept; at += kTileQueries) {
        const Way* some = ways + at;
        tile.queries = int(std::min<int64_t>(kTileQueries, kept - at));
        int32_t from = panels;
        for (int j = 0; j < tile.queries; ++j) {
            const int64_t row = first_ + some[j].query;
            query[j] = coded_.at(row);
            base[j] = some[j].base;
            scale[j] = coded_.scale[row];
            shift[j] = -7.5f * scale[j] * coded_.sum[row];
            threshold[j] = pool_[some[j].query].least;
            from = std::min(from, some[j].done);
        }
        for (int32_t p = from; p < some[0].end; p += kTilePanels) {
            while (some[tile.queries - 1].end <= p) --tile.queries;  // the ways are sorted by their ends
            tile.panels = std::min<int>(kTilePanels, some[0].end - p);
            tile.codes = cells_.codes + (panel + p) * cells_.groups * kLine;
            tile.along = cells_.along + (panel + p) * kLanes;
            tile.step = cells_.step + (panel + p) * kLanes;
            simd_.score(tile);
            const int64_t left = length - int64_t(p) * kLanes;
            const uint32_t valid = left >= kTile ? 0xffffffffu : (1u << left) - 1;
            for (int j = 0; j < tile.queries; ++j) {
                uint32_t bits = tile.reaches[j] & valid;
                if (p < some[j].done) bits &= p + 1 < some[j].done ? 0 : 0xffff0000u;
                if (p + 1 == some[j].end) bits &= 0xffffu;
                if (!bits) continue;
                for (; bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    const int32_t slot = int32_t((panel + p) * kLanes + lane);
                    if (filtered && !cells_.filter.allows(first_ + some[j].query, cells_.child_of(slot))) continue;
                    push(some[j].query, {tile.score[j][lane], slot});
                }
                threshold[j] = pool_[some[j].query].least;
            }
        }
    }
}

void Block::finish(int64_t query, Found found, Spent spent) {
    Pool& pool = pool_[query];
    prune(pool);
    std::vector<Entry>& entries = pool.entries;
    for (Entry& entry : entries) entry.at = int32_t(cells_.child_of(entry.at));
    const int64_t count = int64_t(entries.size());
    for (int64_t i = 0; i < std::min<int64_t>(kAhead, count); ++i) keys_.fetch(entries[i].at);
    for (int64_t i = 0; i < count; ++i) {
        if (i + kAhead < count) keys_.fetch(entries[i + kAhead].at);
        entries[i].score =
            simd_.dot(queries_.at(first_ + query), keys_.at(entries[i].at), queries_.features, keys_.storage);
    }
    fill_best(entries, found, first_ + query);
    const int64_t bytes = bytes_[query] + count * (keys_.bytes() + int64_t(sizeof(int32_t)));
    spent.reads[first_ + query] = float(double(bytes) / double(4 * std::max<int64_t>(1, queries_.features)));
    spent.scored[first_ + query] = count;
}

// The queries (count, map.count) as a map makes them; they themselves if it is none.
std::vector<float> mapped(const Simd& simd, const Queries& queries, const Map& map) {
    std::vector<float> result(queries.count * map.count);
    for (int64_t query = 0; query < queries.count; ++query) {
        const float* from = queries.at(query);
        float* to = result.data() + query * map.count;
        for (int64_t i = 0; i < map.count; ++i) {
            if (map.projection)
                to[i] = simd.dot(from, map.projection + i * queries.features, queries.features, Storage::float32);
            else if (map.chosen)
                to[i] = map.chosen[i] < 0 ? 0.0f : from[below(map.chosen[i], queries.features, "a feature")];
            else
                to[i] = from[i];
        }
    }
    return result;
}

}  // namespace

int64_t search_groups(const Simd& simd, const Queries& queries, const Groups& groups, const Limits& limits,
                      const Rows& keys, int64_t places, bool tiles, Found found, Spent spent, int threads) {
    Team team(threads);
    const Coded coded(queries, 8, team);
    if (!coded.finite) return -1;
    const std::vector<float> parted = mapped(simd, queries, groups.parted);
    const bool same = !groups.routed.chosen && !groups.routed.projection;
    const std::vector<float> towards = same ? std::vector<float>() : mapped(simd, queries, groups.routed);
    const Queries routes = same ? queries : Queries{towards.data(), queries.count, groups.routed.count};
    const std::unique_ptr<const Coded> own(same ? nullptr : new Coded(routes, 8, team));
    const int64_t size = std::min(kMostQueries, (queries.count + threads - 1) / threads);
    team.each(true, queries.count, size, [&](int64_t first, int64_t end, int) {
        for (int64_t at = first; at < end; at += size) {
            Block block(simd, groups, limits, keys, queries, coded, same ? coded : *own, at, std::min(size, end - at),
                        found.k);
            block.run(parted.data() + at * groups.parted.count, tiles, found, spent);
        }
    });
    int64_t unfilled = 0;
    for (int64_t query = 0; places && query < queries.count; ++query)
        unfilled += places > found.k || found.row[query * found.k + places - 1] < 0;
    return unfilled;
}

}  // namespace hmn
