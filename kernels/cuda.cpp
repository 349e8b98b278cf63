// tledge._kernels.cuda: the CUDA kernels as Python sees them. Checks stand here, launchers in the .cu files.
#include "cuda.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "arrays.h"

namespace nb = nanobind;

namespace tledge {
namespace {

// An array that stays on the device: what upload() gives, and what stands for x, labels, targets or shares in a call.
struct DeviceArray {
    cuda::Resident memory;
    nb::dlpack::dtype dtype;
    std::vector<size_t> shape;
    int32_t lowest = 0, highest = 0;  // of int32, that labels need not be looked at again
};

DeviceArray to_device(const char* name, const AnyArray& array) {
    if (array.ndim() == 0 || array.size() == 0) refuse_value(std::string(name) + " must not be empty.");
    check_contiguous(name, array);
    DeviceArray result{{}, array.dtype(), {}};
    for (size_t axis = 0; axis < array.ndim(); ++axis) result.shape.push_back(array.shape(axis));
    if (array.dtype() == nb::dtype<int32_t>()) {
        const auto* first = static_cast<const int32_t*>(array.data());
        const auto [least, most] = std::minmax_element(first, first + array.size());
        result.lowest = *least, result.highest = *most;
    }
    const void* data = array.data();
    const size_t bytes = array.nbytes();
    nb::gil_scoped_release unlocked;
    result.memory = cuda::upload(data, bytes);
    return result;
}

// An argument that is on the device already, or is brought there for one call.
class Argument {
public:
    Argument(const char* name, nb::handle value) : name_(name) {
        if (!nb::try_cast(value, array_)) {
            AnyArray host;
            if (!nb::try_cast(value, host, false)) refuse_type(std::string(name) + " must be an array.");
            own_ = to_device(name, host);
            array_ = &own_;
        }
    }

