// The passes of resize_normalize: antialiased, separable resampling of 8-bit pictures.
//
//     out = R(V · R(H · image))     R(s) = clip(floor(s + 1/2), 0, 255)
//
//     H[i, k] = f((k + 1/2 - c) / max(s, 1)) / (sum over k)     c = x0 + (i + 1/2) s,  s = (x1 - x0) / outputs
//
// and V alike down the columns; f is the triangle 1 - |t|, or the cubic of Keys with a = -1/2 (R. G. Keys, "Cubic
// convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6), 1981, eq. 15). Where the height
// loses more than twice the pixels that the width does, V goes before H: with clipping between them, the order shows.
// Weights are whole multiples of 2^-22, so every variant gives the same bytes; they, the windows and the order are
// those of Pillow 13's Image.resize, so these are Pillow's bytes too. tledge/reference.py says the same in NumPy.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tledge {
namespace {

// ── Weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr int kShift = 22;
constexpr int32_t kRound = 1 << (kShift - 1);
constexpr int kBlock = 4;   // horizontal passes work on this many rows, and this many taps, at a time
constexpr int kSlack = 64;  // bytes past the end of a row that a horizontal pass may read
constexpr int kSpill = 16;  // bytes past the end of its result that it may write
constexpr int kLowBits = 12;

// Vector units multiply 16-bit numbers twice as fast as 32-bit ones, so a weight is also kept as high · 2^12 + low.
// Sums may wrap on the way: only the total must fit.
struct Weights {
    int taps = 0;  // for every output, padded with zeros
    std::vector<int> first;
    std::vector<int32_t> whole;
    std::vector<int16_t> high, low;
    std::vector<int8_t> lanes;  // the same once more, in the order that one variant wants it
    std::vector<double> exact;
    std::array<double, 6> made_for{};
};

struct Filter {
    double support;
    double (*at)(double distance);
};

double triangle(double t) {
    return t < 1 ? 1 - t : 0;
}

double cubic(double t) {
    if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
    return t < 2 ? ((2.5 - 0.5 * t) * t - 4) * t + 2 : 0;
}

void set_weight(Weights& weights, size_t at, double value) {
    const auto whole = int32_t(std::lround(value * (1 << kShift)));
    weights.whole[at] = whole;
    weights.low[at] = int16_t(whole & ((1 << kLowBits) - 1));
    weights.high[at] = int16_t((whole - weights.low[at]) >> kLowBits);
}

// Windows that would reach past the end are moved back, with zeros before their first tap. Returns false when the
// weights are those of the last picture already.
bool fill_weights(Weights& weights, int size, int outputs, float low, float high, const Filter& filter, int multiple) {
    const std::array<double, 6> wanted{double(size), double(outputs), low, high, filter.support, double(multiple)};
    if (wanted == weights.made_for) return false;
    weights.made_for = wanted;
    const double scale = double(high - low) / outputs, stretch = std::max(scale, 1.0), reach = filter.support * stretch;
    const auto centre = [&](int i) { return low + (i + 0.5) * scale; };
    const auto begin = [&](int i) { return std::max(int(centre(i) - reach + 0.5), 0); };
    const auto end = [&](int i) { return std::min(int(centre(i) + reach + 0.5), size); };

    int widest = 0;
    for (int i = 0; i < outputs; ++i) widest = std::max(widest, end(i) - begin(i));
    const int taps = weights.taps = (widest + multiple - 1) / multiple * multiple;
    weights.first.assign(outputs, 0);
    weights.exact.assign(taps, 0);
    weights.whole.assign(size_t(taps) * outputs, 0);
    weights.high.assign(size_t(taps) * outputs, 0);
    weights.low.assign(size_t(taps) * outputs, 0);

    for (int i = 0; i < outputs; ++i) {
        const int window = begin(i), count = end(i) - window;
        double total = 0;
        for (int k = 0; k < count; ++k) {
            total += weights.exact[k] = filter.at(std::abs(window + k - centre(i) + 0.5) / stretch);
        }
        weights.first[i] = std::max(std::min(window, size - taps), 0);
        const size_t at = size_t(i) * taps + (window - weights.first[i]);
        for (int k = 0; k < count; ++k) set_weight(weights, at + k, weights.exact[k] / total);
    }
    return true;
}

// ── Portable passes ─────────────────────────────────────────────────────────────────────────────────────────────────

// arrange: what `across` and `down` want to have made of weights that have changed, if anything.
// across: `outputs` RGB pixels of kBlock rows, from rows that can be read kSlack bytes past their end. Writes up to
//         kSpill bytes past the last pixel of each row.
// down:   `bytes` of one row, from the `weights.taps` rows under the window of output `y`.
using Arrange = void (*)(Weights& across, Weights& down);
using Across = void (*)(const uint8_t* const* in, const Weights&, int outputs, uint8_t* const* out);
using Down = void (*)(const uint8_t* const* in, const Weights&, int y, size_t bytes, uint8_t* out);

struct Passes {
    Across across;
    Down down;
    int across_taps, down_taps;  // what Weights::taps must be a multiple of
    Arrange arrange = nullptr;
};

inline uint8_t to_byte(int32_t sum) {
    return uint8_t(std::clamp(sum >> kShift, 0, 255));
}

void across_scalar(const uint8_t* const* in, const Weights& weights, int outputs, uint8_t* const* out) {
    for (int row = 0; row < kBlock; ++row) {
        const int32_t* weight = weights.whole.data();
        for (int i = 0; i < outputs; ++i, weight += weights.taps) {
            const uint8_t* pixel = in[row] + 3 * size_t(weights.first[i]);
            int32_t red = kRound, green = kRound, blue = kRound;
            for (int k = 0; k < weights.taps; ++k, pixel += 3) {
                red += weight[k] * pixel[0];
                green += weight[k] * pixel[1];
                blue += weight[k] * pixel[2];
            }
            uint8_t* to = out[row] + 3 * size_t(i);
            to[0] = to_byte(red), to[1] = to_byte(green), to[2] = to_byte(blue);
        }
    }
}

void down_from(size_t start, const uint8_t* const* in, const Weights& weights, int y, size_t bytes, uint8_t* out) {
    const int32_t* weight = &weights.whole[size_t(y) * weights.taps];
    for (size_t x = start; x < bytes; ++x) {
        int32_t sum = kRound;
        for (int k = 0; k < weights.taps; ++k) sum += weight[k] * in[k][x];
        out[x] = to_byte(sum);
    }
}

// Sixteen sums at a time, so that the inner loop runs along the row and any compiler makes vectors of it.
void down_scalar(const uint8_t* const* in, const Weights& weights, int y, size_t bytes, uint8_t* out) {
    constexpr size_t kLanes = 16;
    const int32_t* weight = &weights.whole[size_t(y) * weights.taps];
    size_t x = 0;
    for (; x + kLanes <= bytes; x += kLanes) {
        int32_t sums[kLanes];
        std::fill_n(sums, kLanes, kRound);
        for (int k = 0; k < weights.taps; ++k) {
            for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += weight[k] * in[k][x + lane];
        }
        for (size_t lane = 0; lane < kLanes; ++lane) out[x + lane] = to_byte(sums[lane]);
    }
    down_from(x, in, weights, y, bytes, out);
}

// ── x86-64 ──────────────────────────────────────────────────────────────────────────────────────────────────────────
#if defined(__x86_64__)

inline int32_t pair_at(const int16_t* weights) {
    int32_t pair;
    std::memcpy(&pair, weights, sizeof pair);
    return pair;
}

#define TLEDGE_AVX2 __attribute__((target("avx2")))

TLEDGE_AVX2 inline __m128i load_16(const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

// Taps k, k+1 for the lower half, k+2, k+3 for the upper.
TLEDGE_AVX2 inline __m256i four_taps_avx2(const int16_t* weights) {
    return _mm256_blend_epi32(_mm256_set1_epi32(pair_at(weights)), _mm256_set1_epi32(pair_at(weights + 2)), 0xF0);
}

TLEDGE_AVX2 inline __m128i finish_avx2(__m256i high, __m256i low) {
    const __m256i sums = _mm256_add_epi32(_mm256_slli_epi32(high, kLowBits), low);
    const __m128i total = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return _mm_srai_epi32(_mm_add_epi32(total, _mm_set1_epi32(kRound)), kShift);
}

TLEDGE_AVX2 inline void store_four_rows(__m128i bytes, size_t at, uint8_t* const* out) {
    const int32_t pixels[kBlock] = {_mm_extract_epi32(bytes, 0), _mm_extract_epi32(bytes, 1),
                                    _mm_extract_epi32(bytes, 2), _mm_extract_epi32(bytes, 3)};
    for (int row = 0; row < kBlock; ++row) std::memcpy(out[row] + at, &pixels[row], sizeof pixels[row]);
}

TLEDGE_AVX2 void across_avx2(const uint8_t* const* in, const Weights& weights, int outputs, uint8_t* const* out) {
    // Pixels r0 g0 b0 r1 … b3 become pairs of 16-bit numbers, which one multiply-add turns into sums of two taps:
    // (r0 r1)(g0 g1)(b0 b1)(0 0) in the lower half, (r2 r3)(g2 g3)(b2 b3)(0 0) in the upper.
    const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                           6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    for (int i = 0; i < outputs; ++i) {
        __m256i high[kBlock] = {}, low[kBlock] = {};
        size_t pixel = 3 * size_t(weights.first[i]);
        for (size_t k = size_t(i) * weights.taps, end = k + weights.taps; k < end; k += kBlock, pixel += 3 * kBlock) {
            const __m256i weight_high = four_taps_avx2(&weights.high[k]), weight_low = four_taps_avx2(&weights.low[k]);
            for (int row = 0; row < kBlock; ++row) {
                const __m256i taps = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16(in[row] + pixel)), pairs);
                high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(taps, weight_high));
                low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(taps, weight_low));
            }
        }
        const __m128i rows_01 = _mm_packs_epi32(finish_avx2(high[0], low[0]), finish_avx2(high[1], low[1]));
        const __m128i rows_23 = _mm_packs_epi32(finish_avx2(high[2], low[2]), finish_avx2(high[3], low[3]));
        store_four_rows(_mm_packus_epi16(rows_01, rows_23), 3 * size_t(i), out);
    }
}

