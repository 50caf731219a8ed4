// Conversions of single numbers that compilers turn into vector code.
#pragma once

#include <cstdint>
#include <cstring>

namespace hmn {

// Round to the nearest integer, ties to even. Unlike std::nearbyint, this becomes vector code.
inline int32_t rounded(float value) {
    const float shifted = value + 12582912.0f;  // 1.5 * 2^23 leaves no bits for the fraction
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    return bits - 0x4b400000;
}

inline float from_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, fraction = half & 0x3ff, bits;
    if (exponent == 0) {
        const float value = float(fraction) * 5.9604644775390625e-8f;  // 2^-24
        return sign ? -value : value;
    }
    bits = exponent == 31 ? sign | 0x7f800000 | fraction << 13 : sign | (exponent + 112) << 23 | fraction << 13;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float from_brain(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

}  // namespace hmn
