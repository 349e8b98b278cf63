// softmax_loss_grad, sigmoid_loss_grad: loss and gradient of linear classifiers, in one pass over the features.
//
//     Z = W · [x 1]ᵀ      loss = Σ_r s_r · ℓ(Z_r, y_r)      G += ∂loss/∂Z · [x 1]
//
//     softmax:  ℓ = log Σ_c e^{z_c} - z_y              ∂ℓ/∂z_c = e^{z_c} / Σ e^{z} - [c = y]
//     sigmoid:  ℓ = Σ_c log(1 + e^{z_c}) - y_c z_c     ∂ℓ/∂z_c = 1 / (1 + e^{-z_c}) - y_c
//
// (C. M. Bishop, Pattern Recognition and Machine Learning, 2006, eqs. 4.90, 4.91, 4.108, 4.109.) A tile of rows is read
// from memory once: its logits are computed while it comes, its gradient while it is still in the cache. Several models
// with the same features and labels, such as the folds of a cross-validation, share the pass: row c·folds + f of W is
// class c of model f, which weighs the rows its own way. Products are summed in float32 over a few tiles, then in
// float64, as is the loss. Rows are cut into parts by their number alone, and the parts' sums added in order: equal
// arguments give equal bits on any number of threads.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "arrays.h"
#include "threads.h"
#include "variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nb = nanobind;