TLEDGE_AVX2 void down_avx2(const uint8_t* const* in, const Weights& weights, int y, size_t bytes, uint8_t* out) {
    constexpr size_t kLanes = 32;
    const int16_t *weight_high = &weights.high[size_t(y) * weights.taps],
                  *weight_low = &weights.low[size_t(y) * weights.taps];
    const __m256i zero = _mm256_setzero_si256();
    size_t x = 0;
    for (; x + kLanes <= bytes; x += kLanes) {
        __m256i high[4] = {}, low[4];
        for (auto& sums : low) sums = _mm256_set1_epi32(kRound);
        for (int k = 0; k < weights.taps; k += 2) {
            const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[k] + x));
            const __m256i lower = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[k + 1] + x));
            const __m256i left = _mm256_unpacklo_epi8(upper, lower), right = _mm256_unpackhi_epi8(upper, lower);
            const __m256i taps[4] = {_mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero),
                                     _mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero)};
            const __m256i pair_high = _mm256_set1_epi32(pair_at(weight_high + k));
            const __m256i pair_low = _mm256_set1_epi32(pair_at(weight_low + k));
            for (int part = 0; part < 4; ++part) {
                high[part] = _mm256_add_epi32(high[part], _mm256_madd_epi16(taps[part], pair_high));
                low[part] = _mm256_add_epi32(low[part], _mm256_madd_epi16(taps[part], pair_low));
            }
        }
        for (int part = 0; part < 4; ++part) {
            high[part] =
                _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high[part], kLowBits), low[part]), kShift);
        }
        const __m256i packed =
            _mm256_packus_epi16(_mm256_packs_epi32(high[0], high[1]), _mm256_packs_epi32(high[2], high[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), packed);
    }
    down_from(x, in, weights, y, bytes, out);
}

