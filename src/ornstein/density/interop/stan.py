"""Programs written in Stan as densities: ``orn.from_stan``.

The Stan compiler and its headers are those of the package httpstan, on which pystan is built;
``g++`` makes a library of the program and of `stan.cpp`, which evaluates batches in threads. Stan's
density of unconstrained z is

    log rho(z) = target(f(z)) + log |det df/dz|,                                                 (1)

here with all its constants: also those that ``y ~ normal(mu, sigma)`` drops in Stan's own sampler,
so that Z is the evidence.
"""

__all__ = ["from_stan"]

import ctypes
import hashlib
import json
import math
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.density.density import Density
from ornstein.density.interop.numpy import as_tensor, bridge, require
from ornstein.errors import OrnsteinError

_GLUE = Path(__file__).with_name("stan.cpp")
_FLAGS = [
    "-shared",
    "-fPIC",
    "-O2",
    "-std=c++17",
    "-w",
    "-DBOOST_DISABLE_ASSERTS",
    "-DBOOST_PHOENIX_NO_VARIADIC_EXPRESSION",
    "-DSTAN_THREADS",
    "-D_REENTRANT",
    "-D_GLIBCXX_USE_CXX11_ABI=0",
]
_LIBRARIES = ["-lsundials_cvodes", "-lsundials_idas", "-lsundials_nvecserial", "-ltbb"]


def from_stan(
    program: str | Path, data: Mapping[str, Any] | str | Path | None = None, seed: int = 0
) -> Density:
    """Make a density of the posterior of a Stan program.

    Draws come back under the names of the parameters, transformed parameters and generated
    quantities, in the program's own coordinates. It is computed in double precision, in as many
    threads as torch uses. Compiling takes about a minute, once for each program: the library is
    stored in ``$XDG_CACHE_HOME/ornstein/stan`` (``~/.cache``).

    Args:
        program: the code, or the path of a ``.stan`` file.
        data: by name: numbers, (nested) lists, arrays, tensors; or the path of a JSON file.
        seed: seed of the random numbers in generated quantities.

    Raises:
        OrnsteinError: if httpstan or a C++ compiler is missing, or, in Stan's words, the program is
            wrong or the data do not fit.

    Example:
        >>> density = orn.from_stan("schools.stan", {"J": 8, "y": y, "sigma": s})  # doctest: +SKIP
        >>> orn.sample_density(density).parameters["theta"]  # doctest: +SKIP
    """
    model = _Model.open(_library(_code(program)), _json(data), seed)
    dim = model.dim
    if dim == 0:
        raise OrnsteinError("the Stan program has no parameters: there is nothing to sample")
    shapes = model.shapes

    def forward(z: Tensor) -> dict[str, Tensor]:
        columns = model.write(_points(z), sum(map(math.prod, shapes.values())))
        parts = {}
        offset = 0
        for name, shape in shapes.items():
            part = columns[:, offset : offset + math.prod(shape)].reshape(
                len(z), *reversed(shape)
            )  # Stan writes columns first
            parts[name] = as_tensor(part.transpose(0, *range(len(shape), 0, -1)), z)
            offset += math.prod(shape)
        return parts

    def evaluate(x: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray | None]:
        return model.log_density(np.ascontiguousarray(x, dtype=np.float64), wanted)

    return Density(bridge(evaluate), dim, shapes, forward)


def _points(z: Tensor) -> np.ndarray:
    """Return points as the contiguous float64 array that the compiled program reads."""
    return np.ascontiguousarray(z.detach().cpu().numpy(), dtype=np.float64)


def _code(program: str | Path) -> str:
    """Return the Stan code of a program, read from a file if a path is given."""
    text = str(program)
    if isinstance(program, Path) or (text.endswith(".stan") and "\n" not in text):
        if not Path(program).is_file():
            raise OrnsteinError(f"from_stan: there is no file {program}")
        return Path(program).read_text(encoding="utf-8")
    return text


def _json(data: Mapping[str, Any] | str | Path | None) -> str:
    """Return the data of a program as JSON text, read from a file if a path is given."""
    if isinstance(data, str | Path):
        if not Path(data).is_file():
            raise OrnsteinError(
                f"from_stan: there is no file {data}; data are a dict, or the path of a JSON file"
            )
        return Path(data).read_text(encoding="utf-8")
    try:
        return json.dumps(dict(data or {}), default=lambda value: value.tolist())
    except (TypeError, AttributeError) as error:
        raise OrnsteinError(
            f"from_stan: data must be numbers, lists, arrays or tensors by name ({error})"
        ) from error


