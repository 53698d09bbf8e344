"""``ornstein verify``: each check passes on its statement and fails on its mistake, and the verb
says so in all its forms."""

import inspect
import json
import math
import re

import pytest
import torch
from PIL import Image

from ornstein.app import cli
from ornstein.app.verify import CHECKS, Check, Outcome
from ornstein.app.verify.check import check, estimated, exactly, normal_law
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes import Damped
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reference import OU
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random import BrownianPath
from ornstein.errors import OrnsteinError
from ornstein.reference.targets.mixtures import MixturePosterior

QUICK = ["mean-displacement", "score-given-the-data"]


@pytest.mark.parametrize("identity", CHECKS, ids=lambda identity: identity.name)
def test_passes_on_the_statement_and_fails_on_the_mistake(identity):
    right, wrong = identity.run(), identity.broken()
    assert right.passed, f"{identity.statement}: {right}"
    assert not wrong.passed, f"{identity.mistake}: {wrong}"
    assert right.tolerance > 0 and right.reason and math.isfinite(wrong.error)


def test_the_documents_are_covered():
    names = [identity.name for identity in CHECKS]
    assert len(set(names)) == len(names) >= 40 and all(
        re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names
    )
    for document in ("000", "001", "002", "003"):
        assert sum(identity.document == document for identity in CHECKS) >= 10
    assert [identity.document for identity in CHECKS] == sorted(
        identity.document for identity in CHECKS
    )


@pytest.mark.parametrize(
    "name, part",
    [
        ("square-of-brownian", "B dB + dt / 2"),
        ("integration-by-parts", "int B f ds"),
        ("taylor-to-second-order", "without the half"),
        ("solution-of-ornstein-uhlenbeck", "without the start"),
        ("mean-of-the-forward-process", "N(x | x_0, Sigma(t))"),
        ("diffusion-constant", "delta^2 D~ / (2 tau)"),
        ("fokker-planck-of-ornstein-uhlenbeck", "B = sigma^2"),
        ("fourier-inverse", "without 1 / (2 pi)"),
        ("small-variance-reverse-step", "zeroth order"),
        ("weights-of-the-loss", "weight 1"),
        ("evidence-bound", "without KL(q(z_T | x) || p(z_T))"),
        ("score-given-the-data", "without the minus sign"),
        ("score-from-the-noise-prediction", "without the minus sign"),
        ("coefficients-are-read-backwards", "not reversed"),
    ],
)
def test_printed_mistakes_are_what_breaks(name, part):
    mistake = next(identity.mistake for identity in CHECKS if identity.name == name)
    assert mistake.startswith("printed") and part in mistake


@pytest.mark.parametrize(
    "name, owner, part, factor",
    [
        ("brownian-covariance", BrownianPath, "increment", 2**0.5),
        ("law-of-ornstein-uhlenbeck", OU, "log_sigma", 0.5),
        ("variance-for-constant-noise", Damped, "log_sigma", 0.5),
        ("one-jump-is-two", LinearSDE, "tau", 0.5),
        ("score-of-samples", Reverse, "score", -1.0),
        ("markov-recurrence", RandomWalk, "step", 0.5),
        ("limit-in-space", RandomWalk, "diffusion", 0.5),
        ("weights-of-the-loss", Gaussian, "kl", 2.0),
        ("denoising", MixturePosterior, "__call__", 0.5),
    ],
)
def test_a_mistake_in_the_library_is_seen(name, owner, part, factor, monkeypatch):
    original = inspect.getattr_static(owner, part)

    def scaled(*arguments):
        value = (original.fget if isinstance(original, property) else original)(*arguments)
        return (
            Gaussian(factor * value.mean, value.std)
            if isinstance(value, Gaussian)
            else factor * value
        )

    monkeypatch.setattr(owner, part, property(scaled) if isinstance(original, property) else scaled)
    assert not next(identity for identity in CHECKS if identity.name == name).run().passed