// VNNI multiplies four bytes by four signed ones and adds up all four products, so here a weight is high · 2^16 +
// middle · 2^8 + low, each from -128 to 127.
#define TLEDGE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))

constexpr int kGroup = 5;                 // outputs at a time: their three channels fill 15 of 16 sums
constexpr int kVector = 64;               // bytes
constexpr int kFarthest = (64 - 12) / 3;  // pixels from the first window of a group to its last, to be in one vector

std::array<int8_t, 3> bytes_of(int32_t whole) {
    const auto low = int8_t(whole & 255);
    const auto middle = int8_t((whole - low) / 256 & 255);
    return {int8_t((whole - low - middle * 256) / 65536), middle, low};
}

// Across: for each group of outputs one vector of byte indices, which bring the four taps of each sum together, then
// for every four taps the three vectors of weights. Nothing at all where windows lie too far apart. Down: the three
// bytes of each weight, tap by tap in fours.
void arrange_avx512(Weights& across, Weights& down) {
    down.lanes.resize(3 * down.whole.size());
    for (size_t k = 0; k < down.whole.size(); ++k) {
        const auto parts = bytes_of(down.whole[k]);
        for (int part = 0; part < 3; ++part) down.lanes[k / 4 * 12 + 4 * part + k % 4] = parts[part];
    }
    const int outputs = int(across.first.size()), taps = across.taps;
    const size_t block = kVector * (1 + 3 * size_t(taps) / 4);
    across.lanes.assign((outputs + kGroup - 1) / kGroup * block, 0);
    for (int i = 0; i < outputs; ++i) {
        const int in_group = i % kGroup, apart = across.first[i] - across.first[i - in_group];
        if (apart > kFarthest) return across.lanes.clear();
        int8_t* group = &across.lanes[i / kGroup * block] + 12 * in_group;
        for (int byte = 0; byte < 12; ++byte) group[byte] = int8_t(3 * (apart + byte % 4) + byte / 4);
        for (int k = 0; k < taps; ++k) {
            const auto parts = bytes_of(across.whole[size_t(i) * taps + k]);
            int8_t* to = group + kVector * (1 + 3 * (k / 4)) + k % 4;
            for (int part = 0; part < 3; ++part)
                for (int channel = 0; channel < 3; ++channel) to[kVector * part + 4 * channel] = parts[part];
        }
    }
}

