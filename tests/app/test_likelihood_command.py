"""``ornstein likelihood`` on run folders of tables, pictures and densities: the files hold what the
library computes."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import refusal, run
from PIL import Image

import ornstein as orn
from ornstein.app.scores import Number, Scores
from ornstein.training.recipes import RECIPES

pytestmark = [pytest.mark.usefixtures("seeded_weights"), pytest.mark.timeout(900)]


def small(name):
    def net(event, labels):
        return orn.MLP(event, width=16, depth=1, labels=labels)

    return replace(
        RECIPES[name],
        net=net,
        training=orn.TrainingConfig(steps=30, rate=5e-3, warmup=5, ema=0.9),
        batch=64,
        held_out=0.2,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of a table with a header, of 4 x 4 pictures of whole numbers with labels, and of
    a density, and data for each."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    table = rng.normal(size=(300, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, 2.0]
    orn.fit(table, small("points"), folder / "table", progress=False)
    rows = [",".join(map(repr, row)) for row in table[:12].tolist()]
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]))
    pictures = rng.integers(0, 5, (200, 4, 4))
    orn.fit((pictures, np.arange(200) % 2), small("digits"), folder / "pictures", progress=False)
    np.savez(folder / "pictures.npz", x=pictures[:10], labels=np.arange(10) % 2)
    np.save(folder / "scaled.npy", pictures[:10] / 4)
    r = orn.sample_density(lambda x: -x.square().sum(1) / 8, dim=2, n=200, training_steps=5)
    r.sampler.save(folder / "density")
    np.save(folder / "density.npy", r.samples[:15].float().numpy())
    return folder


def columns(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: torch.tensor([float(row[name]) for row in rows], dtype=torch.float64).float()
        for name in rows[0]
    }


def written(x):
    """Nine digits of each number."""
    return torch.tensor(
        [float(f"{value:.9g}") for value in x.tolist()], dtype=torch.float64
    ).float()


def check(folder, model, x, capsys, dim, options, rule=None):
    """Files and the printed lines against the library."""
    out, summary = capsys.readouterr().out, json.loads((folder / "summary.json").read_text())
    flow, bound = model.log_likelihood(x, 1e-2, rule, 4), model.elbo(x, 7, 4)
    table = columns(folder / "likelihood.csv")
    for name in ("stderr", "discretisation", "terminal", "error"):
        assert torch.equal(table[name], written(getattr(flow, name))), name
    assert torch.equal(table["log_prob"], written(flow.value)) and torch.equal(
        table["index"], torch.arange(len(x)).float()
    )
    for name, value in (("elbo", bound.value), ("elbo_stderr", bound.stderr)):
        torch.testing.assert_close(
            table[name], value.float(), rtol=1e-6, atol=0
        )  # nine digits of a double, rounded again
    mean, stderr = (
        float(flow.value.double().mean()),
        float(flow.value.double().std()) / len(x) ** 0.5,
    )
    assert summary["log_prob"] == pytest.approx({"mean": mean, "stderr": stderr})
    assert summary["log_prob_per_dim"]["mean"] == pytest.approx(mean / dim)
    assert summary["elbo"]["mean"] == pytest.approx(float(bound.value.mean()), rel=1e-5)
    assert summary["evaluations"] == flow.evaluations and summary["passes"] == flow.passes
    assert summary["prior_gap"] == pytest.approx(flow.prior_gap) and summary["seconds"] > 0
    assert (summary["samples"], summary["dimensions"]) == (len(x), dim)
    manifest = json.loads((folder / "manifest-likelihood.json").read_text())
    assert manifest["results"] == summary and manifest["options"] | options == manifest["options"]
    assert f"log p     = {Number(mean, stderr)}" in out and str(folder / "likelihood.csv") in out
    with Image.open(folder / "likelihood.png") as picture:
        assert picture.size[0] >= 600 and len(picture.convert("RGB").getcolors(100000)) > 20
    return out, summary, table


QUICK = ["--tol", "1e-2", "--elbo-steps", "7", "--seed", "4"]


def test_a_table_by_its_csv_file(runs, capsys):
    run("likelihood", runs / "table", "--data", runs / "table.csv", "--n", 9, *QUICK)
    x = np.loadtxt(runs / "table.csv", delimiter=",", skiprows=1)[:9]
    model = orn.load(runs / "table")
    out, summary, table = check(
        runs / "table" / "likelihood",
        model,
        x,
        capsys,
        3,
        {"n": 9, "seed": 4, "divergence": None, "out": None},
    )
    gap = table["log_prob"].double() - table["elbo"].double()
    assert summary["log_prob_minus_elbo"] == pytest.approx(
        {"mean": float(gap.mean()), "stderr": float(gap.std()) / 3}
    )
    assert (
        "(bound)" in out and summary["elbo_is_of"] == "density" and "elbo_bits_per_dim" not in table
    )


def test_quantised_pictures_get_bits_and_no_comparison(runs, tmp_path, capsys):
    run(
        "likelihood",
        runs / "pictures",
        "--data",
        runs / "pictures.npz",
        "--probes",
        4,
        "--out",
        tmp_path / "new" / "folder",
        *QUICK,
    )
    model, x = orn.load(runs / "pictures"), np.load(runs / "pictures.npz")["x"]
    rule = orn.likelihood.trace.Hutchinson(4)
    out, summary, table = check(
        tmp_path / "new" / "folder", model, x, capsys, 16, {"divergence": 4}, rule
    )
    bits, stderr = model.elbo(x, 7, 4).bits_per_dim(16)
    assert summary["elbo_bits_per_dim"] == pytest.approx({"mean": bits, "stderr": stderr})
    torch.testing.assert_close(table["elbo_bits_per_dim"], -table["elbo"] / 16 / math.log(2))
    assert (
        float(table["stderr"].min()) > 0
        and "log_prob_minus_elbo" not in summary
        and summary["elbo_is_of"] == "probability"
    )
    assert (
        "log-probability of the discrete values" in out
        and "not to be compared" in out
        and "<=" not in out
    )


@pytest.mark.parametrize("label", [1, [0, 1, 1, 0], "data"])
def test_labels_are_those_of_the_python_call(runs, tmp_path, label):
    """The bound and the density of two samples of each class, in batches of three."""
    typed = label if isinstance(label, list) else [label]
    given = ["--n", 4, "--batch", 3, "--divergence", "exact", "--label", *typed]
    run(
        *["likelihood", runs / "pictures", "--data", runs / "pictures.npz"],
        *[*given, "--elbo-spacing", "uniform", "--out", tmp_path, *QUICK],
    )
    model, x = orn.load(runs / "pictures"), np.load(runs / "pictures.npz")["x"][:4]
    classes = [0, 1, 0, 1] if label == "data" else label
    table = columns(tmp_path / "likelihood.csv")
    exact = orn.likelihood.trace.Exact()
    flow = model.log_likelihood(x, 1e-2, exact, 4, label=classes, batch=3)
    bound = model.elbo(x, 7, 4, label=classes, spacing=orn.spacing.uniform)
    assert torch.equal(table["log_prob"], written(flow.value))
    torch.testing.assert_close(table["elbo"], bound.value.float(), rtol=1e-4, atol=1e-4)


def test_a_model_of_a_density(runs, tmp_path, capsys):
    run("likelihood", runs / "density", "--data", runs / "density.npy", "--out", tmp_path, *QUICK)
    _, _, table = check(
        tmp_path, orn.load(runs / "density"), np.load(runs / "density.npy"), capsys, 2, {}
    )
    x = torch.from_numpy(np.load(runs / "density.npy"))
    truth = torch.distributions.Normal(0.0, 2.0).log_prob(x).sum(1)
    assert float((table["log_prob"] - truth).abs().max()) < 0.3


def test_samples_are_taken_in_batches_that_change_nothing_but_the_steps(runs, tmp_path, capsys):
    """Batches of 4: the bound to the last digit, progress on the terminal."""
    run("likelihood", runs / "table", "--data", runs / "table.csv", "--out", tmp_path / "a", *QUICK)
    run(
        "likelihood",
        runs / "table",
        "--data",
        runs / "table.csv",
        "--out",
        tmp_path / "b",
        "--batch",
        4,
        *QUICK,
    )
    a, b = (columns(tmp_path / name / "likelihood.csv") for name in "ab")
    torch.testing.assert_close(a["elbo"], b["elbo"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(a["log_prob"], b["log_prob"], rtol=0, atol=0.05)
    assert "likelihood: 8 of 12 samples" in capsys.readouterr().err


def test_without_matplotlib_the_numbers_are_there(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    run("likelihood", runs / "density", "--data", runs / "density.npy", "--out", tmp_path, *QUICK)
    assert "ornstein[plots]" in capsys.readouterr().out
    assert (tmp_path / "summary.json").exists() and (tmp_path / "manifest-likelihood.json").exists()


def test_the_order_of_bound_and_density_is_reported_as_it_is():
    """Gaps of mean 1, -0.01 and -1 with standard error 0.1."""
    spread = torch.linspace(-1, 1, 30)
    spread = spread / spread.std() * 0.1 * 30**0.5
    for shift, words in [(1.0, "<= log p"), (-0.01, "agree within"), (-1.0, "> log p")]:
        value = spread + shift - 3
        zero = torch.zeros(30)
        flow = orn.LogLikelihood(
            value,
            zero,
            cost=5,
            discretisation=zero,
            terminal=zero,
            prior_gap=0.0,
            x_T=torch.zeros(30, 2),
            passes=10,
        )
        assert any(
            words in line
            for line in Scores(flow, torch.full((30,), -3.0), zero + 0.1, 2, False).lines()
        ), words


def test_numbers_show_two_digits_of_their_error():
    assert str(Number(-3.10456, 0.0123)) == "-3.105 +- 0.012"
    assert str(Number(1234.5, 56.0)) == "1234 +- 56" and str(Number(2.0, 0.0)) == "2.0000 +- 0.0000"


@pytest.mark.parametrize(
    ("folder", "data", "options", "words"),
    [
        ("table", "no-such-file", [], "no such file"),
        ("nothing", "table.csv", [], "no such folder"),
        ("table", "density.npy", [], "(n, 3)"),
        ("pictures", "table.csv", [], "(n, 4, 4)"),
        ("pictures", "scaled.npy", [], "none of this model's, 0 to 4 in steps of 1"),
        ("table", "table.csv", ["--n", "1"], "n=1"),
        ("table", "table.csv", ["--probes", "1"], "probes=1"),
        ("table", "table.csv", ["--divergence", "1"], "probes=1"),
        ("table", "table.csv", ["--tol", "0"], "tol=0"),
        ("table", "table.csv", ["--batch", "0"], "--batch 0"),
        ("table", "table.csv", ["--label", "data"], "without labels"),
        ("table", "table.csv", ["--elbo-spacing", "karas"], "Did you mean 'karras'"),
        ("table", "table.csv", ["--elbo-steps", "1"], "steps=1"),
        ("table", "table.csv", ["--out", "{runs}/table.csv"], "table.csv"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(runs, capsys, folder, data, options, words):
    path = runs / data if (runs / data).exists() else data
    given = [option.format(runs=runs) for option in options]
    assert words in refusal(capsys, "likelihood", runs / folder, "--data", path, *given)