def _library(code: str) -> Path:
    """Return the path of the compiled program, and compile the program if it is not cached."""
    httpstan = require("httpstan", "stan")
    glue = _GLUE.read_text(encoding="utf-8")
    home = Path(httpstan.__file__).parent
    key = "\0".join([code, glue, httpstan.__version__, platform.platform(), str(home), *_FLAGS])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ornstein" / "stan"
    # a name of its own: C++ shares statics by name
    name = f"model_{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"
    path = cache / f"{name}.so"
    if path.is_file():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        stan, cpp, built = (Path(folder) / f"program.{suffix}" for suffix in ("stan", "cpp", "so"))
        stan.write_text(code, encoding="utf-8")
        written = _run(
            [str(home / "stanc"), "--name", name, "--print-cpp", str(stan)],
            "the Stan program is not valid",
        )
        cpp.write_text(written + "\n" + glue, encoding="utf-8")
        compiler = [os.environ.get("CXX", "g++"), *_FLAGS, "-I", str(home / "include")]
        link = ["-L", str(home / "lib"), *_LIBRARIES, f"-Wl,-rpath,{home / 'lib'}"]
        _run(
            [*compiler, str(cpp), "-o", str(built), *link],
            "the C++ of the Stan program does not compile",
        )
        os.replace(built, path)
    return path


def _run(command: list[str], trouble: str) -> str:
    """Run a compiler and return what it prints; raise with its message if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OrnsteinError(
            f"from_stan needs {command[0]}: install a C++ compiler (apt install g++), or name it"
            " in CXX"
        ) from error
    if done.returncode:
        raise OrnsteinError(f"{trouble}:\n{done.stderr.strip()[:2000]}")
    return done.stdout


@dataclass(frozen=True, eq=False)
class _Model:
    """A compiled Stan program with its data, through the functions of `stan.cpp`.

    The library stays loaded to the end of the process.
    """

    library: ctypes.CDLL
    model: c_void_p
    seed: int

    @classmethod
    def open(cls, path: Path, data: str, seed: int) -> "_Model":
        """Load a compiled program and give it its data, as JSON, and the seed."""
        library = ctypes.CDLL(str(path))
        model = c_void_p()
        text = ctypes.create_string_buffer(4096)
        library.ornstein_open.argtypes = [c_char_p, c_uint, c_void_p, c_char_p, c_size_t]
        library.ornstein_dim.argtypes = [c_void_p]
        library.ornstein_dim.restype = c_size_t
        library.ornstein_names.argtypes = [c_void_p, c_char_p, c_size_t]
        library.ornstein_names.restype = c_size_t
        library.ornstein_log_density.argtypes = [
            c_void_p,
            c_void_p,
            c_size_t,
            c_size_t,
            c_void_p,
            c_void_p,
        ]
        library.ornstein_write.argtypes = [
            c_void_p,
            c_void_p,
            c_size_t,
            c_size_t,
            c_uint,
            c_size_t,
            c_void_p,
        ]
        library.ornstein_open.restype = c_int
        library.ornstein_log_density.restype = None
        library.ornstein_write.restype = None
        if library.ornstein_open(data.encode(), seed, byref(model), text, len(text)):
            raise OrnsteinError(
                f"the data do not fit the Stan program: {text.value.decode(errors='replace')}"
            )
        return cls(library, model, seed)

    @property
    def dim(self) -> int:
        """The number of unconstrained coordinates of the model."""
        return int(self.library.ornstein_dim(self.model))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of all quantities that a draw consists of."""
        text = ctypes.create_string_buffer(
            self.library.ornstein_names(self.model, ctypes.create_string_buffer(1), 1)
        )
        self.library.ornstein_names(self.model, text, len(text))
        pairs = (entry.split(":") for entry in text.value.decode().split(";"))
        return {
            name: tuple(int(size) for size in sizes.split(",") if size) for name, sizes in pairs
        }

    def log_density(self, x: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the log-densities (1) of points and, if wanted, their gradients."""
        value = np.empty(len(x), c_double)
        gradient = np.empty_like(x) if wanted else None
        gradient_address = gradient.ctypes.data if gradient is not None else None
        self.library.ornstein_log_density(
            self.model,
            x.ctypes.data,
            len(x),
            torch.get_num_threads(),
            value.ctypes.data,
            gradient_address,
        )
        return value, gradient

    def write(self, x: np.ndarray, columns: int) -> np.ndarray:
        """Return all quantities of draws at points, ``(n, columns)``, each in column order."""
        out = np.empty((len(x), columns), c_double)
        self.library.ornstein_write(
            self.model,
            x.ctypes.data,
            len(x),
            torch.get_num_threads(),
            self.seed,
            columns,
            out.ctypes.data,
        )
        return out