TLEDGE_AVX512 inline __m512i finish_avx512(const __m512i* sums) {
    const __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(sums[0], 8), sums[1]);
    return _mm512_srai_epi32(_mm512_add_epi32(_mm512_slli_epi32(upper, 8), sums[2]), kShift);
}

TLEDGE_AVX512 void across_avx512(const uint8_t* const* in, const Weights& weights, int outputs, uint8_t* const* out) {
    if (weights.lanes.empty()) return across_avx2(in, weights, outputs, out);
    const int8_t* lanes = weights.lanes.data();
    for (int i = 0; i < outputs; i += kGroup) {
        const __m512i indices = _mm512_loadu_si512(lanes);
        lanes += kVector;
        __m512i sums[kBlock][3];
        for (auto& row : sums) row[0] = row[1] = _mm512_setzero_si512(), row[2] = _mm512_set1_epi32(kRound);
        size_t at = 3 * size_t(weights.first[i]);
        for (int k = 0; k < weights.taps; k += 4, at += 12, lanes += 3 * kVector) {
            const __m512i parts[3] = {_mm512_loadu_si512(lanes), _mm512_loadu_si512(lanes + kVector),
                                      _mm512_loadu_si512(lanes + 2 * kVector)};
            for (int row = 0; row < kBlock; ++row) {
                const __m512i taps = _mm512_permutexvar_epi8(indices, _mm512_loadu_si512(in[row] + at));
                for (int part = 0; part < 3; ++part)
                    sums[row][part] = _mm512_dpbusd_epi32(sums[row][part], taps, parts[part]);
            }
        }
        for (int row = 0; row < kBlock; ++row) {
            const __m512i pixels = _mm512_max_epi32(finish_avx512(sums[row]), _mm512_setzero_si512());
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out[row] + 3 * size_t(i)), _mm512_cvtusepi32_epi8(pixels));
        }
    }
}

