"""Arguments of a wrong type: an `OrnsteinError` that says what is expected, never a raw error.

The suite checks annotations at each call, which a user does not; so the calls run in an interpreter
of their own.
"""

import subprocess
import sys

SCRIPT = """
import math
import torch
import ornstein as orn
from ornstein.core import processes as p
from ornstein.core.timesteps.spacing import Karras, Shifted, as_spacing
from ornstein.errors import OrnsteinError

rate = lambda t: 1 + t
x, times, noise = torch.zeros(3, 2), torch.linspace(0, 1, 5), orn.Noise(0)
model = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
posterior = model.posterior(p.VP())
euler = orn.EulerMaruyama()
NUMBERS = {
    p.VP: ("beta_min", "beta_max", "T"), p.SubVP: ("beta_min", "beta_max", "T"),
    p.VE: ("sigma_min", "sigma_max", "T"), p.EDM: ("sigma_max",), p.Cosine: ("T",),
    p.OU: ("theta", "diffusion_constant", "T"), p.Bridge: ("scale", "T"),
}
calls = {}
for cls, names in NUMBERS.items():
    for name in names:
        for value in (None, "1", "x", [1.0], {}, torch.ones(2)):
            calls[f"{cls.__name__}({name}={value!r})"] = lambda c=cls, n=name, v=value: c(**{n: v})
for text in [
    "p.DiscreteVP(None)", "p.DiscreteVP('abc')", "p.DiscreteVP(0.1)", "p.FromLogSNR(None)",
    "p.FromLogSNR(rate, T=None)", "p.FromCoefficients(rate, 1.0)",
    "p.FromCoefficients(rate, rate, nodes=2.5)", "p.FromCoefficients(rate, rate, nodes=None)",
    "p.Damped('x')", "p.Damped(rate, T=None)", "orn.SDE(1.0)", "orn.SDE(rate, None)",
    "orn.SDE(rate, noise=None)", "orn.SDE(rate, calculus=0)", "orn.Langevin(None)",
    "orn.Reverse(None)", "orn.Reverse(model)", "orn.Reverse(posterior, eta=None)",
    "orn.Reverse(posterior, eta='0')",
    "p.VP().times(None)", "p.VP().times(2.0)", "p.VP().times('5')", "p.VP().times(5, 3)",
    "p.VP().times(5, 'karras')", "as_spacing(3)", "as_spacing('karas')", "as_spacing(None)",
    "Shifted('karas')", "Shifted(None)", "Shifted('cosine', shift=None)",
    "orn.spacing.uniform(p.VP(), None)", "orn.spacing.uniform(p.VP(), 2.5)",
    "orn.spacing.Power(rho=None)", "orn.spacing.Table(None)", "orn.spacing.Table('ab')",
    "Karras(rho=None)(p.VP(), 5)", "Karras(sigma_min='a')(p.VP(), 5)",
    "Karras(sigma_max='a')(p.VP(), 5)", "orn.spacing.Lu(t_min=None)(p.VP(), 5)",
    "orn.spacing.Balanced(width=None)", "orn.spacing.Beta(alpha=None)",
    "orn.clock.Asinh(width=None)",
    "orn.Noise(None)", "orn.Noise(0.5)", "orn.Noise('0')", "orn.Noise.of(None)",
    "orn.Noise(0, start=None)", "orn.Noise(0, start=-1)", "orn.Noise(0).shift(1.5)",
    "orn.Noise(0).fold(1.5)", "orn.Noise(0).fold(None)",
    "orn.Noise(0).normal(3)", "orn.Noise(0).normal((2.0,))", "orn.Noise(0).normal(())",
    "orn.BrownianPath(3)", "orn.BrownianPath((3,), t1=None)", "orn.BrownianPath((3,), seed=None)",
    "orn.BrownianPath((3,), tol=None)", "orn.BrownianPath((3,), order=None)",
    "orn.BrownianPath((3,), cells=3)", "orn.BrownianPath((3,), cells=[None])",
    "orn.BrownianPath((3,))(None)", "orn.BrownianPath((3,)).increment(0.0, 'x')",
    "orn.simulate(p.OU(), x, times, None, noise)", "orn.simulate(p.OU(), x, times, 'heun', noise)",
    "orn.simulate(p.OU(), x, times, orn.EulerMaruyama, noise)",
    "orn.simulate(p.OU(), x, times, euler, 'seed')", "orn.simulate(p.OU(), x, times, euler, 1.5)",
    "orn.simulate(p.OU(), x, None, euler, noise)", "orn.simulate(p.OU(), x, [0, 1], euler, noise)",
    "orn.solve(p.OU(), x, None)", "orn.solve(p.OU(), x, 'ab')", "orn.solve(p.OU(), x, [0, None])",
    "orn.solve(p.OU(), x, [0.0, 1.0], seed=None)", "orn.solve(p.OU(), x, [0.0, 1.0], seed=0.5)",
    "orn.solve(p.OU(), x, [0.0, 1.0], method='heun')",
    "orn.solve(p.OU(), x, [0.0, 1.0], method=orn.Milstein)",
    "orn.solve(p.OU(), x, [0.0, 1.0], dt='a')", "orn.solve(p.OU(), x, [0.0, 1.0], dt=math.nan)",
    "orn.solve(p.OU(), x, [0.0, 1.0], gradient='checkpointed')",
    "orn.sample_exact(p.OU(), x, None)", "orn.sample_exact(p.OU(), x, [0.0, 1.0], seed=None)",
    "orn.sample_exact(None, x, [0.0, 1.0])", "orn.sample_exact(p.OU(), x, [0.0, None])",
    "orn.solvers.Checkpointed(segments='a')", "orn.solvers.Checkpointed(segments=1.5)",
    "orn.solvers.FirstPassage(None)", "orn.solvers.FirstPassage(rate, diffusion=1.0)",
    "orn.solvers.FirstPassage(rate, seed=None)",
]:
    calls[text] = lambda t=text: eval(t)
for text, call in calls.items():
    try:
        call()
    except OrnsteinError as error:
        if not str(error).strip():
            print(text, "-> an empty message")
    except Exception as error:
        print(text, "->", type(error).__name__, error)
    else:
        print(text, "-> no error")
print("calls", len(calls))
"""


def test_wrong_types_are_refused():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    *wrong, count = run.stdout.splitlines() or [run.stderr]
    assert not wrong, "\n  ".join(["", *wrong])
    assert count.startswith("calls") and int(count.split()[1]) > 150, run.stderr