namespace tledge {
namespace {

// ── The parts that vector code replaces ─────────────────────────────────────────────────────────────────────────────

// dots:    z[c][r] = w[c] · [x[r] 1]      outer:   g[c] += Σ_r e[c][r] · x[r]
// exp_all: z = e^z for z <= 0             widen:   half to single precision
// x is [rows, d], w [cols, d + 1], g [cols, d], all contiguous; rows of z and e lie `step` apart. While they compute,
// both products ask for parts of the tile that comes next, so that memory never rests.
struct Ahead {
    const char* from;  // where the next tile begins
    size_t item;       // bytes of a number there, 0 where there is no next tile
    int rows;          // how many of every four rows to ask for
};

template <class In>
struct Products {
    void (*dots)(const In* x, int rows, const float* w, int cols, size_t d, float* z, size_t step, const Ahead& next);
    void (*outer)(const float* e, size_t step, int cols, const In* x, int rows, size_t d, float* g, const Ahead& next);
};

struct Parts {
    Products<float> of_single;
    Products<uint16_t> of_half;
    void (*exp_all)(float* z, int count);
    void (*widen)(const uint16_t* from, float* to, size_t count);
};

inline float single(float value) {
    return value;
}

inline float single(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    uint32_t bits;
    if (rest >= 0x7c00) {
        bits = 0x7f800000 | (rest & 0x3ff) << 13;  // infinite, or not a number
    } else if (rest >= 0x400) {
        bits = (rest << 13) + (112 << 23);
    } else {
        const float small = float(rest) * 0x1p-24f;  // subnormal
        std::memcpy(&bits, &small, sizeof bits);
    }
    bits |= sign;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class In>
void dots_scalar(const In* x, int rows, const float* w, int cols, size_t d, float* z, size_t step, const Ahead&) {
    for (int c = 0; c < cols; ++c) {
        for (int r = 0; r < rows; ++r) {
            const float* weight = w + c * (d + 1);
            const In* in = x + r * d;
            float sums[4] = {};  // four chains instead of one: additions need not wait for one another
            size_t k = 0;
            for (; k + 4 <= d; k += 4)
                for (int i = 0; i < 4; ++i) sums[i] += weight[k + i] * single(in[k + i]);
            for (; k < d; ++k) sums[0] += weight[k] * single(in[k]);
            z[c * step + r] = (sums[0] + sums[1]) + (sums[2] + sums[3]) + weight[d];
        }
    }
}

template <class In>
void outer_scalar(const float* e, size_t step, int cols, const In* x, int rows, size_t d, float* g, const Ahead&) {
    for (int c = 0; c < cols; ++c) {
        for (int r = 0; r < rows; ++r) {
            const float error = e[c * step + r];
            for (size_t k = 0; k < d; ++k) g[c * d + k] += error * single(x[r * d + k]);
        }
    }
}

void exp_all_scalar(float* z, int count) {
    for (int i = 0; i < count; ++i) z[i] = std::exp(z[i]);
}

void widen_scalar(const uint16_t* from, float* to, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] = single(from[i]);
}

constexpr Parts kScalar = {{dots_scalar<float>, outer_scalar<float>},
                           {dots_scalar<uint16_t>, outer_scalar<uint16_t>},
                           exp_all_scalar,
                           widen_scalar};

// ── Vector code ─────────────────────────────────────────────────────────────────────────────────────────────────────

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f")))
namespace avx512 {
struct Vector {
    static constexpr int kLanes = 16, kDotCols = 5, kOuterCols = 5, kOuterVectors = 4;
    __m512 value;
    TARGET static Vector load(const float* from) { return {_mm512_loadu_ps(from)}; }
    TARGET static Vector load(const uint16_t* from) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
    }
    TARGET static void store(float* to, Vector a) { _mm512_storeu_ps(to, a.value); }
    TARGET static Vector all(float a) { return {_mm512_set1_ps(a)}; }
    TARGET static Vector add(Vector a, Vector b) { return {_mm512_add_ps(a.value, b.value)}; }
    TARGET static Vector mul(Vector a, Vector b) { return {_mm512_mul_ps(a.value, b.value)}; }
    TARGET static Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }
    TARGET static Vector larger(Vector a, Vector b) { return {_mm512_max_ps(a.value, b.value)}; }
    TARGET static Vector nearest(Vector a) { return {_mm512_roundscale_ps(a.value, _MM_FROUND_TO_NEAREST_INT)}; }
    TARGET static Vector times_two_to(Vector a, Vector n) { return {_mm512_scalef_ps(a.value, n.value)}; }
    TARGET static float sum(Vector a) { return _mm512_reduce_add_ps(a.value); }
    TARGET static void sums_of_four(const Vector* v, float* to) {
        const __m512 ab =
            _mm512_add_ps(_mm512_unpacklo_ps(v[0].value, v[1].value), _mm512_unpackhi_ps(v[0].value, v[1].value));
        const __m512 cd =
            _mm512_add_ps(_mm512_unpacklo_ps(v[2].value, v[3].value), _mm512_unpackhi_ps(v[2].value, v[3].value));
        const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
        const __m512 halves = _mm512_add_ps(all, _mm512_shuffle_f32x4(all, all, 0x4E));
        _mm_storeu_ps(to, _mm512_castps512_ps128(_mm512_add_ps(halves, _mm512_shuffle_f32x4(halves, halves, 0xB1))));
    }
};
#include "loss_grad.inc"
}  // namespace avx512
#undef TARGET

#define TARGET __attribute__((target("avx2,fma,f16c")))
namespace avx2 {
struct Vector {
    static constexpr int kLanes = 8, kDotCols = 2, kOuterCols = 3, kOuterVectors = 3;
    __m256 value;
    TARGET static Vector load(const float* from) { return {_mm256_loadu_ps(from)}; }
    TARGET static Vector load(const uint16_t* from) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
    }
    TARGET static void store(float* to, Vector a) { _mm256_storeu_ps(to, a.value); }
    TARGET static Vector all(float a) { return {_mm256_set1_ps(a)}; }
    TARGET static Vector add(Vector a, Vector b) { return {_mm256_add_ps(a.value, b.value)}; }
    TARGET static Vector mul(Vector a, Vector b) { return {_mm256_mul_ps(a.value, b.value)}; }
    TARGET static Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
    TARGET static Vector larger(Vector a, Vector b) { return {_mm256_max_ps(a.value, b.value)}; }
    TARGET static Vector nearest(Vector a) {
        return {_mm256_round_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
    }
    TARGET static Vector times_two_to(Vector a, Vector n) {
        const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n.value), 23);
        return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.value), power))};
    }
    TARGET static float sum(Vector a) {
        __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.value), _mm256_extractf128_ps(a.value, 1));
        half = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    }
    TARGET static void sums_of_four(const Vector* v, float* to) {
        const __m256 all =
            _mm256_hadd_ps(_mm256_hadd_ps(v[0].value, v[1].value), _mm256_hadd_ps(v[2].value, v[3].value));
        _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
    }
};
#include "loss_grad.inc"
}  // namespace avx2
#undef TARGET