class TestOutcomes:
    def test_the_pair_that_is_furthest_apart(self):
        found = exactly(
            torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.5]), 1.0, "because"
        )
        assert (found.computed, found.exact, found.error, found.passed) == (3.0, 1.0, 2.0, False)
        assert exactly(torch.tensor([1.0, 2.0]), 1.5, 0.5, "because").passed

    def test_no_number_never_passes(self):
        assert not exactly(torch.tensor([1.0, math.nan, 1.0]), 1.0, 9.0, "because").passed
        assert not Outcome(math.inf, math.inf, math.inf, "because").passed

    def test_a_mean_may_be_off_by_its_standard_errors(self):
        draws = torch.tensor([1.0, 2.0, 3.0, 4.0])
        found = estimated(draws, 4.5, seed=3, k=2)
        assert (
            found.tolerance == pytest.approx(2 * draws.double().std().item() / 2)
            and found.error == 2.0
            and not found.passed
        )
        assert (
            "2 standard errors" in found.reason
            and "n = 4" in found.reason
            and "seed 3" in found.reason
        )

    def test_a_law_is_the_normal_one_or_not(self):
        z = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
        assert normal_law(z, 0).computed == pytest.approx(0.0005) and normal_law(z, 0).passed
        assert not normal_law(z + 0.3, 0).passed

    def test_what_cannot_run_does_not_pass(self):
        @check("000", right=1, wrong=2, mistake="two")
        def a_check_that_raises(claim):
            """One
            thing."""
            raise OrnsteinError("scipy is missing")

        assert (
            isinstance(a_check_that_raises, Check)
            and a_check_that_raises.name == "a-check-that-raises"
        )
        assert a_check_that_raises.statement == "One thing."
        assert (
            not a_check_that_raises.run().passed
            and "scipy is missing" in a_check_that_raises.run().reason
        )


@pytest.mark.usefixtures("seeded_weights")
class TestTheVerb:
    def test_some_checks(self, capsys):
        cli.main(["verify", "--only", *QUICK])
        out = capsys.readouterr().out
        assert (
            "2 rows, 2 pass, 0 fail" in out
            and "FAILS" not in out
            and "reason of the tolerance" in out
        )
        assert "\n002  from the random walk" in out and out.index("mean-displacement") < out.index(
            "score-given-the-data"
        )
        assert (
            "A step has the mean displacement delta (q - p)." in out
            and "rounding in float64" in out
        )

    def test_breaking_turns_the_verdict(self, capsys):
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", "--break", "score-given-the-data"])
        out = capsys.readouterr().out
        rows = [line for line in out.splitlines() if "score-given-the-data" in line]
        assert end.value.code == 1 and [row.split()[0] for row in rows] == ["ok", "FAILS"]
        assert (
            "BROKEN: printed: (Y_t - alpha_t Y_0) / beta_t^2, without the minus sign" in out
            and "2 rows, 1 pass, 1 fail" in out
        )

    def test_breaking_all_of_some(self, capsys):
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", "--only", *QUICK, "--break", "all"])
        assert end.value.code == 1 and "4 rows, 2 pass, 2 fail" in capsys.readouterr().out

    def test_files(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            cli.main(
                ["verify", "--only", QUICK[0], "--break", QUICK[1], "--out", str(tmp_path / "new")]
            )
        found = json.loads((tmp_path / "new" / "verify.json").read_text())
        assert found["passed"] is False and [row["verdict"] for row in found["rows"]] == [
            "pass",
            "pass",
            "fail",
        ]
        walk, score, broken = found["rows"]
        identity = next(identity for identity in CHECKS if identity.name == QUICK[0])
        assert (walk["check"], walk["document"], walk["statement"], walk["broken"]) == (
            QUICK[0],
            "002",
            identity.statement,
            None,
        )
        assert (walk["computed"], walk["exact"]) == (identity.run().computed, pytest.approx(3.0))
        assert (
            broken["broken"].startswith("printed")
            and broken["error"] > broken["tolerance"] == score["tolerance"]
        )
        manifest = json.loads((tmp_path / "new" / "manifest-verify.json").read_text())
        assert manifest["results"]["failed"] == [QUICK[1]] and manifest["results"]["rows"] == 3
        assert manifest["options"]["only"] == [QUICK[0]] and manifest["options"]["broken"] == [
            QUICK[1]
        ]
        assert str(tmp_path / "new" / "verify.json") in capsys.readouterr().out

    def test_the_list_runs_nothing(self, capsys):
        cli.main(["verify", "--list"])
        out = capsys.readouterr().out
        assert all(
            f"{c.document}  {c.name}\n     {c.statement}\n     --break: {c.mistake}\n" in out
            for c in CHECKS
        )
        assert "ok  " not in out

    def test_a_name_that_is_none(self, capsys):
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", "--only", "mean-displacment"])
        assert (
            end.value.code == 2 and "Did you mean 'mean-displacement'?" in capsys.readouterr().err
        )

    def test_pictures(self, tmp_path):
        with pytest.raises(SystemExit):
            cli.main(["verify", "--break", *QUICK, "--plot", str(tmp_path)])
        assert {path.stem for path in tmp_path.iterdir()} == {
            "paths",
            "densities",
            "schedules",
            "convergence",
            "verdicts",
        }
        for path in tmp_path.iterdir():
            with Image.open(path) as picture:
                assert (
                    picture.size[0] >= 700 and len(picture.convert("RGB").getcolors(1 << 20)) > 20
                ), path.stem
        with Image.open(tmp_path / "verdicts.png") as picture:
            assert {(31, 119, 180), (214, 39, 40)} <= {
                colour for _, colour in picture.convert("RGB").getcolors(1 << 20)
            }
