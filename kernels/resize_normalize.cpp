// resize_normalize: pictures of any size → one batch, several pictures at once.
//
//     out = levels[channel][resampled]     or `resampled` itself, where `out` is uint8
//
// resample.h holds the formula of resampling, its passes and the table of variants; here are what part of a picture
// goes where (stretch, crop, pad), the rows' way through the passes, the threads and the binding.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <memory>
#include <mutex>
#include <string_view>

#include "arrays.h"
#include "resample.h"
#include "threads.h"

namespace nb = nanobind;

namespace tledge {
namespace {

// ── Batch ───────────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr int kLevels = 256, kPadGrey = 128;

// uint8 [count, height, width, 3], or elements of 2 or 4 bytes [count, 3, height, width], all contiguous. `levels`
// [3, kLevels] holds what a grey level of each channel becomes there. They are copied, never computed with.
struct Batch {
    uint8_t* data;
    const uint8_t* levels;
    size_t count, itemsize;
    int height, width;

    size_t pixels() const { return size_t(height) * width; }
    uint8_t* picture(size_t index) const { return data + index * 3 * pixels() * itemsize; }
};

struct Window {
    int top, left, height, width;
};

using Box = std::array<float, 4>;  // x0, y0, x1, y1; single precision, as Pillow keeps it

struct Fitted {
    Box from;
    Window to;
};

// Each store writes four bytes, the last of which the next pixel overwrites; so the final pixel is written alone.
void interleave(const uint8_t* red, const uint8_t* green, const uint8_t* blue, int width, uint8_t* to) {
    for (int x = 0; x < width - 1; ++x, to += 3) {
        const uint32_t pixel = red[x] | green[x] << 8 | blue[x] << 16;
        std::memcpy(to, &pixel, sizeof pixel);
    }
    to[0] = red[width - 1], to[1] = green[width - 1], to[2] = blue[width - 1];
}

void separate(const uint8_t* from, int width, uint8_t* red, uint8_t* green, uint8_t* blue) {
    for (int x = 0; x < width; ++x, from += 3) red[x] = from[0], green[x] = from[1], blue[x] = from[2];
}

template <class Element>
void emit_levels(const uint8_t* row, int channels, int width, const Batch& batch, Element* to) {
    const auto* levels = reinterpret_cast<const Element*>(batch.levels);
    for (int channel = 0; channel < 3; ++channel, levels += kLevels, to += batch.pixels()) {
        const uint8_t* value = row + (channels == 3 ? channel : 0);
        for (int x = 0; x < width; ++x, value += channels) to[x] = levels[*value];
    }
}

// One row of a picture, as its passes leave it, into row `y` of the window.
void emit(const uint8_t* row, int channels, const Batch& batch, uint8_t* picture, const Window& window, int y) {
    const size_t at = size_t(window.top + y) * batch.width + window.left;
    if (batch.itemsize == 4) {
        emit_levels(row, channels, window.width, batch, reinterpret_cast<uint32_t*>(picture) + at);
    } else if (batch.itemsize == 2) {
        emit_levels(row, channels, window.width, batch, reinterpret_cast<uint16_t*>(picture) + at);
    } else if (channels == 1) {
        interleave(row, row, row, window.width, picture + 3 * at);
    } else {
        std::memcpy(picture + 3 * at, row, 3 * size_t(window.width));
    }
}

// ── Fit ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

using Fit = Fitted (*)(double height, double width, const Batch& batch);

Fitted stretch(double height, double width, const Batch& batch) {
    return {{0, 0, float(width), float(height)}, {0, 0, batch.height, batch.width}};
}

Fitted crop(double height, double width, const Batch& batch) {
    const double zoom = std::max(batch.height / height, batch.width / width);
    const double box_height = std::min(height, batch.height / zoom), box_width = std::min(width, batch.width / zoom);
    const double left = (width - box_width) / 2, top = (height - box_height) / 2;
    return {{float(left), float(top), float(width - left), float(height - top)}, {0, 0, batch.height, batch.width}};
}

Fitted pad(double height, double width, const Batch& batch) {
    const double zoom = std::min(batch.height / height, batch.width / width);
    const int inner_height = std::clamp(int(std::nearbyint(height * zoom)), 1, batch.height);
    const int inner_width = std::clamp(int(std::nearbyint(width * zoom)), 1, batch.width);
    const Window window{(batch.height - inner_height) / 2, (batch.width - inner_width) / 2, inner_height, inner_width};
    return {{0, 0, float(width), float(height)}, window};
}

// ── One picture ─────────────────────────────────────────────────────────────────────────────────────────────────────

struct Scratch {
    Weights across, down;
    std::vector<uint8_t> padded, narrowed, shortened;
    std::vector<const uint8_t*> window;
    Arrange arranged_by = nullptr;
};

// Rows that a horizontal pass takes at once. Grey rows travel by threes, in the places of red, green and blue.
constexpr int kMostRows = 3 * kBlock;

struct Job {
    const Picture<const uint8_t>& image;
    const Batch& batch;
    uint8_t* picture;
    Window window;
    const Passes& run;
    Scratch& scratch;

