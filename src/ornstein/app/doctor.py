"""The command ``ornstein doctor``: report the installation and check two computations.

It prints versions, processor and devices, the dependencies and the optional extras with the command
that installs a missing one, and runs two computations with known answers: draws from the VP process
by the exact posterior of a mixture, and the normalising constant of a Gaussian density.
"""

__all__ = ["DoctorCommand", "Requirement", "diagnose", "packages", "requirements", "self_test"]

import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import torch

from ornstein.core.processes.schedules import VP
from ornstein.density.sample_density import sample_density
from ornstein.inference.sampling.sample import sample
from ornstein.reference.targets import GaussianMixture

_OLDEST_PYTHON = (3, 11)
_STANDARD_ERRORS = 5  # allowed in the self-test, which then fails once in two million runs
_LEFT_OUT = ("dev", "bench")  # extras for developers of the library


class Requirement(NamedTuple):
    """A package that the library needs, always or for one optional extra."""

    package: str
    oldest: str
    extra: str
    installed: str | None

    @property
    def fault(self) -> str:
        """What is wrong with the installed version, in words; "" if nothing is."""
        if self.installed is None:
            return f"{self.package} is not installed"
        if _numbers(self.installed) < _numbers(self.oldest):
            return f"{self.package} {self.installed} is older than {self.oldest}"
        return ""

    @property
    def remedy(self) -> str:
        """The command that installs the package."""
        what = f"ornstein[{self.extra}]" if self.extra else f"{self.package}>={self.oldest}"
        return f"pip install '{what}'"


def requirements() -> list[Requirement]:
    """Return the packages that the installed ornstein names as dependencies and extras."""
    named_packages = []
    for line in requires("ornstein") or []:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=([\d.]+))?", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if match is None or match[1] == "ornstein" or (extra and extra[1] in _LEFT_OUT):
            continue
        extra_name = extra[1] if extra else ""
        oldest = match[2] or "0"
        named_packages.append(
            Requirement(match[1], oldest, extra_name, installed_version(match[1]))
        )
    return named_packages


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def self_test() -> list[str]:
    """Run two computations with known answers, and return what is wrong in words.

    Draws of the mixture ``0.3 N(-2, 0.4^2) + 0.7 N(1.5, 0.7^2)`` by the VP process must have its
    mean, and ``int exp(1 - x^2 / 2) dx`` in two dimensions must be ``2 pi e``, both within five
    standard errors.
    """
    faults = []
    mean = torch.tensor([[-2.0], [1.5]])
    std = [[0.4], [0.7]]
    weights = [0.3, 0.7]
    mixture = GaussianMixture(mean, torch.tensor(std), torch.tensor(weights))
    x = sample(mixture.posterior(VP()), 4096, 40).double()
    error = float(x.mean()) - (0.3 * -2.0 + 0.7 * 1.5)
    stderr = float(x.std()) / math.sqrt(len(x))
    if not abs(error) < _STANDARD_ERRORS * stderr:
        faults.append(
            f"draws from a mixture have a mean that is off by {error:.3g}, {error / stderr:.1f}"
            " standard errors: this build of torch computes wrongly here"
        )
    result = sample_density(lambda z: 1 - z.square().sum(1) / 2, 2, n=512)
    error = result.log_z - 1 - math.log(2 * math.pi)
    if not abs(error) < _STANDARD_ERRORS * result.log_z_stderr + 1e-4:
        faults.append(
            f"log Z of a Gaussian is off by {error:.3g} with a standard error of"
            f" {result.log_z_stderr:.2g}: this build of torch computes wrongly here"
        )
    return faults


def diagnose(required: list[Requirement]) -> list[str]:
    """Return the faults of this installation with their remedies; empty if there are none."""
    faults = []
    if sys.version_info[:2] < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        faults.append(f"Python {platform.python_version()} is older than {oldest}: install a newer")
    faults += [f"{r.fault}: {r.remedy}" for r in required if not r.extra and r.fault]
    if torch.get_default_dtype() != torch.float32:
        faults.append(
            f"torch's default dtype is {torch.get_default_dtype()}: call"
            " torch.set_default_dtype(torch.float32)"
        )
    try:
        faults += self_test()
    except Exception as error:  # whatever is broken is the diagnosis
        faults.append(f"the self-test failed with {type(error).__name__}: {error}")
    return faults


@dataclass(frozen=True)
class DoctorCommand:
    """Show what ornstein runs on, and check that it computes what it should."""

    def run(self) -> None:
        """Print the report, with an exit status of 1 if something is wrong."""
        from rich.console import Console

        console = Console(highlight=False, markup=False, soft_wrap=True)
        required = requirements()
        for name, value in (*machine(), *packages(required)):
            console.print(f"{name:<20} {value}")
        began = time.monotonic()
        faults = diagnose(required)
        for fault in faults:
            console.print(f"wrong: {fault}")
        if faults:
            sys.exit(1)
        console.print(f"self-test passed in {time.monotonic() - began:.1f} s: nothing is wrong")


def machine() -> Iterator[tuple[str, str]]:
    """Yield names and values of software and hardware: versions, processor, threads, devices."""
    folder = os.path.dirname(os.path.dirname(__file__))
    yield "ornstein", f"{installed_version('ornstein')} in {folder}"
    yield "Python", f"{platform.python_version()} in {sys.executable}"
    yield "system", f"{platform.system()} {platform.release()} on {platform.machine()}"
    yield "processor", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    yield "threads", f"{torch.get_num_threads()} of torch"
    yield "device", ", ".join(devices())


def packages(required: list[Requirement]) -> Iterator[tuple[str, str]]:
    """Yield dependencies with their versions, and each extra with what it has or lacks."""
    for r in required:
        if not r.extra:
            yield r.package, str(r.installed)
    for extra in sorted({r.extra for r in required} - {""}):
        members = [r for r in required if r.extra == extra]
        missing = [r for r in members if r.fault]
        versions = ", ".join(f"{r.package} {r.installed}" for r in members)
        lacking = ", ".join(r.fault for r in missing)
        yield f"ornstein[{extra}]", f"{lacking}: {missing[0].remedy}" if missing else versions


def devices() -> list[str]:
    """Return the devices that torch can compute on, the fastest first."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        available = [f"cuda:{k} ({name})" for k, name in enumerate(names)] + available
    return available


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
