// observe: range, histogram and moments of activations, batch after batch, in memory that does not grow.
//
//     bin(x) = ⌊x · 2⁻ᵉ⌋, one of -2048 … 2047        e: the least with |x| < 2ᵉ⁺¹¹ for every x so far
//
// A batch is read twice: for its range, which settles e, then for its bins. When a batch widens the range, bins are
// merged in pairs: ⌊⌊y⌋ / 2⌋ = ⌊y / 2⌋, so they are what they would be had e been known from the start, and no order of
// batches gives others. Zero is an edge at every e. As 2ᵉ⁺¹⁰ <= max |x|, between ±max |x| lie at least 2048 bins.
//
// A value is widened to double, where scaling and squaring it are exact. Each of sixteen sums takes every sixteenth
// value, whatever the width of a vector: all variants give equal bits.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "arrays.h"
#include "variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nb = nanobind;

namespace tledge {
namespace {

constexpr int kBins = 4096, kSide = kBins / 2, kSideBits = 11;
constexpr int kLowestExponent = -160;  // where nothing but zeros was seen; the smallest float32 has -159
constexpr int kSums = 16;
constexpr int kTables = 4;  // neighbours often share a bin: each adds to a table of its own, and need not wait

struct Range {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    double finite = 0;  // not a number where a value is not finite
};

struct Tally {
    uint32_t* tables;  // [kTables, kBins]
    double sums[kSums], squares[kSums];
};

// ── The parts that vector code replaces ─────────────────────────────────────────────────────────────────────────────

struct Parts {
    Range (*range)(const float* x, size_t count);
    void (*tally)(const float* x, size_t count, double scale, Tally& into);
};

Range range_scalar(const float* x, size_t count) {
    Range range;
    for (size_t i = 0; i < count; ++i) {
        range.low = std::min(range.low, double(x[i]));
        range.high = std::max(range.high, double(x[i]));
        range.finite += 0.0 * x[i];
    }
    return range;
}

void tally_scalar(const float* x, size_t count, double scale, Tally& into) {
    for (size_t i = 0; i < count; ++i) {
        const double value = x[i], scaled = value * scale;
        into.sums[i % kSums] += value;
        into.squares[i % kSums] += value * value;
        const int towards_zero = int(scaled), bin = towards_zero - (scaled < towards_zero);
        ++into.tables[i % kTables * kBins + kSide + bin];
    }
}

// ── Vector code ─────────────────────────────────────────────────────────────────────────────────────────────────────

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f")))
namespace avx512 {
struct Vector {
    static constexpr int kLanes = 8;
    __m512d value;
    TARGET static Vector load(const float* from) { return {_mm512_cvtps_pd(_mm256_loadu_ps(from))}; }
    TARGET static Vector load(const double* from) { return {_mm512_loadu_pd(from)}; }
    TARGET static void store(double* to, Vector a) { _mm512_storeu_pd(to, a.value); }
    TARGET static Vector all(double a) { return {_mm512_set1_pd(a)}; }
    TARGET static Vector add(Vector a, Vector b) { return {_mm512_add_pd(a.value, b.value)}; }
    TARGET static Vector mul(Vector a, Vector b) { return {_mm512_mul_pd(a.value, b.value)}; }
    TARGET static Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_pd(a.value, b.value, c.value)}; }
    TARGET static Vector smaller(Vector a, Vector b) { return {_mm512_min_pd(a.value, b.value)}; }
    TARGET static Vector larger(Vector a, Vector b) { return {_mm512_max_pd(a.value, b.value)}; }
    TARGET static void store_floor(int32_t* to, Vector a) {
        const __m256i down = _mm512_cvt_roundpd_epi32(a.value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), down);
    }
};
#include "observe.inc"
}  // namespace avx512
#undef TARGET

#define TARGET __attribute__((target("avx2,fma,f16c")))
namespace avx2 {
struct Vector {
    static constexpr int kLanes = 4;
    __m256d value;
    TARGET static Vector load(const float* from) { return {_mm256_cvtps_pd(_mm_loadu_ps(from))}; }
    TARGET static Vector load(const double* from) { return {_mm256_loadu_pd(from)}; }
    TARGET static void store(double* to, Vector a) { _mm256_storeu_pd(to, a.value); }
    TARGET static Vector all(double a) { return {_mm256_set1_pd(a)}; }
    TARGET static Vector add(Vector a, Vector b) { return {_mm256_add_pd(a.value, b.value)}; }
    TARGET static Vector mul(Vector a, Vector b) { return {_mm256_mul_pd(a.value, b.value)}; }
    TARGET static Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_pd(a.value, b.value, c.value)}; }
    TARGET static Vector smaller(Vector a, Vector b) { return {_mm256_min_pd(a.value, b.value)}; }
    TARGET static Vector larger(Vector a, Vector b) { return {_mm256_max_pd(a.value, b.value)}; }
    TARGET static void store_floor(int32_t* to, Vector a) {
        const __m128i down = _mm256_cvttpd_epi32(_mm256_floor_pd(a.value));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), down);
    }
};
#include "observe.inc"
}  // namespace avx2
#undef TARGET

#elif defined(__aarch64__)

