"""Parameters of processes: copies, pickles and comparisons, and numbers that cannot be meant."""

import dataclasses
import math
import pickle

import pytest
import torch

import ornstein as orn
from ornstein.core import processes as p
from ornstein.errors import OrnsteinError
from problems import LAWS

F64 = torch.float64
NUMBERS = {  # every constructor with numbers, and its parameters
    p.VP: ("beta_min", "beta_max", "T"),
    p.SubVP: ("beta_min", "beta_max", "T"),
    p.VE: ("sigma_min", "sigma_max", "T"),
    p.EDM: ("sigma_max",),
    p.Cosine: ("T",),
    p.OU: ("theta", "diffusion_constant", "T"),
    p.Bridge: ("scale", "T"),
}
PARAMETERS = [(cls, name) for cls, names in NUMBERS.items() for name in names]


def noise_rate(t: torch.Tensor) -> torch.Tensor:
    """A function of time that pickles."""
    return 1 + t


def posterior(sde: orn.LinearSDE):
    """The exact posterior of two separated Gaussians."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    return orn.targets.GaussianMixture(means, torch.ones(2, 2) / 3, torch.ones(2) / 2).posterior(
        sde
    )


PLAIN = [
    *(law.sde for name, law in LAWS.items() if "From" not in name and name != "Damped"),
    p.Damped(noise_rate),
    p.FromLogSNR(torch.logit),
    p.FromCoefficients(noise_rate, noise_rate, nodes=8),
]


class TestCopies:
    @pytest.mark.parametrize("sde", PLAIN, ids=repr)
    def test_a_process_is_a_value(self, sde):
        """Copies by `dataclasses.replace` and by pickle are equal and compute alike."""
        for copy in (dataclasses.replace(sde), pickle.loads(pickle.dumps(sde))):
            assert copy == sde
            assert hash(copy) == hash(sde)
            assert torch.equal(copy.times(5), sde.times(5))
        assert type(sde)(**sde.config()) == sde
        assert len(repr(sde)) <= 100

    @pytest.mark.parametrize(("cls", "name"), PARAMETERS)
    def test_one_parameter_is_replaced(self, cls, name):
        changed = dataclasses.replace(cls(), **{name: 1.25})
        assert getattr(changed, name) == 1.25
        assert changed != cls()
        others = [f.name for f in dataclasses.fields(cls) if f.name != name]
        assert all(getattr(changed, f) == getattr(cls(), f) for f in others)

    @pytest.mark.parametrize("sde", [law.sde for law in LAWS.values()], ids=list(LAWS))
    def test_its_name_fits_on_a_screen(self, sde):
        assert len(repr(sde)) <= 100
        assert " at 0x" not in repr(sde)

    def test_equations_are_values_too(self):
        for equation in (orn.SDE(noise_rate, noise_rate), orn.Langevin(torch.neg)):
            assert dataclasses.replace(equation) == equation
            assert pickle.loads(pickle.dumps(equation)) == equation

    def test_a_table_of_variances_survives_inference_mode(self):
        """What was computed under `torch.inference_mode` is differentiated later."""
        chain = p.DiscreteVP((0.1, 0.2, 0.3))
        with torch.inference_mode():
            chain.sigma(0.5)
            quadrature = p.Damped(noise_rate, nodes=7)
            quadrature.sigma(0.5)
        for sde in (chain, quadrature):
            t = torch.tensor(0.4, dtype=F64, requires_grad=True)
            sde.sigma(t).backward()
            assert t.grad.isfinite()


class TestOrnsteinUhlenbeck:
    def test_positions_are_rate_and_diffusion_constant(self):
        assert p.OU(1.5, 2.0, 3.0) == p.OU(theta=1.5, diffusion_constant=2.0, T=3.0)
        assert p.OU() == p.OU(1.0, math.sqrt(2), 1.0)

    def test_the_old_spellings_warn(self):
        with pytest.warns(DeprecationWarning, match="is now orn.OU.diffusion_constant"):
            ou = p.OU(theta=1.5, sigma=2.0)
        assert ou == p.OU(1.5, 2.0)
        with pytest.warns(DeprecationWarning, match=r"orn\.OU\.noise is now"):
            assert ou.noise == 2.0

    def test_a_configuration_of_the_last_release_is_read(self):
        with pytest.warns(DeprecationWarning):
            assert p.OU(theta=1.5, sigma=2.0, T=1.0) == p.OU(1.5, 2.0)

    def test_both_spellings_at_once_are_refused(self):
        with pytest.raises(OrnsteinError, match="two spellings"):
            p.OU(diffusion_constant=1.0, sigma=2.0)


class TestNumbersThatCannotBeMeant:
    @pytest.mark.parametrize(("cls", "name"), PARAMETERS)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, 1e-300])
    def test_they_are_refused_by_name(self, cls, name, value):
        with pytest.raises(OrnsteinError) as caught:
            cls(**{name: value})
        assert name in str(caught.value)
        assert cls.__name__ in str(caught.value)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: p.OU(1.0, 1e8),
            lambda: p.EDM(1e30),
            lambda: p.VE(sigma_max=1e20),
            lambda: p.Bridge(1e12),
            lambda: p.VP(beta_max=1e12),
        ],
    )
    def test_noise_beyond_single_precision_is_refused(self, make):
        with pytest.raises(OrnsteinError, match=r"must be between .*: (measure|choose)"):
            make()

    @pytest.mark.parametrize(("cls", "name"), PARAMETERS)
    @pytest.mark.parametrize("exponent", range(-18, 19, 3))
    def test_what_is_taken_gives_right_samples(self, cls, name, exponent):
        """From the smallest to the largest number that is accepted, the exact posterior leads back
        to the data: mean 0 within 4 standard errors, and no NaN in the kernels of a grid."""
        try:
            sde = cls(**{name: 10.0**exponent})
        except OrnsteinError:
            return
        times = sde.times(12)
        if not bool((times.diff() < 0).all()):  # no grid: the loop refuses it
            with pytest.raises(OrnsteinError, match="strictly decreasing"):
                orn.simulate(orn.Reverse(posterior(sde)), torch.zeros(3, 2), times, orn.Ancestral())
            return
        n = 400
        x = sde.prior((n, 2)).draw(orn.Noise(1).normal((n, 2)))
        reverse = orn.Reverse(posterior(sde))
        signal = float(sde.alpha(sde.T)) / max(float(sde.sigma(sde.T)), 1e-30)
        x = x.float() + float(sde.alpha(sde.T)) * (signal > 0.05)  # a start in one of the modes
        out = orn.simulate(reverse, x, times, orn.Ancestral(), orn.Noise(0))
        assert bool(out.isfinite().all())
        if signal < 1e-3:
            assert bool((out.mean(0).abs() < 4 * out.std(0) / math.sqrt(n)).all())

    @pytest.mark.parametrize(
        "make",
        [
            lambda: p.DiscreteVP((0.1, math.nan)),
            lambda: p.DiscreteVP((1e-300,)),
            lambda: p.FromLogSNR(torch.logit, T=math.nan),
            lambda: p.FromCoefficients(noise_rate, noise_rate, nodes=0),
            lambda: orn.Reverse(posterior(p.VP()), eta=math.nan),
        ],
    )
    def test_other_constructors_refuse_what_is_no_process(self, make):
        with pytest.raises(OrnsteinError):
            make()


class TestGrids:
    @pytest.mark.parametrize("n", [0, -1, True])
    def test_a_number_of_steps_is_a_positive_integer(self, n):
        with pytest.raises(OrnsteinError):
            p.VP().times(n)

    def test_the_name_of_a_spacing_is_refused_with_the_fix(self):
        with pytest.raises(OrnsteinError, match=r"orn\.spacing\.named\('karras'\)"):
            p.VP().times(5, "karras")
