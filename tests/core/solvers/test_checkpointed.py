"""Gradients with little memory: equal to plain back-propagation, and less is kept."""

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

F64 = torch.float64


def problem(noise, calculus):
    """A drift and a diffusion with parameters to differentiate."""
    w = torch.tensor([[0.5, -0.3], [0.8, 0.1]], dtype=F64, requires_grad=True)
    v = torch.tensor(0.4, dtype=F64, requires_grad=True)
    diffusion = {
        "additive": lambda x, t: v * (1 + t) * torch.ones_like(x),
        "diagonal": lambda x, t: v * x.cos(),
    }.get(noise)
    if noise == "general":
        diffusion = lambda x, t: torch.stack([v * x, x.flip(1).sin()], -1)  # noqa: E731
    return orn.SDE(lambda x, t: torch.tanh(x @ w) - t * x, diffusion, noise, calculus), (w, v)


METHODS = [
    (orn.EulerMaruyama(), "diagonal", "ito"),
    (orn.Milstein(), "diagonal", "ito"),
    (orn.SRK(), "additive", "ito"),
    (orn.SRK(), "diagonal", "ito"),
    (orn.methods.ReversibleHeun(), "general", "stratonovich"),
    (orn.EulerMaruyama(), "general", "ito"),
    (orn.methods.PlatenWeak2(), "diagonal", "ito"),
    (orn.methods.AdaptiveSDE(orn.SRK(), 0.0, 1e-2), "diagonal", "ito"),
]


class TestCheckpointed:
    @pytest.mark.parametrize(("method", "noise", "calculus"), METHODS)
    def test_gradients_are_those_of_back_propagation(self, method, noise, calculus):
        """States at three times and the gradients of all parameters and the start, to 1e-12, with
        steps that segments do not divide."""
        sde, parameters = problem(noise, calculus)
        x = torch.linspace(-1, 1, 10, dtype=F64).reshape(5, 2).requires_grad_()
        path, ts = (
            orn.BrownianPath((5, 2), seed=3, cells=torch.linspace(0, 1, 17), dtype=F64, order=2),
            [0.0, 0.3125, 1.0],
        )
        found = []
        for gradient in (None, orn.solvers.Checkpointed(), orn.solvers.Checkpointed(segments=1)):
            xs = orn.solve(sde, x, ts, method, path, dt=0.0625, gradient=gradient)
            found.append(
                [
                    xs,
                    *torch.autograd.grad(
                        (xs[1:].cos() * torch.tensor([1.0, 2.0])[:, None, None]).sum(),
                        [x, *parameters],
                    ),
                ]
            )
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)

    def test_keeps_the_root_of_what_plain_back_propagation_keeps(self):
        """Numbers saved for the gradient after 400 steps, at most a tenth."""
        sde, _ = problem("diagonal", "ito")
        x, sizes = torch.ones(8, 2, dtype=F64), []
        for gradient in (None, orn.solvers.Checkpointed()):
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(
                lambda y, kept=kept: kept.append(y.numel()) or y, lambda y: y
            ):
                orn.solve(sde, x, [0.0, 1.0], orn.Milstein(), dt=1 / 400, gradient=gradient)
            sizes.append(sum(kept))
        assert sizes[1] < sizes[0] / 10

    def test_a_seed_gives_a_path_with_the_steps_as_cells(self):
        sde, _ = problem("diagonal", "ito")
        x, grid = torch.ones(4, 2, dtype=F64), torch.linspace(0, 1, 11, dtype=F64)
        path = orn.BrownianPath((4, 2), seed=7, cells=grid, dtype=F64, order=2)
        found = orn.solve(
            sde, x, [0.0, 1.0], orn.SRK(), 7, dt=0.1, gradient=orn.solvers.Checkpointed()
        )
        torch.testing.assert_close(found, orn.solve(sde, x, [0.0, 1.0], orn.SRK(), path, dt=0.1))

    def test_runs_down_in_time_and_without_noise(self):
        x = torch.ones(2, dtype=F64, requires_grad=True)
        end = orn.solve(
            orn.SDE(lambda x, t: -t * x),
            x,
            [1.0, 0.0],
            orn.SRK(),
            dt=0.01,
            gradient=orn.solvers.Checkpointed(3),
        )[-1]
        (gradient,) = torch.autograd.grad(end.sum(), x)
        torch.testing.assert_close(gradient, end)
        torch.testing.assert_close(end, torch.full_like(end, 0.5).exp(), atol=1e-4, rtol=0)

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="segments=0"):
            orn.solvers.Checkpointed(0)
        sde, x = orn.methods.Underdamped(lambda q: -q, 1.0), torch.ones(3, 2)
        with pytest.raises(OrnsteinError, match="draw nothing but"):
            orn.solve(
                sde, x, [0.0, 1.0], orn.methods.BAOAB(), dt=0.1, gradient=orn.solvers.Checkpointed()
            )