TLEDGE_AVX512 void down_avx512(const uint8_t* const* in, const Weights& weights, int y, size_t bytes, uint8_t* out) {
    const int8_t* lanes = &weights.lanes[3 * size_t(y) * weights.taps];
    for (size_t x = 0; x < bytes; x += kVector) {
        const __mmask64 inside = bytes - x >= kVector ? ~__mmask64(0) : (__mmask64(1) << (bytes - x)) - 1;
        __m512i sums[4][3];
        for (auto& part : sums) part[0] = part[1] = _mm512_setzero_si512(), part[2] = _mm512_set1_epi32(kRound);
        for (int k = 0; k < weights.taps; k += 4) {
            __m512i rows[4];
            for (int row = 0; row < 4; ++row) rows[row] = _mm512_maskz_loadu_epi8(inside, in[k + row] + x);
            const __m512i left[2] = {_mm512_unpacklo_epi8(rows[0], rows[1]), _mm512_unpacklo_epi8(rows[2], rows[3])};
            const __m512i right[2] = {_mm512_unpackhi_epi8(rows[0], rows[1]), _mm512_unpackhi_epi8(rows[2], rows[3])};
            const __m512i taps[4] = {_mm512_unpacklo_epi16(left[0], left[1]), _mm512_unpackhi_epi16(left[0], left[1]),
                                     _mm512_unpacklo_epi16(right[0], right[1]),
                                     _mm512_unpackhi_epi16(right[0], right[1])};
            for (int part = 0; part < 3; ++part) {
                int32_t four;
                std::memcpy(&four, lanes + 3 * k + 4 * part, sizeof four);
                for (int i = 0; i < 4; ++i)
                    sums[i][part] = _mm512_dpbusd_epi32(sums[i][part], taps[i], _mm512_set1_epi32(four));
            }
        }
        const __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(finish_avx512(sums[0]), finish_avx512(sums[1])),
                                                   _mm512_packs_epi32(finish_avx512(sums[2]), finish_avx512(sums[3])));
        _mm512_mask_storeu_epi8(out + x, inside, packed);
    }
}

// ── AArch64 ─────────────────────────────────────────────────────────────────────────────────────────────────────────
#elif defined(__aarch64__)