    void check(nb::dlpack::dtype wanted, const char* called, std::initializer_list<size_t> shape) const {
        if (array_->dtype != wanted) refuse_type(std::string(name_) + " must be a " + called + " array.");
        bool fits = array_->shape.size() == shape.size();
        size_t axis = 0;
        for (const size_t length : shape) {
            fits = fits && (length == kAny || array_->shape[axis] == length);
            ++axis;
        }
        if (!fits) refuse_type(std::string(name_) + " has another shape than the other arrays ask for.");
    }
    void check_labels(size_t n, size_t classes) const {
        check(nb::dtype<int32_t>(), "int32", {n});
        if (array_->lowest < 0 || size_t(array_->highest) >= classes)
            refuse_value("labels must lie in 0.." + std::to_string(classes - 1) + ", found " +
                         std::to_string(array_->lowest < 0 ? array_->lowest : array_->highest) + ".");
    }
    bool half() const { return array_->dtype == kHalf; }
    size_t length(size_t axis) const { return array_->shape[axis]; }
    size_t rank() const { return array_->shape.size(); }
    template <class T>
    const T* data() const { return static_cast<const T*>(array_->memory.data.get()); }

private:
    const char* name_;
    DeviceArray own_;
    DeviceArray* array_ = nullptr;
};

void check_features(const Argument& x) {
    x.check(x.half() ? kHalf : nb::dtype<float>(), "float32 or float16", {kAny, kAny});
}

double loss_grad(const Argument& x, const AnyArray& weights, const AnyOutput& gradient, int threads,
                 cuda::LossGrad p) {
    if (threads < 1) refuse_value("threads must be at least 1, found " + std::to_string(threads) + ".");
    p.x = x.data<void>(), p.half = x.half(), p.n = x.length(0), p.d = x.length(1);
    const size_t cols = p.classes * p.folds;
    const AnyArray slopes(gradient);
    check_dtype("weights", weights, nb::dtype<float>(), "float32");
    check_dtype("gradient", slopes, nb::dtype<double>(), "float64");
    check_shape("weights", weights, {cols, p.d + 1});
    check_shape("gradient", slopes, {cols, p.d + 1});
    check_contiguous("weights", weights), check_contiguous("gradient", slopes);
    const auto* from = static_cast<const float*>(weights.data());
    auto* to = static_cast<double*>(gradient.data());
    nb::gil_scoped_release unlocked;
    return cuda::loss_grad(p, from, to);
}

double softmax(nb::handle x_in, const AnyArray& weights, nb::handle labels_in, nb::handle shares_in,
               const AnyOutput& gradient, int threads) {
    const Argument x("x", x_in), labels("labels", labels_in), shares("shares", shares_in);
    check_features(x);
    shares.check(nb::dtype<float>(), "float32", {kAny, x.length(0)});
    const size_t folds = shares.length(0);
    check_shape("weights", weights, {kAny, kAny});
    if (weights.shape(0) % folds)
        refuse_type("weights must have a row for each class and fold, found " + shape_of(weights) + ".");
    cuda::LossGrad p{};
    p.folds = folds, p.classes = weights.shape(0) / folds;
    labels.check_labels(x.length(0), p.classes);
    p.labels = labels.data<int32_t>(), p.shares = shares.data<float>();
    return loss_grad(x, weights, gradient, threads, p);
}

double sigmoid(nb::handle x_in, const AnyArray& weights, nb::handle targets_in, nb::handle shares_in,
               const AnyOutput& gradient, int threads) {
    const Argument x("x", x_in), targets("targets", targets_in), shares("shares", shares_in);
    check_features(x);
    shares.check(nb::dtype<float>(), "float32", {kAny, kAny, x.length(0)});
    cuda::LossGrad p{};
    p.classes = shares.length(0), p.folds = shares.length(1);
    targets.check(nb::dtype<bool>(), "bool", {x.length(0), p.classes});
    p.targets = targets.data<uint8_t>(), p.shares = shares.data<float>();
    return loss_grad(x, weights, gradient, threads, p);
}

void gram(nb::handle x_in, nb::handle labels_in, const AnyOutput& product, const AnyOutput& sums) {
    const Argument x("x", x_in), labels("labels", labels_in);
    check_features(x);
    const AnyArray pairs(product), means(sums);
    const size_t n = x.length(0), d = x.length(1);
    check_dtype("product", pairs, nb::dtype<double>(), "float64");
    check_dtype("sums", means, nb::dtype<double>(), "float64");
    check_shape("product", pairs, {d, d});
    check_shape("sums", means, {kAny, d});
    check_contiguous("product", pairs), check_contiguous("sums", means);
    const size_t classes = means.shape(0);
    labels.check_labels(n, classes);
    auto *to_product = static_cast<double*>(product.data()), *to_sums = static_cast<double*>(sums.data());
    nb::gil_scoped_release unlocked;
    cuda::gram(x.data<void>(), x.half(), n, d, labels.data<int32_t>(), classes, to_product, to_sums);
}

// What part of a picture goes where, as preprocessing says it.
void fit_into(cuda::Picture& p, const std::string& fit, int height, int width) {
    const double tall = double(height) / p.height, wide = double(width) / p.width;
    const auto box = [&p](double x0, double y0, double x1, double y1) {
        p.box[0] = float(x0), p.box[1] = float(y0), p.box[2] = float(x1), p.box[3] = float(y1);
    };
    box(0, 0, p.width, p.height);
    p.top = p.left = 0, p.inner_height = height, p.inner_width = width;
    if (fit == "crop") {
        const double zoom = std::max(tall, wide);
        const double left = (p.width - std::min(double(p.width), width / zoom)) / 2;
        const double top = (p.height - std::min(double(p.height), height / zoom)) / 2;
        box(left, top, p.width - left, p.height - top);
    } else if (fit == "pad") {
        const double zoom = std::min(tall, wide);
        p.inner_height = std::min(height, std::max(1, int(std::nearbyint(p.height * zoom))));
        p.inner_width = std::min(width, std::max(1, int(std::nearbyint(p.width * zoom))));
        p.top = (height - p.inner_height) / 2, p.left = (width - p.inner_width) / 2;
    } else if (fit != "stretch") {
        refuse_value("fit must be \"stretch\", \"crop\" or \"pad\", found '" + fit + "'.");
    }
}

void resize_normalize(nb::sequence images, const AnyOutput& out, const std::string& fit,
                      const std::string& interpolation, nb::handle levels_in, int threads) {
    const AnyArray target(out);
    const bool bytes = target.dtype() == nb::dtype<uint8_t>(), half = target.dtype() == kHalf;
    if (!bytes && !half) check_dtype("out", target, nb::dtype<float>(), "uint8, float16 or float32");
    if (bytes) check_shape("out", target, {kAny, kAny, kAny, 3});
    else check_shape("out", target, {kAny, 3, kAny, kAny});
    check_contiguous("out", target);
    if (bytes != levels_in.is_none()) refuse_type("levels must be given where out is float, and only there.");
    AnyArray levels;
    if (!bytes) {
        if (!nb::try_cast(levels_in, levels, false)) refuse_type("levels must be an array.");
        check_dtype("levels", levels, target.dtype(), half ? "float16" : "float32");
        check_shape("levels", levels, {3, 256});
        check_contiguous("levels", levels);
    }
    if (interpolation != "bilinear" && interpolation != "bicubic")
        refuse_value("interpolation must be \"bilinear\" or \"bicubic\", found '" + interpolation + "'.");
    if (threads < 1) refuse_value("threads must be at least 1, found " + std::to_string(threads) + ".");
    const size_t count = target.shape(0);
    if (nb::len(images) != count)
        refuse_value("images must be as many as out holds, " + std::to_string(count) + ", found " +
                     std::to_string(nb::len(images)) + ".");

    const int height = int(target.shape(bytes ? 1 : 2)), width = int(target.shape(bytes ? 2 : 3));
    const auto* begin = static_cast<const uint8_t*>(out.data());
    const uint8_t* end = begin + target.nbytes();
    std::vector<cuda::Picture> pictures;
    std::vector<AnyArray> held;
    for (nb::handle each : images) {
        if (!nb::try_cast(each, held.emplace_back(), false)) refuse_type("image must be a uint8 array.");
        const auto from = picture_in("image", held.back());
        if (from.data < end && begin < from.row(from.height)) refuse_value("images and out must not overlap.");
        cuda::Picture picture{from.data, from.height, from.width, from.channels, {}, 0, 0, 0, 0};
        fit_into(picture, fit, height, width);
        pictures.push_back(picture);
    }
    const auto pixel = bytes ? cuda::Pixel::byte : half ? cuda::Pixel::half : cuda::Pixel::single;
    const void* table = bytes ? nullptr : levels.data();
    void* to = out.data();
    nb::gil_scoped_release unlocked;
    cuda::resize_normalize(pictures.data(), count, interpolation == "bicubic", pixel, table, height, width, to);
}

// Zeros, as bytes, in memory that the device copies from and to by itself.
nb::object pinned(size_t bytes) {
    void* data = cuda::pinned(bytes);
    std::fill_n(static_cast<uint8_t*>(data), bytes, uint8_t(0));
    nb::capsule owner(data, [](void* at) noexcept { cuda::unpin(at); });
    return nb::cast(nb::ndarray<nb::numpy, uint8_t>(data, {bytes}, owner));
}

}  // namespace

// Define the module's part for GPUs, and add a row to the tables of its kernels where there is a device to run on. The
// row stands last: arrays that lie in the host's memory are mostly not worth the way to the device.
void bind_cuda(nb::module_& module, nb::dict& variants) {
    if (!*cuda::device()) return;
    nb::module_ here = module.def_submodule("cuda", "The kernels on a GPU.");
    here.attr("DEVICE") = cuda::device();
    nb::class_<DeviceArray>(here, "DeviceArray", "An array in the memory of the device.")
        .def_ro("shape", &DeviceArray::shape);
    here.def("upload", [](const AnyArray& array) { return to_device("array", array); }, nb::arg("array").noconvert());
    here.def("pinned", pinned, nb::arg("bytes"));
    here.def("softmax_loss_grad", softmax, nb::arg("x"), nb::arg("weights").noconvert(), nb::arg("labels"),
             nb::arg("shares"), nb::arg("gradient").noconvert(), nb::arg("threads") = 1);
    here.def("sigmoid_loss_grad", sigmoid, nb::arg("x"), nb::arg("weights").noconvert(), nb::arg("targets"),
             nb::arg("shares"), nb::arg("gradient").noconvert(), nb::arg("threads") = 1);
    here.def("gram", gram, nb::arg("x"), nb::arg("labels"), nb::arg("product").noconvert(),
             nb::arg("sums").noconvert());
    here.def("resize_normalize", resize_normalize, nb::arg("images"), nb::arg("out").noconvert(),
             nb::arg("fit") = "stretch", nb::arg("interpolation") = "bilinear", nb::arg("levels") = nb::none(),
             nb::arg("threads") = 1);
    for (const char* kernel : {"resize_normalize", "softmax_loss_grad", "sigmoid_loss_grad", "gram"}) {
        nb::list rows;
        if (variants.contains(kernel)) rows.extend(nb::object(variants[kernel]));
        rows.append(nb::make_tuple("cuda", cuda::device(), true));
        variants[kernel] = rows;
    }
}

}  // namespace tledge
