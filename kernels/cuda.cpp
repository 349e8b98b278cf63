// tledge._kernels.cuda: the CUDA kernels as Python sees them. Checks stand here, launchers in the .cu files.
#include "cuda.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
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

double loss_grad(const Argument& x, const AnyArray& weights, const AnyOutput& gradient, cuda::LossGrad p) {
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
               const AnyOutput& gradient) {
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
    return loss_grad(x, weights, gradient, p);
}

double sigmoid(nb::handle x_in, const AnyArray& weights, nb::handle targets_in, nb::handle shares_in,
               const AnyOutput& gradient) {
    const Argument x("x", x_in), targets("targets", targets_in), shares("shares", shares_in);
    check_features(x);
    shares.check(nb::dtype<float>(), "float32", {kAny, kAny, x.length(0)});
    cuda::LossGrad p{};
    p.classes = shares.length(0), p.folds = shares.length(1);
    targets.check(nb::dtype<bool>(), "bool", {x.length(0), p.classes});
    p.targets = targets.data<uint8_t>(), p.shares = shares.data<float>();
    return loss_grad(x, weights, gradient, p);
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

using Numbers = std::vector<double>;

// `out` is uint8 [h, w, 3], or float32 or float16 [3, h, w].
void resize_normalize(const AnyArray& image, const AnyOutput& out, nb::handle box, const std::string& interpolation,
                      const Numbers& mean, const Numbers& std) {
    const auto from = picture_in("image", image);
    const AnyArray target(out);
    const bool bytes = target.dtype() == nb::dtype<uint8_t>();
    if (!bytes && target.dtype() != kHalf) check_dtype("out", target, nb::dtype<float>(), "uint8, float16 or float32");
    if (bytes) check_shape("out", target, {kAny, kAny, 3});
    else check_shape("out", target, {3, kAny, kAny});
    check_size("out", target);
    if (interpolation != "bilinear" && interpolation != "bicubic")
        refuse_value("interpolation must be \"bilinear\" or \"bicubic\", found '" + interpolation + "'.");
    if (mean.size() != 3 || std.size() != 3) refuse_value("mean and std must be three numbers each.");

    cuda::Resize job{from.data, from.height, from.width, from.channels, out.data(), int(target.shape(bytes ? 0 : 1)),
                     int(target.shape(bytes ? 1 : 2)), bytes ? cuda::Pixel::byte
                     : target.dtype() == kHalf ? cuda::Pixel::half : cuda::Pixel::single,
                     {0, 0, float(from.width), float(from.height)}, interpolation == "bicubic", {}, {}};
    Numbers edges;
    if (!box.is_none()) {
        if (!nb::try_cast(box, edges) || edges.size() != 4)
            refuse_value("box must be four numbers (x0, y0, x1, y1), found " + std::string(nb::repr(box).c_str()) + ".");
        std::copy(edges.begin(), edges.end(), job.box);
    }
    const float* b = job.box;
    if (!(0 <= b[0] && b[0] < b[2] && b[2] <= from.width && 0 <= b[1] && b[1] < b[3] && b[3] <= from.height))
        refuse_value("box must satisfy 0 <= x0 < x1 <= " + std::to_string(from.width) + " and 0 <= y0 < y1 <= " +
                     std::to_string(from.height) + ", found " + nb::repr(box).c_str() + ".");
    for (int c = 0; c < 3; ++c) job.mean[c] = float(mean[c]), job.std[c] = float(std[c]);

    // The device fills a picture that lies in one piece; `resize` may be given a window of a larger one.
    std::vector<uint8_t> whole;
    const int64_t line = 3 * int64_t(job.out_width);
    const bool window = bytes && !(steps(target, 0, line) && steps(target, 1, 3) && steps(target, 2, 1));
    if (window) {
        const auto to = picture_out("out", out);
        check_apart(from, to);
        whole.resize(size_t(line) * job.out_height);
        job.out = whole.data();
        {
            nb::gil_scoped_release unlocked;
            cuda::resize_normalize(job);
        }
        for (int y = 0; y < job.out_height; ++y) std::copy_n(&whole[size_t(y) * line], line, to.row(y));
        return;
    }
    if (bytes) check_apart(from, picture_out("out", out));
    check_contiguous("out", target);
    nb::gil_scoped_release unlocked;
    cuda::resize_normalize(job);
}

void resize(const AnyArray& image, const AnyOutput& out, nb::handle box, const std::string& interpolation) {
    if (AnyArray(out).dtype() != nb::dtype<uint8_t>()) refuse_type("out must be a uint8 array.");
    resize_normalize(image, out, box, interpolation, {0, 0, 0}, {1, 1, 1});
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
             nb::arg("shares"), nb::arg("gradient").noconvert());
    here.def("sigmoid_loss_grad", sigmoid, nb::arg("x"), nb::arg("weights").noconvert(), nb::arg("targets"),
             nb::arg("shares"), nb::arg("gradient").noconvert());
    here.def("gram", gram, nb::arg("x"), nb::arg("labels"), nb::arg("product").noconvert(),
             nb::arg("sums").noconvert());
    here.def("resize", resize, nb::arg("image").noconvert(), nb::arg("out").noconvert(), nb::arg("box") = nb::none(),
             nb::arg("interpolation") = "bilinear");
    here.def("resize_normalize", resize_normalize, nb::arg("image").noconvert(), nb::arg("out").noconvert(),
             nb::arg("box") = nb::none(), nb::arg("interpolation") = "bilinear", nb::arg("mean") = Numbers{0, 0, 0},
             nb::arg("std") = Numbers{1, 1, 1});
    for (const char* kernel : {"resize", "resize_normalize", "softmax_loss_grad", "sigmoid_loss_grad", "gram"}) {
        nb::list rows;
        if (variants.contains(kernel)) rows.extend(nb::object(variants[kernel]));
        rows.append(nb::make_tuple("cuda", cuda::device(), true));
        variants[kernel] = rows;
    }
}

}  // namespace tledge
