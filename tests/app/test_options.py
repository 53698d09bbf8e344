"""The options of each verb are the parameters of the Python call that it makes."""

import inspect
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import tyro
from commands import refusal

import ornstein as orn
from ornstein.app.cli import COMMANDS
from ornstein.app.density import DensityCommand
from ornstein.app.likelihood import LikelihoodCommand
from ornstein.app.options import (
    argument_help,
    arguments,
    condition_values,
    parameters,
    shell_type,
    takes,
)
from ornstein.app.sample import SampleCommand
from ornstein.app.train import TrainCommand
from ornstein.inference.sampling.samplers import names as methods
from ornstein.training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("seeded_weights")

CALLS = {
    "fit": (TrainCommand, orn.fit, ""),
    "sample": (SampleCommand, orn.DiffusionModel.sample, ""),
    "log_likelihood": (LikelihoodCommand, orn.DiffusionModel.log_likelihood, ""),
    "elbo": (LikelihoodCommand, orn.DiffusionModel.elbo, "elbo_"),
    "sample_density": (DensityCommand, orn.sample_density, ""),
}
ELSEWHERE = {
    "log_likelihood": {"x"},  # --data
    "elbo": {"x", "seed", "label", "conditions"},  # those of log_likelihood
}
IN_PYTHON_ONLY = {"callback"}  # functions that are called while a run goes on


def option_names(command):
    return {field.name for field in fields(command)}


@pytest.mark.parametrize("name", CALLS)
def test_every_parameter_of_the_call_is_an_option(name):
    command, call, prefix = CALLS[name]
    subject = {next(iter(parameters(call)))} if name == "sample_density" else set()  # the target
    expected = set(parameters(call)) - ELSEWHERE.get(name, set()) - IN_PYTHON_ONLY - subject
    missing = {
        parameter for parameter in expected if prefix + parameter not in option_names(command)
    }
    assert not missing, f"`takes` cannot write them in a shell: declare them in {command.__name__}"


@pytest.mark.parametrize("name", CALLS)
def test_defaults_are_those_of_the_call(name):
    command, call, prefix = CALLS[name]
    defaults = {f.name: f.default for f in fields(command) if f.default is not MISSING}
    for parameter in parameters(call).values():
        if isinstance(parameter.default, int | float | str | None):
            own = defaults.get(prefix + parameter.name, parameter.default)
            assert own == parameter.default, parameter.name


@pytest.mark.parametrize("verb", ["train", "sample", "likelihood", "density", "doctor"])
def test_help_explains_every_option(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(COMMANDS[verb], args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert stop.value.code == 0 and "See ornstein" not in text
    for option in option_names(COMMANDS[verb]) - {"model", "target"}:
        parts = text.split(f"--{option.replace('_', '-')}")[1:]
        assert max(len(part.partition("(default")[0].split()) for part in parts) > 2, option


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("sample", orn.spacing.names),
        ("sample", methods),
        ("likelihood", orn.spacing.names),
        ("train", tuple(RECIPES)),
        ("density", orn.targets.names),
    ],
)
def test_help_lists_all_names(verb, names, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(COMMANDS[verb], args=["--help"], console_outputs=True)
    text = "".join(capsys.readouterr().out.replace("│", "").split())
    assert ",".join(names) in text


def test_a_parameter_becomes_an_option_with_its_words():
    def call(
        what,
        n: int,
        tol: float = 0.5,
        where: str | Path = Path("x"),
        f: object = len,
        k: bool = True,
    ):
        """Compute.

        Args:
            what: the subject.
            n, tol: two numbers, described over
                two lines.
            where: a `place`.

        Returns:
            f: nothing.
        """

    @dataclass(frozen=True)
    @takes(call, prefix="a_", without=("k",))
    class Command:
        """A command."""

        a_n: int
        """How many."""

    assert option_names(Command) == {"a_n", "a_tol", "a_where"}
    assert argument_help(call)["tol"] == "Two numbers, described over two lines."
    assert argument_help(call)["where"] == "A place." and "f" not in argument_help(call)
    command = tyro.cli(Command, args=["--a-n", "3", "--a-where", "here"])
    assert arguments(command, call, "a_", tol=2.0) == {"n": 3, "tol": 2.0, "where": Path("here")}


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        (int, int),
        (int | Literal["auto"], int | Literal["auto"]),
        (float | torch.Tensor | None, float | None),
        (str | Path, Path),
        (torch.Tensor | None, None),
        (None, None),
        (inspect.Parameter.empty, None),
    ],
)
def test_what_can_be_written_of_an_annotation(annotation, written):
    assert shell_type(annotation) == written


def test_conditions_are_read_by_name(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
    rows = tmp_path / "rows.npy"
    values = condition_values(["label=3", "age=1e2", "where=0.5,-1", f"y={rows}"])
    assert values["label"] == 3 and isinstance(values["label"], int) and values["age"] == 100.0
    assert values["where"].tolist() == [0.5, -1.0] and values["y"].shape == (3, 2)
    assert condition_values(None) == {}


@pytest.mark.parametrize(
    "text", ["age", "=3", "age=", "age=old", "y=no-such.npy", "y=words.npy", "y=empty.npy"]
)
def test_conditions_of_another_form_are_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("words.npy", np.array(["a"]))
    Path("empty.npy").touch()
    with pytest.raises(orn.errors.OrnsteinError, match="write name=value"):
        condition_values([text])


def test_a_condition_that_is_given_twice_is_refused():
    with pytest.raises(orn.errors.OrnsteinError, match="age is given twice"):
        condition_values(["age=1", "age=2"])


SMALLEST = {
    "train": ["--data", "iris", "--out", "out"],
    "sample": ["run"],
    "likelihood": ["run", "--data", "iris"],
    "density": ["banana", "--out", "out"],
}


def wrong_options():
    """Each option of each verb with values of its type that nobody can compute with."""
    cases = []
    for verb, given in SMALLEST.items():
        for option in COMMANDS[verb].__dataclass_fields__:
            if option in ("model", "target"):
                continue
            name = f"--{option.replace('_', '-')}"
            annotation = COMMANDS[verb].__annotations__[option]
            kind = set(re.findall(r"\w+", str(getattr(annotation, "__origin__", annotation))))
            values = [] if "bool" in kind else [""]
            values += [str(2**64)] if "int" in kind else []
            values += ["1e300", "1e-300", "nan"] if "float" in kind else []
            cases += [
                pytest.param([verb, *given, name, value], id=f"{verb} {name} {value}")
                for value in values
            ]
    return cases


@pytest.mark.parametrize("given", wrong_options())
def test_values_that_nobody_can_compute_with_are_refused(given, capsys, tmp_path, monkeypatch):
    """An empty path is not the current folder, and no number is beyond what a computation holds."""
    monkeypatch.chdir(tmp_path)
    *_, option, value = given
    error = refusal(capsys, *given)
    assert option in error and (value == "" or value[:4] in error.replace("+", ""))
    assert not list(tmp_path.iterdir())
