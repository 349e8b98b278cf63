// The CUDA kernels alone, as kernels/module.cpp binds them.
#include <nanobind/nanobind.h>

namespace tledge {
void bind_cuda(nanobind::module_& module, nanobind::dict& variants);
}

NB_MODULE(_kernels, module) {
    nanobind::dict variants;
    tledge::bind_cuda(module, variants);
    module.attr("VARIANTS") = variants;
}