#elif defined(__aarch64__)

#define TARGET
namespace neon {
struct Vector {
    static constexpr int kLanes = 4, kDotCols = 4, kOuterCols = 4, kOuterVectors = 4;
    float32x4_t value;
    static Vector load(const float* from) { return {vld1q_f32(from)}; }
    static Vector load(const uint16_t* from) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)))}; }
    static void store(float* to, Vector a) { vst1q_f32(to, a.value); }
    static Vector all(float a) { return {vdupq_n_f32(a)}; }
    static Vector add(Vector a, Vector b) { return {vaddq_f32(a.value, b.value)}; }
    static Vector mul(Vector a, Vector b) { return {vmulq_f32(a.value, b.value)}; }
    static Vector fma(Vector a, Vector b, Vector c) { return {vfmaq_f32(c.value, a.value, b.value)}; }
    static Vector larger(Vector a, Vector b) { return {vmaxq_f32(a.value, b.value)}; }
    static Vector nearest(Vector a) { return {vrndnq_f32(a.value)}; }
    static Vector times_two_to(Vector a, Vector n) {
        const int32x4_t power = vshlq_n_s32(vcvtnq_s32_f32(n.value), 23);
        return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.value), power))};
    }
    static float sum(Vector a) { return vaddvq_f32(a.value); }
    static void sums_of_four(const Vector* v, float* to) {
        vst1q_f32(to, vpaddq_f32(vpaddq_f32(v[0].value, v[1].value), vpaddq_f32(v[2].value, v[3].value)));
    }
};
#include "loss_grad.inc"
}  // namespace neon
#undef TARGET

#endif

// ── The table of variants ───────────────────────────────────────────────────────────────────────────────────────────

constexpr Variant<Parts> kVariants[] = {
#if defined(__x86_64__)
    {"avx512", "AVX-512F", has_avx512f, avx512::kParts},
    {"avx2", "AVX2, FMA, F16C", has_avx2_fma_f16c, avx2::kParts},
#elif defined(__aarch64__)
    {"neon", "NEON", always, neon::kParts},
#endif
    {"scalar", "portable C++", always, kScalar},
};

// ── Launcher ────────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr size_t kTileBytes = 256 << 10;  // of features: what is left in a core's own cache while they are used twice
constexpr int kWidenFrom = 16;            // columns from which halves are widened once, for all of them
constexpr int kFewestRows = 16, kMostRows = 128, kLanes = 16;
constexpr size_t kPartsBytes = 16 << 20, kFewestPartRows = 512;  // of all parts' gradients, and in a part
constexpr int kSingleRows = 1024;                                // about so many rows are summed in single precision

struct Problem {
    const void* x;
    bool half;
    size_t n, d;
    int classes, folds;
    const float* weights;
    double* gradient;
    const float* shares;  // [folds, n], or [classes, folds, n]
    size_t class_step, fold_step;
    const int32_t* labels;   // [n], or
    const uint8_t* targets;  // [n, classes]

    int cols() const { return classes * folds; }
    bool widens() const { return half && cols() >= kWidenFrom; }
};

// What a thread needs besides, allocated before it starts.
struct Scratch {
    std::vector<float> widened, logits, sums, most, total;

