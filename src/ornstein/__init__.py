"""ornstein samples from a distribution by reversing a diffusion: from samples, or from an
unnormalised density.

    model = orn.fit(data)                          # samples -> a model
    x = model.sample(64)

    r = orn.sample_density(log_prob, dim=10)       # log-density -> samples, log Z and its interval
    r.samples, r.log_z, r.log_z_interval

Both run over one core: a linear SDE is two functions of time, a model is a posterior of the clean
point, a step is a Gaussian kernel, and one loop draws from kernels while watchers look on.

The everyday names are here; the others are in rooms: `orn.processes`, `orn.methods`, `orn.mcmc`,
`orn.paths`, `orn.random`, `orn.simulation`, `orn.solvers`, `orn.spacing`, `orn.calculus`,
`orn.pde`, `orn.laws`, `orn.montecarlo`, `orn.targets`, `orn.metrics`, `orn.nets`,
`orn.parametrisations`, `orn.codecs`, `orn.dequantise`, `orn.noise_levels`, `orn.training`,
`orn.density`, `orn.supports`. The file ``__init__.pyi`` lists
where each name is defined; a name is imported when it is first used.
"""

from typing import Any

import lazy_loader as _lazy

from ornstein._renamed import renamed as _old_name

__version__ = "0.2.0"

_find, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use; an old name with a warning that tells the new."""
    return _old_name(name) if name not in __all__ else _find(name)
