"""The command line as it is used: real processes, manifests that reproduce, errors in one line,
Ctrl-C that loses nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from commands import ENVIRONMENT, VERB, refusal, run, run_process

import ornstein as orn
from ornstein.app import cli

pytestmark = [pytest.mark.usefixtures("seeded_weights"), pytest.mark.timeout(900)]


class TestTrain:
    def test_writes_a_model_and_its_manifest(self, points):
        assert orn.load(points / "run").event_shape == (2,)
        manifest = json.loads((points / "run" / "manifest-train.json").read_text())
        assert manifest["command"] == "train" and manifest["seconds"] > 0
        expected = {
            "data": str(points / "x.npy"),
            "out": str(points / "run"),
            "recipe": "auto",
            "steps": 3,
            "seed": 5,
        }
        assert manifest["options"] | expected == manifest["options"]
        assert manifest["versions"]["torch"] == torch.__version__
        assert manifest["versions"]["ornstein"] == orn.__version__
        assert {"started", "device", "threads", "python", "platform", "results"} <= set(manifest)
        assert manifest["results"]["info"]["samples"] == 400

    def test_takes_labels_from_a_file(self, labelled):
        assert orn.load(labelled / "run").labels == 2

    def test_takes_conditions_from_files_for_the_other_verbs_to_give(self, points, tmp_path):
        """A model of points given an age: samples and likelihoods are those of the library."""
        np.save(tmp_path / "age.npy", np.linspace(20, 60, 400)[:, None])
        given = ["--conditions", f"age={tmp_path / 'age.npy'}", "--no-progress"]
        out = tmp_path / "run"
        run("train", "--data", points / "x.npy", "--out", out, "--steps", 2, *given)
        run("sample", out, "--n", 3, "--condition", "age=40", "--guidance", 1.5)
        model = orn.load(out)
        expected = model.sample(3, conditions={"age": 40}, guidance=1.5).numpy()
        assert np.array_equal(np.load(out / "samples" / "samples.npy"), expected)
        run("likelihood", out, "--data", points / "x.npy", "--n", 4, "--condition", "age=40")
        likelihood = model.log_likelihood(np.load(points / "x.npy")[:4], conditions={"age": 40})
        written = np.loadtxt(out / "likelihood" / "likelihood.csv", delimiter=",", skiprows=1)[:, 1]
        assert np.allclose(written, likelihood.value, rtol=1e-6)

    def test_imports_modules_that_register_kinds_of_data(self, tmp_path, monkeypatch):
        """A module of the user's is imported from the current folder before the work."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "imported_first.py").write_text("raise ValueError('seen')\n")
        with pytest.raises(SystemExit):
            run("train", "--data", "iris", "--out", "run", "--import", "imported_first")

    def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_resumes(self, points, tmp_path):
        """Status 130, a hint, a folder that loads; the resumed run ends where an undisturbed one
        does."""
        command = ["train", "--data", points / "x.npy", "--out", tmp_path / "run", "--steps", 60]
        process = subprocess.Popen(
            [*VERB, *map(str, command)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        for line in process.stderr:
            if "step 6 of" in line:
                process.send_signal(signal.SIGINT)
                break
        output = process.stderr.read()
        assert process.wait() == 130 and "the same command resumes" in output
        assert "Traceback" not in output
        assert orn.load(tmp_path / "run").sample(2, 2).shape == (2, 2)
        run(*command)
        run(*command[:4], tmp_path / "whole", "--steps", 60)
        ours, theirs = (orn.load(tmp_path / name).sample(4, 4) for name in ("run", "whole"))
        assert torch.equal(ours, theirs)


class TestSample:
    """The samples of the command line are those of the library, bit for bit."""

    @pytest.mark.parametrize(
        ("typed", "given"),
        [
            ([], {}),
            (["--seed", 7, "--steps", 5], {"seed": 7, "steps": 5}),
            (["--method", "heun"], {"method": "heun"}),
            (["--method", "ancestral", "--eta", 0.5], {"method": "ancestral", "eta": 0.5}),
            (["--spacing", "beta"], {"spacing": orn.spacing.Beta()}),
            (["--steps", "auto", "--tol", 0.3], {"steps": "auto", "tol": 0.3}),
            (["--batch", 3], {"batch": 3}),
        ],
    )
    def test_are_those_of_the_python_call(self, points, tmp_path, typed, given):
        run("sample", points / "run", "--n", 6, *typed, "--out", tmp_path)
        library = orn.load(points / "run").sample(6, **given)
        assert np.array_equal(np.load(tmp_path / "samples.npy"), library.numpy())

    @pytest.mark.parametrize(
        ("typed", "given"),
        [
            (["--label", 1], {"label": 1}),
            (["--label", 0, 1, 1], {"label": [0, 1, 1]}),
            (["--label", 1, "--guidance", 2], {"label": 1, "guidance": 2.0}),
        ],
    )
    def test_take_labels(self, labelled, tmp_path, typed, given):
        run("sample", labelled / "run", "--n", 3, *typed, "--out", tmp_path)
        library = orn.load(labelled / "run").sample(3, **given)
        assert np.array_equal(np.load(tmp_path / "samples.npy"), library.numpy())

    def test_take_methods_and_grids_of_the_user(self, points, tmp_path, monkeypatch):
        """A class of methods and a function of times, from a module in the current folder."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own_sampler.py").write_text(
            "import ornstein as orn\n"
            "class Own(orn.Heun):\n    pass\n"
            "def times(sde, n):\n    return orn.spacing.quadratic(sde, n)\n"
        )
        own = ["--method", "own_sampler:Own", "--spacing", "own_sampler:times"]
        run("sample", points / "run", "--n", 4, *own, "--out", "s")
        library = orn.load(points / "run").sample(4, method="heun", spacing=orn.spacing.quadratic)
        assert np.array_equal(np.load("s/samples.npy"), library.numpy())

    def test_use_a_tuned_sampler(self, points, tmp_path):
        model = orn.load(points / "run").tune(4, n=32, iterations=2)
        model.save(tmp_path / "run")
        run("sample", tmp_path / "run", "--n", 5, "--steps", 4)
        samples = np.load(tmp_path / "run" / "samples" / "samples.npy")
        assert np.array_equal(samples, orn.load(tmp_path / "run").sample(5, 4).numpy())
        untuned = orn.load(points / "run").sample(5, 4)
        assert not np.array_equal(samples, untuned.numpy())

    def test_are_reproduced_by_the_options_of_a_manifest(self, points, tmp_path):
        """The files of two runs are equal to the bit, one of them by a process of its own."""
        typed = ["--n", 5, "--steps", 4, "--method", "ancestral", "--spacing", "karras"]
        done = run_process("sample", points / "run", *typed, "--seed", 9, "--out", tmp_path / "a")
        assert done.returncode == 0, done.stderr
        manifest = json.loads((tmp_path / "a" / "manifest-sample.json").read_text())
        given = manifest["options"] | {"out": str(tmp_path / "b")}
        again = [given.pop("model")]
        for name, value in given.items():
            values = value if isinstance(value, list) else [value]
            again += [f"--{name}", *values] if value not in (None, []) else []
        run("sample", *again)
        first, second = (np.load(tmp_path / name / "samples.npy") for name in "ab")
        assert np.array_equal(first, second)


class TestDensity:
    def test_reports_log_z_and_leaves_a_sampler(self, tmp_path):
        """A density from the user's own module, in the current folder: Z = 2 pi e, printed and
        written alike."""
        (tmp_path / "mine.py").write_text(
            "def log_prob(x):\n    return 1 - x.square().sum(1) / 2\n"
        )
        given = ["density", "mine:log_prob", "--dim", 2, "--n", 500, "--out", "run"]
        done = run_process(*given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "run" / "manifest-density.json").read_text())["results"]
        assert abs(results["log_z"] - 1 - np.log(2 * np.pi)) < 4 * results["log_z_stderr"] + 1e-4
        assert f"log Z = {results['log_z']:.4f}" in done.stdout and "x[2]" in done.stdout
        assert np.load(tmp_path / "run" / "samples.npy").shape == (500, 2)
        assert orn.load(tmp_path / "run").sample(3, 4).shape == (3, 2)

    def test_takes_a_density_that_knows_its_dimension_and_names(
        self, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "named_density.py").write_text(
            "import ornstein as orn\n"
            "d = orn.Density(lambda x: -x.square().sum(1) / 2, 3, {'a': (), 'b': (2,)},\n"
            "    lambda z: {'a': z[:, 0], 'b': z[:, 1:]})\n"
        )
        run("density", "named_density:d", "--n", 64, "--training-steps", 1, "--out", "run")
        printed = capsys.readouterr().out
        assert all(f"{name}  mean" in printed for name in (" a", "b[1]", "b[2]"))

    @pytest.mark.parametrize("first", ["a model", "a sampler"])
    def test_replaces_a_model_only_when_asked(self, points, tmp_path, capsys, first):
        """A run folder of either kind is refused before any work, and is intact after it."""
        given = ["density", "banana", "--n", 64, "--training-steps", 1, "--out", tmp_path / "run"]
        if first == "a model":
            orn.load(points / "run").save(tmp_path / "run")
        else:
            run(*given)
        before = (tmp_path / "run" / "model.safetensors").read_bytes()
        error = refusal(capsys, *given, "--seed", 1)
        assert "holds a model" in error and "--overwrite" in error
        assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
        run(*given, "--seed", 1, "--overwrite")
        assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


MISTAKES = [
    (["sample", "{run}", "--method", "ancestrl"], "Did you mean 'ancestral'"),
    (["sample", "{run}", "--spacing", "karas"], "Did you mean 'karras'"),
    (["sample", "{run}", "--label", "1"], "trained without"),
    (["sample", "{run}", "--n", "0"], "n=0"),
    (["sample", "{run}", "--n", "999999999999999999"], "GB of memory"),
    (["sample", "{run}-not"], "no such folder"),
    (["sample", ""], "is empty"),
    (["sample", "{run}", "--out="], "--out is empty"),
    (["density", "funel", "--out", "{run}-d"], "Did you mean 'funnel'"),
    (["density", "math:sqrt", "--out", "{run}-d"], "--dim"),
    (["density", "math:sqrt", "--dim", "99999999999", "--out", "{run}-d"], "GB of memory"),
    (["density", "banana", "--n", "99999999999999", "--out", "{run}-d"], "GB of memory"),
    (["density", "banana", "--particles", "99999999999999", "--out", "{run}-d"], "GB of memory"),
    (["sample", "{run}", "--steps", "99999999999999"], "fit into the memory"),
    (["density", "math:pi", "--dim", "2", "--out", "{run}-d"], "float"),
    (["density", "no_such_module:f", "--dim", "2", "--out", "{run}-d"], "no_such_module"),
    *(
        (["density", name, "--dim", "2", "--out", "{run}-d"], "module:name")
        for name in (":f", ".:f", "a..b:f", "math:", "math:a.b", "math:1", ":", "a:b:c", "../a:f")
    ),
    (["train", "--data", "no-such-file", "--out", "{run}-t"], "no such file"),
    (["train", "--data", "iris", "--recipe", "tabel", "--out", "{run}-t"], "Did you mean 'table'"),
    (["train", "--data", "iris", "--steps", "0", "--out", "{run}-t"], "steps=0"),
    (["train", "--data", "iris", "--labels", "no-such", "--out", "{run}-t"], "--labels no-such"),
    (["likelihood", "{run}", "--data", "iris", "--label", "data"], "(n, 2)"),
]


@pytest.mark.parametrize(("arguments", "guess"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistakes_end_with_status_2_and_one_line(points, capsys, arguments, guess):
    assert guess in refusal(capsys, *(a.format(run=points / "run") for a in arguments))


def test_the_command_alone_shows_its_verbs_and_its_version(capsys):
    with pytest.raises(SystemExit) as stop:
        run()
    help_text = capsys.readouterr().out
    assert stop.value.code == 0 and all(f"• {verb} " in help_text for verb in cli.COMMANDS)
    run("--version")
    assert capsys.readouterr().out == f"ornstein {orn.__version__}\n"


def test_a_module_that_fails_at_its_import_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_module.py").write_text("def f(:\n")
    given = ["density", "failing_module:f", "--dim", 2, "--out", "run"]
    assert "SyntaxError" in refusal(capsys, *given)


def test_a_mistake_in_a_real_process_shows_no_traceback(points):
    done = run_process("sample", points / "run", "--method", "heuns")
    assert done.returncode == 2 and "Did you mean 'heun'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["train", "sample", "density", "likelihood"])
def test_results_that_cannot_be_written_are_a_mistake_too(points, tmp_path, capsys, verb):
    """The place of the folder is taken by a file."""
    (tmp_path / "taken").write_text("")
    arguments = {
        "train": ["--data", points / "x.npy", "--steps", 2],
        "sample": [points / "run", "--n", 2, "--steps", 2],
        "density": ["banana", "--n", 64],
        "likelihood": [points / "run", "--data", points / "x.npy"],
    }
    assert "taken" in refusal(capsys, verb, *arguments[verb], "--out", tmp_path / "taken")


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on files of the shell")
def test_a_disk_that_fills_up_is_named_with_the_file(points, tmp_path):
    """Files are limited to 4 kB: samples.npy of 64 kB cannot be written."""
    given = ["sample", points / "run", "--n", 8000, "--steps", 1, "--out", tmp_path / "s"]
    shell = f"ulimit -f 4; exec {' '.join([*VERB, *map(str, given)])}"
    done = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2 and "samples.npy" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "None" not in done.stderr
    assert not list((tmp_path / "s").iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(), "a file"),
        (OSError("512 requested and 0 written"), "512 requested"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.npy"), "x.npy: No space left"),
        (orn.errors.DataError("two\nlines"), "two lines"),
        (RuntimeError("can't allocate\n memory: 9 bytes"), "does not fit into the memory"),
        (MemoryError(), "does not fit into the memory"),
        (RuntimeError("shapes\n differ"), "unexpected RuntimeError: shapes differ"),
        (KeyError("k"), "unexpected KeyError: 'k'"),
    ],
    ids=repr,
)
def test_any_error_is_one_line_with_status_2(error, words, capsys, monkeypatch):
    @dataclass(frozen=True)
    class Failing:
        """Fail."""

        def run(self):
            raise error

    monkeypatch.setitem(cli.COMMANDS, "verify", Failing)
    with pytest.raises(SystemExit) as stop:
        run("verify")
    line = capsys.readouterr().err
    assert stop.value.code == 2 and words in line and "None" not in line
    assert line.startswith("ornstein: ") and len(line.splitlines()) == 1
    monkeypatch.setenv("ORNSTEIN_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run("verify")
