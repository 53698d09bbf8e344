"""Sample from a distribution by reversing a diffusion, from data or from an unnormalised density.

    model = orn.fit(data)                          # samples -> a model
    x = model.sample(64)

    r = orn.sample_density(log_prob, dim=10)       # log-density -> samples, log Z and its interval
    r.samples, r.log_z, r.log_z_interval

Both use the same core: a linear SDE is given by two functions of time, a model is a posterior of
the clean point, a step is a Gaussian kernel, and one loop draws from the kernels and calls watchers
after each step.

The everyday names are here; the others are in subpackages: `orn.processes`, `orn.methods`,
`orn.mcmc`, `orn.paths`, `orn.random`, `orn.simulation`, `orn.solvers`, `orn.spacing`,
`orn.calculus`, `orn.pde`, `orn.laws`, `orn.montecarlo`, `orn.targets`, `orn.metrics`, `orn.nets`,
`orn.parametrisations`, `orn.codecs`, `orn.dequantise`, `orn.noise_levels`, `orn.training`,
`orn.density`, `orn.supports`. The file ``__init__.pyi`` lists where each name is defined; a name is
imported when it is first used.
"""

import sys as _sys
from typing import Any

import lazy_loader as _lazy

from ornstein._renamed import new_name as _new_name

__version__ = "0.2.0"

_find, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Return a public name, imported at its first use; warn if the name is an old one."""
    if name in __all__:
        return _find(name)
    value: Any = _sys.modules[__name__]
    for part in _new_name(name).split("."):
        value = getattr(value, part)
    return value
