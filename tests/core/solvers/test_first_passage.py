"""First passages: against the inverse Gaussian law, and the order of what is left."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

F64 = torch.float64
MU, S, LEVEL, N = 0.5, 1.2, 1.0, 20_000


def drifting():
    return orn.SDE(
        lambda x, t: torch.full_like(x, MU), lambda x, t: torch.full_like(x, S), "additive"
    )


def passage(dt, bridge=True, n=N, seed=0, end=3.0, sde=None):
    hit = orn.solvers.FirstPassage(
        lambda x, t: LEVEL - x, (lambda x, t: torch.full_like(x, S)) if bridge else None, seed=seed
    )
    orn.solve(
        sde or drifting(),
        torch.zeros(n, dtype=F64),
        [0.0, end],
        orn.EulerMaruyama(),
        seed,
        dt=dt,
        watch=[hit],
    )
    return hit


class TestBrownianMotion:
    @pytest.mark.parametrize("dt", [0.1, 1.5])
    def test_law_is_exact_for_any_step(self, dt):
        """Kolmogorov-Smirnov distance to the inverse Gaussian law up to the end, below 1.95 / sqrt
        n (level 1e-3)."""
        times = passage(dt).times.sort().values
        law = orn.laws.BrownianPassage(LEVEL, MU, S)
        known = law.cdf(times[times.isfinite()])
        k = torch.arange(len(known), dtype=F64)
        distance = torch.maximum((k + 1) / N - known, known - k / N).max()
        rest = abs(len(known) / N - float(law.cdf(torch.tensor(3.0))))
        assert max(float(distance), rest) < 1.95 / math.sqrt(N)

    def test_without_the_bridge_it_is_late_by_the_root_of_the_step(self):
        """P(T <= 3) of the ends of steps is as low as if the level were ``0.5826 sigma sqrt h``
        farther (Broadie et al. 1997)."""
        for dt in (0.1, 0.025):
            found = float(passage(dt, bridge=False).crossed.double().mean())
            far = orn.laws.BrownianPassage(LEVEL + 0.5826 * S * math.sqrt(dt), MU, S)
            assert found == pytest.approx(
                float(far.cdf(torch.tensor(3.0))), abs=4 * math.sqrt(0.2 / N)
            )
            assert found < float(
                orn.laws.BrownianPassage(LEVEL, MU, S).cdf(torch.tensor(3.0))
            ) - 4 * math.sqrt(0.2 / N)

    def test_either_direction_of_time(self):
        """From 3 down to 0 with the drift turned round: times are 3 less those of the way up, in
        law; their means within 4 errors."""
        hit = orn.solvers.FirstPassage(
            lambda x, t: LEVEL - x, lambda x, t: torch.full_like(x, S), 1
        )
        down = orn.SDE(
            lambda x, t: torch.full_like(x, -MU), lambda x, t: torch.full_like(x, S), "additive"
        )
        orn.solve(
            down, torch.zeros(N, dtype=F64), [3.0, 0.0], orn.EulerMaruyama(), 1, dt=0.3, watch=[hit]
        )
        there, back = passage(0.3).times.clamp(max=3.0), 3 - hit.times.clamp(min=0.0)
        assert abs(float(there.mean() - back.mean())) < 4 * float(
            (there.var() + back.var()).sqrt()
        ) / math.sqrt(N)


class TestOtherProcesses:
    def test_ornstein_uhlenbeck_from_below_its_mean(self):
        """First time at the mean from one below: error of ``P(T <= 1)`` with steps of 1/16 and the
        bridge within 4 errors plus 0.015 (Euler's own is 0.028 at 1/8, and falls like the step),
        where the ends of steps are off by 0.08."""
        sde, x = (
            orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), "additive"),
            -torch.ones(N, dtype=F64),
        )
        exact = float(orn.laws.OUPassage(1.0, 1.0, 1.0).cdf(torch.tensor(1.0)))
        found = []
        for bridge in (lambda x, t: torch.ones_like(x), None):
            hit = orn.solvers.FirstPassage(lambda x, t: -x, bridge)
            orn.solve(sde, x, [0.0, 1.0], orn.EulerMaruyama(), dt=1 / 16, watch=[hit])
            found.append(float(hit.crossed.double().mean()) - exact)
        assert abs(found[0]) < 4 * math.sqrt(0.25 / N) + 0.015 and found[1] < -0.05


class TestRecords:
    def test_deterministic_crossing_is_interpolated(self):
        """x = t meets 0.55 at 0.55, and a sample beyond it has done so at the start."""
        hit = orn.solvers.FirstPassage(lambda x, t: 0.55 - x)
        x = torch.tensor([0.0, 0.7, -2.0], dtype=F64)
        orn.solve(
            orn.SDE(lambda x, t: torch.ones_like(x)),
            x,
            [0.0, 1.0],
            orn.EulerMaruyama(),
            dt=0.1,
            watch=[hit],
        )
        assert hit.times.tolist() == pytest.approx(
            [0.55, 0.0, math.inf]
        ) and hit.crossed.tolist() == [True, True, False]

    def test_sample_is_the_same_in_every_batch(self):
        assert torch.equal(passage(0.2, n=100).times, passage(0.2).times[:100])

    def test_shape(self):
        hit = orn.solvers.FirstPassage(lambda x, t: x)
        with pytest.raises(OrnsteinError, match=r"shape \(3, 2\).*one number per sample"):
            orn.solve(drifting(), torch.zeros(3, 2), [0.0, 1.0], watch=[hit])
