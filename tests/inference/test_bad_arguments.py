"""Arguments of the wrong kind or range are refused by name, with what is allowed.

The calls run in another process, because annotations are checked at run time in this one, before
the library can answer.
"""

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import math
import torch
import ornstein as orn

posterior = orn.targets.gmm9().posterior(orn.VP())
x = orn.targets.gmm9().sample(4)
codec = orn.codecs.Codec(torch.zeros(2), torch.ones(2))
net = orn.MLP(2, 8, 1, labels=2)
denoiser = orn.Denoiser(net, orn.VP(), orn.parametrisations.v, 1.0, (2,))
model = orn.DiffusionModel(denoiser, codec)
"""

CALLS = {
    "counts": """
        sample(posterior, None) | n=None
        sample(posterior, 2.5) | n=2.5
        sample(posterior, 0) | n=0
        sample(posterior, True) | n=True
        sample(posterior, 4, steps=None) | steps=None
        sample(posterior, 4, steps=2.5) | steps=2.5
        tune(posterior, steps=None) | steps=None
        tune(posterior, 4, n=3.5) | n=3.5
        tune(posterior, 4, iterations=-1) | iterations=-1
        tune(posterior, 4, order=0) | order=0
        elbo(posterior, x, steps=3.5) | steps=3.5
        elbo(posterior, x, repeats=None) | repeats=None
        two_sided_bound(posterior, x, paths=1.5) | paths=1.5
        likelihood.continuous_elbo(posterior, x, draws=0) | draws=0
        metrics.floor(orn.metrics.mmd, x, n=None) | n=None
    """,
    "seeds": """
        sample(posterior, 4, seed=None) | seed=None
        sample(posterior, 4, seed=0.5) | seed=0.5
        tune(posterior, 4, seed=None) | seed=None
        elbo(posterior, x, seed=1.5) | seed=1.5
        log_likelihood(posterior, x, seed="zero") | seed='zero'
        two_sided_bound(posterior, x, seed=None) | seed=None
    """,
    "methods and spacings": """
        sample(posterior, 4, method=None) | method=None
        sample(posterior, 4, method=orn.Heun) | orn.Heun()
        sample(posterior, 4, method="auot") | Did you mean 'auto'
        sample(posterior, 4, spacing="karas") | Did you mean 'karras'
        sample(posterior, 4, spacing=3) | spacing=3
        elbo(posterior, x, spacing="karas") | Did you mean 'karras'
        two_sided_bound(posterior, x, spacing=3) | spacing=3
        log_likelihood(posterior, x, divergence="exact") | divergence='exact'
    """,
    "numbers": """
        sample(posterior, 4, eta=math.nan) | eta=nan
        sample(posterior, 4, eta="1") | eta='1'
        sample(posterior, 4, eta=2.0) | eta=2.0
        sample(posterior, 4, steps="auto", tol=math.nan) | tol=nan
        log_likelihood(posterior, x, tol=None) | tol=None
        log_likelihood(posterior, x, at=math.nan) | at=nan
        log_likelihood(posterior, x[:0]) | one or more samples
    """,
    "models": """
        model.sample(None) | n=None
        model.sample(4, batch=0) | batch=0
        model.sample(4, batch=2.5) | batch=2.5
        model.sample(4, steps=[3]) | steps=[3]
        model.sample(4, method=None) | method=None
        model.sample(4, seed=None) | seed=None
        model.sample(4, spacing="karas") | Did you mean 'karras'
        model.sample(4, label=1, guidance=math.nan) | guidance=nan
        model.log_likelihood(x, batch=0) | batch=0
        model.log_likelihood(x, tol=math.nan) | tol=nan
        model.elbo(x, steps=None) | steps=None
    """,
    "conditions": """
        model.sample(4, label=1, conditions={"label": 0}) | pass one of the two
        model.sample(4, conditions=[1]) | a dictionary
        model.sample(4, conditions={1: 2, "z": 2}) | [1, 'z']
        model.given(label=1j) | whole numbers
        conditions.Vector(1).collate(1j) | real and imaginary parts
        conditions.Vector(1).collate(1e30) | standard deviations
        conditions.Vector(1, 1.7e9, 30.0).collate([1.7e9 + 1, 1.7e9 + 2]) | digits
        fit(x, conditions=[1]) | a dictionary
        fit(x, conditions={1: x}) | names are text
        fit(x, conditions={"age": x[:, :0]}) | finite numbers
        fit(x, conditions={"age": torch.complex(x[:, 0], x[:, 1])}) | whole numbers
        fit(x, conditions={"t": 1.7e9 + torch.arange(4).double()}) | subtract an offset
        fit(x, labels=[0, 1, 1, 0], conditions={"label": [0, 1, 1, 0]}) | pass one of the two
        DenoisingObjective(x, batch=0) | batch=0
        DenoisingObjective(x, drop_label=math.nan) | drop_label=nan
        DenoisingObjective(x, conditions={"age": x}, drop={"age": 1.5}) | age=1.5
        DenoisingObjective(x, conditions={"age": x}, drop={"agee": 0.5}) | agee
    """,
    "densities": """
        sample_density(posterior, 2, stderr=1e300) | stderr=1e+300
        sample_density(posterior, 2, start_std=1e-300) | start_std=1e-300
        sample_density(posterior, 2, start_std=1e300) | start_std=1e+300
        sample_density(posterior, 2, start_std=math.nan) | start_std=nan
        sample_density(posterior, 2, budget="a") | budget='a'
    """,
    "training": """
        fit("") | empty
        fit(x, out="") | run folder ''
        fit(x, steps=1.5) | steps=1.5
        fit(x, seed="0") | seed='0'
        fit(x, recipe=None) | recipe=None
        fit(x, recipe=orn.Recipe) | orn.Recipe
        fit(x, progress=None) | progress=None
        load("") | run folder ''
        load(3) | run folder 3
        model.save(" ") | run folder ' '
        TrainingConfig(steps=2.5) | steps=2.5
        TrainingConfig(rate=math.inf) | rate=inf
        TrainingConfig(warmup=-1) | warmup=-1
        TrainingConfig(clip=math.nan) | clip=nan
        TrainingConfig(save_every=-1.0) | save_every=-1.0
        Recipe(0, orn.MLP, orn.TrainingConfig(), batch=1.5) | batch=1.5
        Recipe(0, orn.MLP, orn.TrainingConfig(), held_out=math.nan) | held_out=nan
        Recipe(0, orn.MLP, orn.TrainingConfig(), sde=3) | pass a LinearSDE
        Recipe(0, orn.MLP, None) | pass a TrainingConfig
    """,
}


@pytest.mark.parametrize("kind", CALLS)
def test_the_value_and_the_constraint_are_named(kind):
    script = PREAMBLE
    for line in textwrap.dedent(CALLS[kind]).strip().splitlines():
        call, words = (part.strip() for part in line.split("|"))
        call = call if call.startswith("model") else f"orn.{call}"
        script += f"""
try:
    {call}
except orn.errors.OrnsteinError as error:
    assert {words!r} in str(error), ({call!r}, str(error))
except Exception as error:
    raise AssertionError(({call!r}, repr(error)))
else:
    raise AssertionError({call!r} + " was accepted")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_spacing_may_be_given_by_name():
    script = PREAMBLE + (
        "by_name, by_object = (orn.sample(posterior, 4, spacing=s) for s in"
        " ('karras', orn.spacing.Karras()))\n"
        "assert torch.equal(by_name, by_object)\n"
        "assert torch.equal(model.sample(4, spacing='uniform'),"
        " model.sample(4, spacing=orn.spacing.uniform))\n"
        "one, other = (orn.elbo(posterior, x, 5, spacing=s) for s in"
        " ('uniform', orn.spacing.uniform))\n"
        "assert one == other\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
