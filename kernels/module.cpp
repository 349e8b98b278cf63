// tledge._kernels: what tledge/native.py picks from. A kernel has two lines here: its binding, and its place in
// VARIANTS.
#include <nanobind/nanobind.h>

namespace tledge {
nanobind::list bind_loss_grad(nanobind::module_& module);
nanobind::list bind_observe(nanobind::module_& module);
nanobind::list bind_resize_normalize(nanobind::module_& module);
#ifdef TLEDGE_CUDA
void bind_cuda(nanobind::module_& module, nanobind::dict& variants);
#endif
}  // namespace tledge

NB_MODULE(_kernels, module) {
    // By kernel, the rows of its table: [(name, isa, supported by this processor)], the fastest first.
    nanobind::dict variants;
    variants["softmax_loss_grad"] = variants["sigmoid_loss_grad"] = tledge::bind_loss_grad(module);
    variants["observe"] = tledge::bind_observe(module);
    variants["resize_normalize"] = tledge::bind_resize_normalize(module);
#ifdef TLEDGE_CUDA
    tledge::bind_cuda(module, variants);
#endif
    module.attr("VARIANTS") = variants;
}