    Scratch(const Problem& p, size_t tile)
        : widened(p.widens() ? tile * p.d : 0),
          logits(p.cols() * tile),
          sums(p.cols() * p.d),
          most(tile),
          total(tile) {}
};

// z [cols, rows] becomes the derivative of the loss by it; rows lie `step` apart, readable up to `step`.
double softmax(const Problem& p, size_t first, int rows, float* z, size_t step, Scratch& scratch, const Parts& run) {
    double loss = 0;
    float *most = scratch.most.data(), *total = scratch.total.data();
    for (int f = 0; f < p.folds; ++f) {
        const auto logits = [&](int c) { return z + (size_t(c) * p.folds + f) * step; };
        const float* share = p.shares + f * p.fold_step + first;
        std::copy_n(logits(0), rows, most);
        for (int c = 1; c < p.classes; ++c)
            for (int r = 0; r < rows; ++r) most[r] = std::max(most[r], logits(c)[r]);
        for (int c = 0; c < p.classes; ++c)
            for (int r = 0; r < rows; ++r) logits(c)[r] -= most[r];
        for (int r = 0; r < rows; ++r) loss -= double(share[r]) * logits(p.labels[first + r])[r];
        std::fill_n(total, rows, 0.0f);
        for (int c = 0; c < p.classes; ++c) {
            run.exp_all(logits(c), rows);
            for (int r = 0; r < rows; ++r) total[r] += logits(c)[r];
        }
        for (int r = 0; r < rows; ++r) {
            loss += double(share[r]) * std::log(total[r]);
            total[r] = share[r] / total[r];
        }
        for (int c = 0; c < p.classes; ++c)
            for (int r = 0; r < rows; ++r) logits(c)[r] *= total[r];
        for (int r = 0; r < rows; ++r) logits(p.labels[first + r])[r] -= share[r];
    }
    return loss;
}

double sigmoids(const Problem& p, size_t first, int rows, float* z, size_t step, Scratch& scratch, const Parts& run) {
    double loss = 0;
    float* faded = scratch.most.data();
    for (int c = 0; c < p.classes; ++c) {
        for (int f = 0; f < p.folds; ++f) {
            float* logits = z + (size_t(c) * p.folds + f) * step;
            const float* share = p.shares + c * p.class_step + f * p.fold_step + first;
            for (int r = 0; r < rows; ++r) faded[r] = -std::abs(logits[r]);
            run.exp_all(faded, rows);
            for (int r = 0; r < rows; ++r) {
                const float wanted = p.targets[(first + r) * p.classes + c] ? 1.0f : 0.0f;
                loss += double(share[r]) * (std::max(logits[r], 0.0f) - logits[r] * wanted + std::log1p(faded[r]));
                const float likely = (logits[r] >= 0 ? 1 : faded[r]) / (1 + faded[r]);
                logits[r] = share[r] * (likely - wanted);
            }
        }
    }
    return loss;
}

void flush(const Problem& p, std::vector<float>& sums, double* gradient) {
    for (int c = 0; c < p.cols(); ++c) {
        double* to = gradient + c * (p.d + 1);
        const float* from = &sums[c * p.d];
        for (size_t k = 0; k < p.d; ++k) to[k] += from[k];
    }
    std::fill(sums.begin(), sums.end(), 0.0f);
}