    int rows() const { return image.channels == 1 ? kMostRows : kBlock; }
    size_t source_bytes() const { return size_t(image.width) * image.channels; }
    size_t narrow_bytes() const { return size_t(window.width) * image.channels; }
    size_t padded_bytes() const { return 3 * size_t(image.width) + kSlack; }
    void put(const uint8_t* row, int y) const { emit(row, image.channels, batch, picture, window, y); }
};

// `job.rows()` rows of the source's width become as many of the output's. RGB rows must be readable kSlack bytes past
// their end; kSpill bytes past the end of each result may be overwritten.
void narrow(const Job& job, const uint8_t* const* from, uint8_t* const* to) {
    if (job.image.channels == 3) return job.run.across(from, job.scratch.across, job.window.width, to);
    const size_t stride = 3 * size_t(job.window.width) + kSlack;
    const uint8_t* wide[kBlock];
    uint8_t* slim[kBlock];
    job.scratch.narrowed.resize(kBlock * stride);
    for (int i = 0; i < kBlock; ++i) {
        uint8_t* copy = &job.scratch.padded[i * job.padded_bytes()];
        interleave(from[3 * i], from[3 * i + 1], from[3 * i + 2], job.image.width, copy);
        wide[i] = copy, slim[i] = &job.scratch.narrowed[i * stride];
    }
    job.run.across(wide, job.scratch.across, job.window.width, slim);
    for (int i = 0; i < kBlock; ++i) separate(slim[i], job.window.width, to[3 * i], to[3 * i + 1], to[3 * i + 2]);
}

// Row `y`, readable past its end: the picture's own memory where it goes on that far, else a copy.
const uint8_t* readable_row(const Job& job, int y, int slot) {
    const auto& image = job.image;
    y = std::min(y, image.height - 1);
    if (image.channels == 1 || (image.height - 1 - y) * image.stride >= kSlack) return image.row(y);
    uint8_t* copy = &job.scratch.padded[slot * job.padded_bytes()];
    std::memcpy(copy, image.row(y), job.source_bytes());
    return copy;
}

// Rows are narrowed when the first window needs them, and kept in a ring for as long as any may.
void across_then_down(const Job& job) {
    const Weights& down = job.scratch.down;
    const int capacity = down.taps + job.rows();
    const size_t bytes = job.narrow_bytes(), stride = bytes + kSlack;
    auto& ring = job.scratch.shortened;
    ring.resize((capacity + 1) * stride);
    uint8_t* result = &ring[capacity * stride];
    for (int y = 0, next = 0; y < job.window.height; ++y) {
        const int first = down.first[y], last = std::min(first + down.taps, job.image.height) - 1;
        for (next = std::max(next, first); next <= last; next += job.rows()) {
            const uint8_t* from[kMostRows];
            uint8_t* to[kMostRows];
            for (int row = 0; row < job.rows(); ++row) {
                from[row] = readable_row(job, next + row, row);
                to[row] = &ring[(next + row) % capacity * stride];
            }
            narrow(job, from, to);
        }
        for (int k = 0; k < down.taps; ++k)
            job.scratch.window[k] = &ring[std::min(first + k, last) % capacity * stride];
        job.run.down(job.scratch.window.data(), down, y, bytes, result);
        job.put(result, y);
    }
}

void down_then_across(const Job& job) {
    const Weights& down = job.scratch.down;
    const size_t stride = job.padded_bytes(), slim = job.narrow_bytes() + kSlack;
    auto& rows = job.scratch.shortened;
    rows.resize(job.rows() * (stride + slim));
    const uint8_t* from[kMostRows];
    uint8_t* to[kMostRows];
    for (int row = 0; row < job.rows(); ++row) {
        from[row] = &rows[row * stride];
        to[row] = &rows[job.rows() * stride + row * slim];
    }
    for (int y = 0; y < job.window.height; y += job.rows()) {
        const int count = std::min(job.rows(), job.window.height - y);
        for (int row = 0; row < count; ++row) {
            for (int k = 0; k < down.taps; ++k) {
                job.scratch.window[k] = job.image.row(std::min(down.first[y + row] + k, job.image.height - 1));
            }
            job.run.down(job.scratch.window.data(), down, y + row, job.source_bytes(), &rows[row * stride]);
        }
        narrow(job, from, to);
        for (int row = 0; row < count; ++row) job.put(to[row], y + row);
    }
}

void resize(const Picture<const uint8_t>& image, const Batch& batch, size_t index, Fit fit, const Filter& filter,
            const Passes& run, Scratch& scratch) {
    const Fitted fitted = fit(image.height, image.width, batch);
    const auto& [x0, y0, x1, y1] = fitted.from;
    const Window& to = fitted.to;
    const Job job{image, batch, batch.picture(index), to, run, scratch};
    scratch.padded.resize(std::max(kBlock * job.padded_bytes(), size_t(batch.width)));
    if (to.height < batch.height || to.width < batch.width) {
        std::fill_n(scratch.padded.begin(), batch.width, uint8_t(kPadGrey));
        const Window whole{0, 0, batch.height, batch.width};
        for (int y = 0; y < batch.height; ++y) emit(scratch.padded.data(), 1, batch, job.picture, whole, y);
    }
    if (image.height == to.height && image.width == to.width) {  // then every weight is 0 or 1
        for (int y = 0; y < to.height; ++y) job.put(image.row(y), y);
        return;
    }
    const bool other_across = fill_weights(scratch.across, image.width, to.width, x0, x1, filter, run.across_taps);
    const bool other_down = fill_weights(scratch.down, image.height, to.height, y0, y1, filter, run.down_taps);
    if (run.arrange && (other_across || other_down || scratch.arranged_by != run.arrange)) {
        run.arrange(scratch.across, scratch.down);
    }
    scratch.arranged_by = run.arrange;
    scratch.window.resize(scratch.down.taps);
    const bool much_shorter = image.height > to.height && image.height - to.height > 2 * (image.width - to.width);
    much_shorter ? down_then_across(job) : across_then_down(job);
}

// ── Scratch ─────────────────────────────────────────────────────────────────────────────────────────────────────────

// Scratch memory outlives the threads that use it: each takes a piece that is free, and gives it back.
class Lease {
public:
    Lease() : scratch_(take()) {}
    ~Lease() {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(scratch_));
    }
    Scratch& operator*() { return *scratch_; }

private:
    static std::unique_ptr<Scratch> take() {
        const std::lock_guard lock(mutex_);
        if (free_.empty()) return std::make_unique<Scratch>();
        auto scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
    }