def peak(steps, gradient):
    """Most numbers that were saved for the gradient at any time of a run and its derivative."""
    sde, parameters = problem("general", "stratonovich")
    x, kept, most = torch.ones(8, 2, dtype=F64, requires_grad=True), [0], [0]

    class Saved:
        def __init__(self, y):
            self.y = y.detach()  # with its node, an output would keep itself alive
            kept[0] += y.numel()
            most[0] = max(most[0], kept[0])

        def __del__(self):
            kept[0] -= self.y.numel()

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.y):
        end = orn.solve(
            sde, x, [0.0, 1.0], orn.methods.ReversibleHeun(), dt=1 / steps, gradient=gradient
        )[-1]
        torch.autograd.grad(end.sum(), [x, *parameters])
    return most[0]


class TestReversible:
    @pytest.mark.parametrize(
        ("noise", "calculus"),
        [("diagonal", "stratonovich"), ("general", "stratonovich"), ("additive", "ito")],
    )
    def test_gradients_are_those_of_back_propagation(self, noise, calculus):
        """States at three times and the gradients of all parameters and the start, to 1e-10 after
        160 steps."""
        sde, parameters = problem(noise, calculus)
        x = torch.linspace(-1, 1, 10, dtype=F64).reshape(5, 2).requires_grad_()
        path, ts = (
            orn.BrownianPath((5, 2), seed=3, cells=torch.linspace(0, 1, 161), dtype=F64),
            [0.0, 0.3125, 1.0],
        )
        found = []
        for gradient in (None, orn.solvers.Reversible()):
            xs = orn.solve(
                sde, x, ts, orn.methods.ReversibleHeun(), path, dt=1 / 160, gradient=gradient
            )
            found.append(
                [
                    xs,
                    *torch.autograd.grad(
                        (xs[1:].cos() * torch.tensor([1.0, 2.0])[:, None, None]).sum(),
                        [x, *parameters],
                    ),
                ]
            )
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)

    def test_scalar_noise_a_module_down_in_time(self):
        """Weights of a network in the drift, and a diffusion that has none."""
        net = torch.nn.Sequential(
            *(torch.nn.utils.skip_init(torch.nn.Linear, 2, 2, dtype=F64) for _ in range(2))
        )
        for k, weight in enumerate(net.parameters()):
            weight.data.copy_(orn.Noise(k).normal(weight.shape, F64))
        sde = orn.SDE(lambda x, t: net(x), lambda x, t: 0.3 * x, "scalar", "stratonovich")
        path, x = (
            orn.BrownianPath((4, 1), seed=1, cells=torch.linspace(0, 1, 33), dtype=F64),
            torch.ones(4, 2, dtype=F64),
        )
        found = []
        for gradient in (None, orn.solvers.Reversible()):
            end = orn.solve(
                sde, x, [1.0, 0.0], orn.methods.ReversibleHeun(), path, dt=1 / 32, gradient=gradient
            )[-1]
            found.append(torch.autograd.grad(end.square().sum(), list(net.parameters())))
        torch.testing.assert_close(*found, atol=1e-10, rtol=1e-10)

    def test_without_noise_to_the_derivative_of_the_solution(self):
        x = torch.ones(2, dtype=F64, requires_grad=True)
        end = orn.solve(
            orn.SDE(lambda x, t: -t * x),
            x,
            [1.0, 0.0],
            orn.methods.ReversibleHeun(),
            dt=0.005,
            gradient=orn.solvers.Reversible(),
        )[-1]
        torch.testing.assert_close(
            torch.autograd.grad(end.sum(), x)[0], torch.full_like(end, 0.5).exp(), atol=1e-4, rtol=0
        )

    def test_what_is_kept_does_not_grow_with_the_steps(self):
        """Nor forwards, nor back; that of plain back-propagation does."""
        assert peak(20, orn.solvers.Reversible()) == peak(200, orn.solvers.Reversible()) < 300
        assert peak(200, None) > 8 * peak(20, None)

    def test_refusals(self):
        sde, (w, _) = problem("general", "stratonovich")
        x = torch.ones(3, 2, dtype=F64)
        with pytest.raises(
            OrnsteinError,
            match=r"StratonovichHeun.*methods\.ReversibleHeun\(\).*Checkpointed",
        ):
            orn.solve(
                sde,
                x,
                [0.0, 1.0],
                orn.methods.StratonovichHeun(),
                dt=0.1,
                gradient=orn.solvers.Reversible(),
            )
        twice = 2 * w
        with pytest.raises(OrnsteinError, match="the result of MulBackward0"):
            sde = orn.SDE(lambda x, t: x @ twice, lambda x, t: torch.ones_like(x), "additive")
            orn.solve(
                sde,
                x,
                [0.0, 1.0],
                orn.methods.ReversibleHeun(),
                dt=0.1,
                gradient=orn.solvers.Reversible(),
            )