// Returns the loss of the rows from `first` to `end`, and adds its derivative to `gradient`, [cols, d + 1].
double loss_grad_of(const Problem& p, size_t first, size_t end, size_t tile, double* gradient, Scratch& scratch,
                    const Parts& run) {
    float* z = scratch.logits.data();
    double loss = 0;
    int unflushed = 0;
    const size_t item = p.half ? sizeof(uint16_t) : sizeof(float);
    const char* from = static_cast<const char*>(p.x) + first * p.d * item;
    const auto add_tile = [&](int rows, const auto* x, const auto& products) {
        const Ahead next{from + rows * p.d * item, first + rows < end ? item : 0, 0};
        products.dots(x, rows, p.weights, p.cols(), p.d, z, tile, next);
        loss += (p.labels ? softmax : sigmoids)(p, first, rows, z, tile, scratch, run);
        for (int c = 0; c < p.cols(); ++c) {
            double sums[4] = {};
            for (int r = 0; r < rows; ++r) sums[r % 4] += z[c * tile + r];
            gradient[c * (p.d + 1) + p.d] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
        }
        products.outer(z, tile, p.cols(), x, rows, p.d, scratch.sums.data(), next);
        if ((unflushed += rows) >= kSingleRows) flush(p, scratch.sums, gradient), unflushed = 0;
    };
    for (; first < end; first += tile, from += tile * p.d * item) {
        const int rows = int(std::min(tile, end - first));
        if (!p.half) {
            add_tile(rows, reinterpret_cast<const float*>(from), run.of_single);
        } else if (!p.widens()) {
            add_tile(rows, reinterpret_cast<const uint16_t*>(from), run.of_half);
        } else {
            run.widen(reinterpret_cast<const uint16_t*>(from), scratch.widened.data(), rows * p.d);
            add_tile(rows, scratch.widened.data(), run.of_single);
        }
    }
    flush(p, scratch.sums, gradient);
    return loss;
}