// NEON multiplies 32-bit numbers outright, so it takes the whole weights.
void across_neon(const uint8_t* const* in, const Weights& weights, int outputs, uint8_t* const* out) {
    // Byte indices that spread pixel 0 of four over 32-bit lanes; an index past 15 gives zero.
    const uint8_t spread[16] = {0, 255, 255, 255, 1, 255, 255, 255, 2, 255, 255, 255, 255, 255, 255, 255};
    const uint8x16_t first = vld1q_u8(spread);
    // Saturating, so that indices of 255 stay out of range.
    const uint8x16_t lanes[kBlock] = {first, vqaddq_u8(first, vdupq_n_u8(3)), vqaddq_u8(first, vdupq_n_u8(6)),
                                      vqaddq_u8(first, vdupq_n_u8(9))};
    for (int i = 0; i < outputs; ++i) {
        const int32_t* weight = &weights.whole[size_t(i) * weights.taps];
        const size_t pixel = 3 * size_t(weights.first[i]);
        int32x4_t sums[kBlock];
        for (auto& sum : sums) sum = vdupq_n_s32(kRound);
        for (int k = 0; k < weights.taps; k += kBlock) {
            for (int row = 0; row < kBlock; ++row) {
                const uint8x16_t bytes = vld1q_u8(in[row] + pixel + 3 * size_t(k));
                for (int tap = 0; tap < kBlock; ++tap) {
                    const int32x4_t values = vreinterpretq_s32_u8(vqtbl1q_u8(bytes, lanes[tap]));
                    sums[row] = vmlaq_n_s32(sums[row], values, weight[k + tap]);
                }
            }
        }
        const int16x8_t rows_01 =
            vcombine_s16(vqmovn_s32(vshrq_n_s32(sums[0], kShift)), vqmovn_s32(vshrq_n_s32(sums[1], kShift)));
        const int16x8_t rows_23 =
            vcombine_s16(vqmovn_s32(vshrq_n_s32(sums[2], kShift)), vqmovn_s32(vshrq_n_s32(sums[3], kShift)));
        uint8_t packed[4 * kBlock];
        vst1q_u8(packed, vcombine_u8(vqmovun_s16(rows_01), vqmovun_s16(rows_23)));
        for (int row = 0; row < kBlock; ++row) std::memcpy(out[row] + 3 * size_t(i), packed + 4 * row, 4);
    }
}

void down_neon(const uint8_t* const* in, const Weights& weights, int y, size_t bytes, uint8_t* out) {
    constexpr size_t kLanes = 16;
    const int32_t* weight = &weights.whole[size_t(y) * weights.taps];
    size_t x = 0;
    for (; x + kLanes <= bytes; x += kLanes) {
        int32x4_t sums[4];
        for (auto& sum : sums) sum = vdupq_n_s32(kRound);
        for (int k = 0; k < weights.taps; ++k) {
            const uint8x16_t values = vld1q_u8(in[k] + x);
            const uint16x8_t left = vmovl_u8(vget_low_u8(values)), right = vmovl_u8(vget_high_u8(values));
            const uint16x4_t parts[4] = {vget_low_u16(left), vget_high_u16(left), vget_low_u16(right),
                                         vget_high_u16(right)};
            for (int part = 0; part < 4; ++part) {
                sums[part] = vmlaq_n_s32(sums[part], vreinterpretq_s32_u32(vmovl_u16(parts[part])), weight[k]);
            }
        }
        const int16x8_t left =
            vcombine_s16(vqmovn_s32(vshrq_n_s32(sums[0], kShift)), vqmovn_s32(vshrq_n_s32(sums[1], kShift)));
        const int16x8_t right =
            vcombine_s16(vqmovn_s32(vshrq_n_s32(sums[2], kShift)), vqmovn_s32(vshrq_n_s32(sums[3], kShift)));
        vst1q_u8(out + x, vcombine_u8(vqmovun_s16(left), vqmovun_s16(right)));
    }
    down_from(x, in, weights, y, bytes, out);
}

#endif

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

const Variant<Passes> kVariants[] = {
#if defined(__x86_64__)
    {"avx512", "AVX-512 VBMI, VNNI", has_avx512vnni, {across_avx512, down_avx512, 4, 4, arrange_avx512}},
    {"avx2", "AVX2", has_avx2, {across_avx2, down_avx2, kBlock, 2}},
#elif defined(__aarch64__)
    {"neon", "NEON", always, {across_neon, down_neon, kBlock, 1}},
#endif
    {"scalar", "C++", always, {across_scalar, down_scalar, 1, 1}},
};

}  // namespace
}  // namespace tledge
