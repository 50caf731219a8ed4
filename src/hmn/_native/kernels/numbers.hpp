#pragma once

#include <cstdint>
#include <cstring>

namespace hmn {

// To the nearest whole number, even ones where two are as near; unlike std::nearbyint it becomes vector code.
inline int32_t rounded(float value) {
    const float shifted = value + 12582912.0f;  // 1.5 * 2^23: what is left of the fraction is rounded off
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    return bits - 0x4b400000;
}

}  // namespace hmn