double loss_grad(const Problem& p, const Parts& run, int threads) {
    const size_t tile = std::clamp(int(kTileBytes / (sizeof(float) * p.d)), kFewestRows, kMostRows) / kLanes * kLanes;
    const size_t length = p.cols() * (p.d + 1),
                 most = std::clamp(kPartsBytes / (sizeof(double) * length), size_t(4), size_t(64));
    const size_t rows = std::max((p.n + most - 1) / most, kFewestPartRows), part_rows = (rows + tile - 1) / tile * tile;
    const int parts = int((p.n + part_rows - 1) / part_rows);
    std::vector<double> losses(parts), gradients(parts * length);
    std::vector<Scratch> scratch(std::min(threads, parts), Scratch(p, tile));
    share_out(parts, threads, [&](int part, int thread) {
        const size_t first = part * part_rows, end = std::min(first + part_rows, p.n);
        losses[part] = loss_grad_of(p, first, end, tile, &gradients[part * length], scratch[thread], run);
    });
    for (int part = 0; part < parts; ++part)
        for (size_t i = 0; i < length; ++i) p.gradient[i] += gradients[part * length + i];
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// What both functions take alike. `classes` and `folds` come from the arrays that only one of them has.
Problem problem(const AnyArray& x, const AnyArray& weights, const AnyOutput& gradient, size_t classes, size_t folds,
                int threads) {
    const bool half = x.dtype() == kHalf;
    if (!half) check_dtype("x", x, nb::dtype<float>(), "float32 or float16");
    check_shape("x", x, {kAny, kAny});
    check_dtype("weights", weights, nb::dtype<float>(), "float32");
    const AnyArray slopes(gradient);
    check_dtype("gradient", slopes, nb::dtype<double>(), "float64");
    const size_t n = x.shape(0), d = x.shape(1), cols = classes * folds;
    check_shape("weights", weights, {cols, d + 1});
    check_shape("gradient", slopes, {cols, d + 1});
    check_contiguous("x", x), check_contiguous("weights", weights), check_contiguous("gradient", slopes);
    if (threads < 1) refuse_value("threads must be at least 1, found " + std::to_string(threads) + ".");
    Problem p{};
    p.x = x.data(), p.half = half, p.n = n, p.d = d, p.classes = int(classes), p.folds = int(folds);
    p.weights = static_cast<const float*>(weights.data());
    p.gradient = static_cast<double*>(gradient.data());
    return p;
}

void check_shares(const AnyArray& shares) {
    check_dtype("shares", shares, nb::dtype<float>(), "float32");
    const size_t last = shares.ndim() - 1;
    for (size_t axis = 0; axis < last; ++axis)
        if (shares.shape(axis) > 1 && shares.stride(axis) < 0) refuse_type("shares must not run backwards.");
    if (!steps(shares, last, 1)) refuse_type("shares must be contiguous along its last axis, the rows.");
}

size_t step_of(const AnyArray& array, size_t axis) {
    return array.shape(axis) == 1 ? 0 : size_t(array.stride(axis));
}

double launch_softmax(const AnyArray& x, const AnyArray& weights, const AnyArray& labels, const AnyArray& shares,
                      const AnyOutput& gradient, int threads, const char* variant) {
    check_shape("shares", shares, {kAny, kAny});
    check_shape("weights", weights, {kAny, kAny});
    check_shares(shares);
    const size_t folds = shares.shape(0), cols = weights.shape(0);
    if (cols % folds) refuse_type("weights must have a row for each class and fold, found " + shape_of(weights) + ".");
    Problem p = problem(x, weights, gradient, cols / folds, folds, threads);
    check_shape("shares", shares, {folds, p.n});
    check_dtype("labels", labels, nb::dtype<int32_t>(), "int32");
    check_shape("labels", labels, {p.n});
    check_contiguous("labels", labels);
    p.labels = static_cast<const int32_t*>(labels.data());
    for (size_t r = 0; r < p.n; ++r)
        if (p.labels[r] < 0 || p.labels[r] >= p.classes)
            refuse_value("labels must lie in 0.." + std::to_string(p.classes - 1) + ", found " +
                         std::to_string(p.labels[r]) + ".");
    p.shares = static_cast<const float*>(shares.data());
    p.fold_step = step_of(shares, 0);
    const Parts& run = choose(kVariants, variant).run;
    nb::gil_scoped_release unlocked;
    return loss_grad(p, run, threads);
}

double launch_sigmoid(const AnyArray& x, const AnyArray& weights, const AnyArray& targets, const AnyArray& shares,
                      const AnyOutput& gradient, int threads, const char* variant) {
    check_shape("shares", shares, {kAny, kAny, kAny});
    check_shares(shares);
    const size_t classes = shares.shape(0), folds = shares.shape(1);
    Problem p = problem(x, weights, gradient, classes, folds, threads);
    check_shape("shares", shares, {classes, folds, p.n});
    check_dtype("targets", targets, nb::dtype<bool>(), "bool");
    check_shape("targets", targets, {p.n, classes});
    check_contiguous("targets", targets);
    p.targets = static_cast<const uint8_t*>(targets.data());
    p.shares = static_cast<const float*>(shares.data());
    p.class_step = step_of(shares, 0), p.fold_step = step_of(shares, 1);
    const Parts& run = choose(kVariants, variant).run;
    nb::gil_scoped_release unlocked;
    return loss_grad(p, run, threads);
}

}  // namespace

nb::list bind_loss_grad(nb::module_& module) {
    module.def("softmax_loss_grad", launch_softmax, nb::arg("x").noconvert(), nb::arg("weights").noconvert(),
               nb::arg("labels").noconvert(), nb::arg("shares").noconvert(), nb::arg("gradient").noconvert(),
               nb::arg("threads") = 1, nb::arg("variant") = "",
               "Loss and gradient of softmax regression. See tledge.native.softmax_loss_grad.");
    module.def("sigmoid_loss_grad", launch_sigmoid, nb::arg("x").noconvert(), nb::arg("weights").noconvert(),
               nb::arg("targets").noconvert(), nb::arg("shares").noconvert(), nb::arg("gradient").noconvert(),
               nb::arg("threads") = 1, nb::arg("variant") = "",
               "Loss and gradient of a sigmoid per class. See tledge.native.sigmoid_loss_grad.");
    return rows(kVariants);
}

}  // namespace tledge
