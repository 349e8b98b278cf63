// Tensor cores on a processor: the first thread of each warp holds whole fragments and does the work of all.
#pragma once

#include "cuda_runtime.h"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major {};
struct col_major {};
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    static constexpr int num_elements = 256;
    float x[num_elements];
};

inline bool first_of_warp() { return threadIdx.x % 32 == 0; }

// Eleven bits, the last one rounded.
inline float __float_to_tf32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & ~0x1fffu;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

template <class Fragment>
void fill_fragment(Fragment& to, float value) {
    for (float& each : to.x) each = value;
}

// a is kept as [row][k], b as [column][k]: what lies where in memory depends on use and layout alone.
template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& to, const float* from, unsigned line) {
    if (!first_of_warp()) return;
    if (reinterpret_cast<uintptr_t>(from) % 32 || line % 4) throw std::logic_error("A tile must be aligned.");
    const bool along = std::is_same_v<Use, matrix_a> == std::is_same_v<Layout, row_major>;
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < K; ++k) to.x[i * K + k] = along ? from[i * line + k] : from[k * line + i];
}

template <class A, class B, class C>
void mma_sync(C& to, const A& a, const B& b, const C& c) {
    constexpr int kDepth = 8;
    if (!first_of_warp()) return;
    for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 16; ++j) {
            float sum = c.x[i * 16 + j];
            for (int k = 0; k < kDepth; ++k) sum += a.x[i * kDepth + k] * b.x[j * kDepth + k];
            to.x[i * 16 + j] = sum;
        }
    }
}

template <class Fragment>
void store_matrix_sync(float* to, const Fragment& from, unsigned line, layout_t layout) {
    if (!first_of_warp()) return;
    if (reinterpret_cast<uintptr_t>(to) % 32 || line % 4) throw std::logic_error("A tile must be aligned.");
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) to[layout == mem_row_major ? i * line + j : j * line + i] = from.x[i * 16 + j];
}

}  // namespace nvcuda::wmma
