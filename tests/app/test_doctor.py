"""``ornstein doctor``: a report of the machine, and one sentence for each thing that is wrong."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import torch
from commands import run

import ornstein as orn
from ornstein.app import doctor
from ornstein.app.doctor import Requirement, diagnose, packages, requirements, self_test

pytestmark = pytest.mark.usefixtures("seeded_weights")

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_a_sound_installation_passes(capsys):
    run("doctor")
    report = capsys.readouterr().out
    for words in (orn.__version__, torch.__version__, "Python", "threads of torch", "cpu"):
        assert words.split()[0] in report, words
    assert torch.backends.cpu.get_cpu_capability() in report
    assert re.search(r"self-test passed in \d+\.\d s", report)


def test_requirements_are_those_of_the_project():
    """Each dependency with its least version, and each extra but those for developers."""
    found = requirements()
    for line in PROJECT["dependencies"]:
        package, _, oldest = line.partition(">=")
        assert any(r[:3] == (package, oldest, "") and r.installed for r in found), line
    extras = {r.extra for r in found} - {""}
    assert extras == set(PROJECT["optional-dependencies"]) - {"dev", "bench"}


@pytest.mark.parametrize(
    ("requirement", "fault", "remedy"),
    [
        (Requirement("torch", "2.6", "", "2.13.0+cpu"), "", "pip install 'torch>=2.6'"),
        (Requirement("torch", "2.6", "", "2.5.1"), "is older than 2.6", "'torch>=2.6'"),
        (Requirement("torch", "2.6", "", None), "is not installed", "'torch>=2.6'"),
        (Requirement("jax", "0.4", "jax", None), "is not installed", "'ornstein[jax]'"),
        (Requirement("pillow", "10", "", "10.0.1rc1"), "", "pillow"),
    ],
)
def test_a_version_is_judged_by_its_numbers(requirement, fault, remedy):
    assert (fault in requirement.fault) if fault else requirement.fault == ""
    assert remedy in requirement.remedy


def test_a_missing_extra_is_shown_with_its_command_and_is_not_wrong():
    missing = [Requirement("jax", "0.4.31", "jax", None)]
    assert dict(packages(missing))["ornstein[jax]"] == (
        "jax is not installed: pip install 'ornstein[jax]'"
    )
    assert diagnose(missing) == []


def test_a_missing_dependency_is_wrong_with_status_1(capsys, monkeypatch):
    version = importlib.metadata.version

    def without_safetensors(package):
        if package == "safetensors":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(doctor, "version", without_safetensors)
    with pytest.raises(SystemExit) as stop:
        run("doctor")
    assert stop.value.code == 1
    report = capsys.readouterr().out
    assert re.search(r"wrong: safetensors is not installed: pip install 'safetensors>=", report)


def test_wrong_numbers_are_seen(monkeypatch):
    """Samples that are off by half a standard deviation, and a log Z that is off by 1."""
    sample, density = doctor.sample, doctor.sample_density
    monkeypatch.setattr(doctor, "sample", lambda *a: sample(*a) + 0.5)
    assert [fault[:21] for fault in self_test()] == ["draws from a mixture "]
    monkeypatch.setattr(doctor, "sample", sample)
    monkeypatch.setattr(
        doctor, "sample_density", lambda f, *a, **k: density(lambda z: f(z) + 1, *a, **k)
    )
    assert [fault[:19] for fault in self_test()] == ["log Z of a Gaussian"]


def test_a_computation_that_fails_is_a_sentence(monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(doctor, "sample_density", broken)
    assert diagnose([]) == ["the self-test failed with RuntimeError: no kernel"]
