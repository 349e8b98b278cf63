// What a kernel may take from Python, checked here so that no array is ever converted or copied to fit.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <string>

namespace tledge {

using AnyArray = nanobind::ndarray<nanobind::ro, nanobind::device::cpu>;
using AnyOutput = nanobind::ndarray<nanobind::device::cpu>;

// uint8 [height, width, channels], rows contiguous and `stride` bytes apart.
template <class Byte>
struct Picture {
    Byte* data;
    int height, width, channels;
    std::ptrdiff_t stride;

    Byte* row(int y) const { return data + y * stride; }
};

inline std::string shape_of(const AnyArray& array) {
    std::string text = "[";
    for (size_t axis = 0; axis < array.ndim(); ++axis) {
        text += (axis ? ", " : "") + std::to_string(array.shape(axis));
    }
    return text + "]";
}

[[noreturn]] inline void refuse_type(const std::string& message) {
    throw nanobind::type_error(message.c_str());
}
[[noreturn]] inline void refuse_value(const std::string& message) {
    throw nanobind::value_error(message.c_str());
}

// Steps of an axis of length one are never taken, and may be anything.
inline bool steps(const AnyArray& array, size_t axis, int64_t step) {
    return array.shape(axis) == 1 || array.stride(axis) == step;
}

inline void check_size(const char* name, const AnyArray& array) {
    for (size_t axis = 0; axis < array.ndim(); ++axis) {
        if (array.shape(axis) == 0)
            refuse_value(std::string(name) + " must not be empty, found " + shape_of(array) + ".");
        if (array.shape(axis) > INT32_MAX / 64)
            refuse_value(std::string(name) + " is too large: " + shape_of(array) + ".");
    }
}

// ── Numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr nanobind::dlpack::dtype kHalf{uint8_t(nanobind::dlpack::dtype_code::Float), 16, 1};
constexpr size_t kAny = 0;  // in a shape: any length from 1 up

inline void check_dtype(const char* name, const AnyArray& array, nanobind::dlpack::dtype wanted, const char* called) {
    if (array.dtype() != wanted) refuse_type(std::string(name) + " must be a " + called + " array.");
}

inline void check_shape(const char* name, const AnyArray& array, std::initializer_list<size_t> wanted) {
    bool fits = array.ndim() == wanted.size();
    std::string text;
    size_t axis = 0;
    for (const size_t length : wanted) {
        text += (axis ? ", " : "") + (length == kAny ? std::string("any") : std::to_string(length));
        fits = fits && (length == kAny || array.shape(axis) == length);
        ++axis;
    }
    if (!fits) refuse_type(std::string(name) + " must have shape [" + text + "], found " + shape_of(array) + ".");
    for (axis = 0; axis < array.ndim(); ++axis)
        if (array.shape(axis) == 0)
            refuse_value(std::string(name) + " must not be empty, found " + shape_of(array) + ".");
}

inline void check_contiguous(const char* name, const AnyArray& array) {
    int64_t step = 1;
    for (size_t axis = array.ndim(); axis-- > 0; step *= int64_t(array.shape(axis)))
        if (!steps(array, axis, step)) refuse_type(std::string(name) + " must be C-contiguous.");
}

// ── Pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────

// A picture to read: uint8 [H, W, 3], [H, W, 1] or [H, W], C-contiguous.
inline Picture<const uint8_t> picture_in(const char* name, const AnyArray& array) {
    if (array.dtype() != nanobind::dtype<uint8_t>()) refuse_type(std::string(name) + " must be a uint8 array.");
    const bool grey = array.ndim() == 2 || (array.ndim() == 3 && array.shape(2) == 1);
    if (!grey && !(array.ndim() == 3 && array.shape(2) == 3)) {
        refuse_type(std::string(name) + " must have shape [H, W, 3], [H, W, 1] or [H, W], found " + shape_of(array) +
                    ".");
    }
    check_size(name, array);
    const int channels = grey ? 1 : 3;
    const int64_t stride = channels * int64_t(array.shape(1));
    if (!steps(array, 0, stride) || !steps(array, 1, channels) || (array.ndim() == 3 && !steps(array, 2, 1))) {
        refuse_type(std::string(name) + " must be C-contiguous; pass numpy.ascontiguousarray(image).");
    }
    return {static_cast<const uint8_t*>(array.data()), int(array.shape(0)), int(array.shape(1)), channels, stride};
}

inline void check_apart(const Picture<const uint8_t>& image, const uint8_t* out, const uint8_t* out_end) {
    const uint8_t* image_end = image.row(image.height - 1) + size_t(image.width) * image.channels;
    if (image.data < out_end && out < image_end) refuse_value("images and out must not overlap.");
}

}  // namespace tledge
