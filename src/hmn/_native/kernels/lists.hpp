// Lists that grow and shrink in place, and the means of their children.
#pragma once

#include <cstdint>

#include "search.hpp"

namespace hmn {

// The lists of a level, writable.
struct Lists {
    uint8_t* codes;        // (panels, groups, 16, 4)
    float* along;          // (panels * 16)
    float* step;           // (panels * 16)
    int32_t* child;        // (panels * 16)
    int64_t* first_panel;  // (lists)
    int32_t* length;       // (lists)
    int64_t lists, panels;
    int groups;
    uint8_t* screen;       // (panels, lines, 64); null, as the two below, for lists without short codes
    int lines;
    uint8_t* fine;         // (panels * 16, fine_bytes)
    int64_t fine_bytes;
    float* size;           // (panels * 16, 2)
    float* bound;          // (panels, 2): written by its owner, for whole lists
};

constexpr int kWord = 4;  // bytes of each entry in the first line of a screen, and of its row before the codes
constexpr int kCentroids = 16;  // as many as 4 bits can name

// How short codes are made; see hmn.index.storage.short_codes.
struct Short {
    const float* centroid;  // (parts, width, 16)
    int parts;
    int64_t width;
    const int32_t* order;   // (parts * width) feature of each place, -1 for none; null with a rotation
    const float* rotation;  // (parts * width, features); or null
};

// The first slot of a list, all of whose entries lie within the panels.
int64_t slot_of_list(const Lists&, int64_t list);

// What the entries at slots from `begin` to `end` - 1 stand for is below `children`.
void check_children(const Lists&, int64_t begin, int64_t end, int64_t children);

// Copy an entry to a slot of lists with codes of the same size.
void copy_entry(const Lists& own, int64_t from, const Lists& other, int64_t to);

// The functions below throw OutOfRange, with nothing changed, if a number points outside of the arrays.

// Take the entries at slots (count) out of their lists (count); the last entries of each list fill the gaps.
// `slot_of` (children), the slot of each child, is kept up to date; children taken out get -1.
void take_out(const Lists&, const int64_t* list, const int64_t* slot, int64_t count, int64_t* slot_of,
              int64_t children);

// Append children (count) to lists (count), without their codes. A list without room for them moves behind the
// `used` panels and gets at least twice its room. Returns the panels in use afterwards; if the level has fewer,
// nothing was changed.
int64_t enter(const Lists&, int64_t* room, int64_t used, const int64_t* list, const int64_t* child, int64_t count,
              int64_t* slot_of, int64_t children);

// Write short codes, rows of codes and sizes of the rows (count) of `vectors` into slots (count), whose codes have
// been written; arguments as for encode().
void write_screen(const Simd&, const Lists&, const Short&, const Rows& vectors, const int64_t* row, int64_t count,
                  const int64_t* list, const Rows& direction, const int64_t* slot, int threads);

// Write the bounds of all panels of lists (count), whose vectors have `features` features.
void write_bounds(const Lists&, const int64_t* list, int64_t count, int64_t features);

// How much looser than after sorting the bounds of lists (count) are: 1 for sorted ones.
void disorder(const Lists&, const int64_t* list, int64_t count, float* worst);

// Move entries of lists (count) to other panels until no bound is looser than `loose` times what it is after sorting
// by falling length; `slot_of` as above.
void settle(const Lists&, const int64_t* list, int64_t count, float loose, int64_t* slot_of, int64_t children);

// Mean (count, features) and total weight (count) of the vectors of the children of lists (count). `weight` is by
// child; null means 1. Longer vectors count more: a mean is multiplied by the ratio of the vectors' mean length
// when each is weighted by its length to their plain mean length.
void means(const Level&, const int64_t* list, int64_t count, const Rows& vectors, const float* weight, float* mean,
           float* total, int threads);

}  // namespace hmn
