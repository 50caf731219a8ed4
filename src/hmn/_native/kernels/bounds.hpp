// Numbers that the kernels follow are checked where they are followed, since the state of an index may be damaged.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace hmn {

// Both become hmn.errors.ShapeError.
struct OutOfRange : std::out_of_range {
    using std::out_of_range::out_of_range;
};
struct Misfit : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse(const char* what, int64_t got, int64_t end) {
    throw OutOfRange(std::string(what) + " is " + std::to_string(got) + ", expected from 0 to below " +
                     std::to_string(end) + ": the index is damaged, build it again");
}

// The number itself, if it is from 0 to below `end`.
inline int64_t below(int64_t number, int64_t end, const char* what) {
    if (__builtin_expect(number < 0 || number >= end, 0)) refuse(what, number, end);
    return number;
}

}  // namespace hmn