    std::unique_ptr<Scratch> scratch_;
    inline static std::mutex mutex_;
    inline static std::vector<std::unique_ptr<Scratch>> free_;
};

// ── Binding ─────────────────────────────────────────────────────────────────────────────────────────────────────────

Filter filter_named(std::string_view interpolation) {
    if (interpolation == "bilinear") return {1, triangle};
    if (interpolation == "bicubic") return {2, cubic};
    refuse_value("interpolation must be \"bilinear\" or \"bicubic\", found '" + std::string(interpolation) + "'.");
}

Fit fit_named(std::string_view fit) {
    if (fit == "stretch") return stretch;
    if (fit == "crop") return crop;
    if (fit == "pad") return pad;
    refuse_value("fit must be \"stretch\", \"crop\" or \"pad\", found '" + std::string(fit) + "'.");
}

Batch batch_of(const AnyOutput& output, const std::optional<AnyArray>& levels) {
    const AnyArray out(output);
    const bool pixels = out.dtype() == nb::dtype<uint8_t>(), half = out.dtype() == tledge::kHalf;
    if (!pixels && !half && out.dtype() != nb::dtype<float>()) {
        refuse_type("out must be a uint8, float16 or float32 array.");
    }
    if (pixels) {
        check_shape("out", out, {kAny, kAny, kAny, 3});
    } else {
        check_shape("out", out, {kAny, 3, kAny, kAny});
    }
    check_size("out", out);
    check_contiguous("out", out);
    if (pixels == levels.has_value()) refuse_type("levels must be given where out is float, and only there.");
    if (levels) {
        check_dtype("levels", *levels, out.dtype(), half ? "float16" : "float32");
        check_shape("levels", *levels, {3, kLevels});
        check_contiguous("levels", *levels);
    }
    const int axis = pixels ? 1 : 2;
    const size_t itemsize = pixels ? 1 : half ? 2 : 4;
    return {static_cast<uint8_t*>(output.data()),
            levels ? static_cast<const uint8_t*>(levels->data()) : nullptr,
            out.shape(0),
            itemsize,
            int(out.shape(axis)),
            int(out.shape(axis + 1))};
}

std::vector<Picture<const uint8_t>> pictures_in(const std::vector<AnyArray>& images, const Batch& batch) {
    if (images.size() != batch.count) {
        refuse_value("images must be as many as out holds, " + std::to_string(batch.count) + ", found " +
                     std::to_string(images.size()) + ".");
    }
    std::vector<Picture<const uint8_t>> pictures;
    for (const AnyArray& image : images) {
        pictures.push_back(picture_in("image", image));
        check_apart(pictures.back(), batch.data, batch.picture(batch.count));
    }
    return pictures;
}

void launch(const std::vector<AnyArray>& images, const AnyOutput& out, const char* fit, const char* interpolation,
            const std::optional<AnyArray>& levels, int threads, const char* variant) {
    const Batch batch = batch_of(out, levels);
    const auto pictures = pictures_in(images, batch);
    const Fit fitted = fit_named(fit);
    const Filter filter = filter_named(interpolation);
    if (threads < 1) refuse_value("threads must be at least 1, found " + std::to_string(threads) + ".");
    const Passes& run = choose(kVariants, variant).run;
    nb::gil_scoped_release unlocked;
    share_out(int(pictures.size()), threads, [&](int index, int) {
        Lease scratch;
        resize(pictures[index], batch, index, fitted, filter, run, *scratch);
    });
}

}  // namespace

nb::list bind_resize_normalize(nb::module_& module) {
    module.def("resize_normalize", launch, nb::arg("images").noconvert(), nb::arg("out").noconvert(),
               nb::arg("fit") = "stretch", nb::arg("interpolation") = "bilinear",
               nb::arg("levels").noconvert() = nb::none(), nb::arg("threads") = 1, nb::arg("variant") = "",
               "Resample each of `images` into its place in `out`. See tledge.native.resize_normalize.\n\n"
               "`variant` names a row of variants()[\"resize_normalize\"]; empty: the fastest. Raises ValueError when "
               "it is not supported.");
    return rows(kVariants);
}

}  // namespace tledge