#define TARGET
namespace neon {
struct Vector {
    static constexpr int kLanes = 2;
    float64x2_t value;
    static Vector load(const float* from) { return {vcvt_f64_f32(vld1_f32(from))}; }
    static Vector load(const double* from) { return {vld1q_f64(from)}; }
    static void store(double* to, Vector a) { vst1q_f64(to, a.value); }
    static Vector all(double a) { return {vdupq_n_f64(a)}; }
    static Vector add(Vector a, Vector b) { return {vaddq_f64(a.value, b.value)}; }
    static Vector mul(Vector a, Vector b) { return {vmulq_f64(a.value, b.value)}; }
    static Vector fma(Vector a, Vector b, Vector c) { return {vfmaq_f64(c.value, a.value, b.value)}; }
    static Vector smaller(Vector a, Vector b) { return {vminq_f64(a.value, b.value)}; }
    static Vector larger(Vector a, Vector b) { return {vmaxq_f64(a.value, b.value)}; }
    static void store_floor(int32_t* to, Vector a) { vst1_s32(to, vmovn_s64(vcvtmq_s64_f64(a.value))); }
};
#include "observe.inc"
}  // namespace neon
#undef TARGET

#endif

// ── The table of variants ───────────────────────────────────────────────────────────────────────────────────────────

constexpr Variant<Parts> kVariants[] = {
#if defined(__x86_64__)
    {"avx512", "AVX-512F", has_avx512f, {avx512::range, avx512::tally}},
    {"avx2", "AVX2, FMA, F16C", has_avx2_fma_f16c, {avx2::range, avx2::tally}},
#elif defined(__aarch64__)
    {"neon", "NEON", always, {neon::range, neon::tally}},
#endif
    {"scalar", "portable C++", always, {range_scalar, tally_scalar}},
};

// ── Launcher ────────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr size_t kMost = size_t(1) << 28;  // values a table can take before they are moved to the 64-bit counts
enum { kExponent, kLow, kHigh, kCount, kSum, kSquares, kSummary };

int exponent_of(const Range& range) {
    const double largest = std::max(std::abs(range.low), std::abs(range.high));
    int exponent = 0;
    std::frexp(largest, &exponent);
    return largest > 0 ? exponent - kSideBits : kLowestExponent;
}

void merge_pairs(int64_t* counts) {
    int64_t merged[kSide];
    for (int i = 0; i < kSide; ++i) merged[i] = counts[2 * i] + counts[2 * i + 1];
    std::fill_n(counts, kBins, 0);
    std::copy_n(merged, kSide, counts + kSide / 2);
}

void count(const float* x, size_t size, const Range& range, int64_t* counts, double* summary, const Parts& run) {
    thread_local std::vector<uint32_t> tables;
    const bool first = summary[kCount] == 0;
    const int before = first ? kLowestExponent : int(summary[kExponent]);
    const int exponent = std::max(before, exponent_of(range));
    // Merged twelve times, all that was counted lies in the two bins beside zero, and stays there.
    for (int i = 0; i < std::min(exponent - before, kSideBits + 1); ++i) merge_pairs(counts);
    Tally tally{};
    for (size_t start = 0; start < size; start += kMost) {
        tables.assign(kTables * kBins, 0);
        tally.tables = tables.data();
        run.tally(x + start, std::min(kMost, size - start), std::ldexp(1.0, -exponent), tally);
        for (int i = 0; i < kTables * kBins; ++i) counts[i % kBins] += tables[i];
    }
    summary[kExponent] = exponent;
    summary[kLow] = (first ? range.low : std::min(summary[kLow], range.low)) + 0.0;  // no minus zero
    summary[kHigh] = (first ? range.high : std::max(summary[kHigh], range.high)) + 0.0;
    summary[kCount] += double(size);
    for (int i = 1; i < kSums; ++i) tally.sums[0] += tally.sums[i], tally.squares[0] += tally.squares[i];
    summary[kSum] += tally.sums[0];
    summary[kSquares] += tally.squares[0];
}

void launch(const AnyArray& x, const AnyOutput& counts, const AnyOutput& summary, const char* variant) {
    check_dtype("x", x, nb::dtype<float>(), "float32");
    if (x.ndim() == 0) refuse_type("x must have at least one axis.");
    check_contiguous("x", x);
    if (x.size() == 0) refuse_value("x must not be empty, found " + shape_of(x) + ".");
    check_dtype("counts", AnyArray(counts), nb::dtype<int64_t>(), "int64");
    check_shape("counts", AnyArray(counts), {kBins});
    check_contiguous("counts", AnyArray(counts));
    check_dtype("summary", AnyArray(summary), nb::dtype<double>(), "float64");
    check_shape("summary", AnyArray(summary), {kSummary});
    check_contiguous("summary", AnyArray(summary));
    const Parts& run = choose(kVariants, variant).run;
    const auto* values = static_cast<const float*>(x.data());
    Range range;
    {
        nb::gil_scoped_release unlocked;
        range = run.range(values, x.size());
        if (!std::isnan(range.finite))
            count(values, x.size(), range, static_cast<int64_t*>(counts.data()), static_cast<double*>(summary.data()),
                  run);
    }
    if (std::isnan(range.finite)) refuse_value("x must be finite, found NaN or infinity.");
}

}  // namespace

nb::list bind_observe(nb::module_& module) {
    module.def("observe", launch, nb::arg("x").noconvert(), nb::arg("counts").noconvert(),
               nb::arg("summary").noconvert(), nb::arg("variant") = "",
               "Range, histogram and moments of a batch of activations. See tledge.native.observe.");
    return rows(kVariants);
}

}  // namespace tledge
