"""Analytic models, the number of steps that suffices, and weights that are not trusted where
particles contradict them."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.density.learned.analytic import analytic_models
from ornstein.density.learned.importance import (
    PulledBackDensity,
    backward_log_weights,
    estimate_log_z,
    importance_sample,
)
from ornstein.density.learned.train import analytic_model, choose_path_steps, learn_diffusion
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture
from ornstein.density.proposals.triangular import fit_triangular, independent, with_mixtures

DOUBLE = torch.float64


def mixture(means, stds, weights):
    means = torch.tensor(means, dtype=DOUBLE)
    factors = torch.tensor(stds, dtype=DOUBLE)[:, None, None] * torch.eye(
        means.shape[1], dtype=DOUBLE
    )
    return Mixture(torch.tensor(weights, dtype=DOUBLE), means, factors)


FAR = mixture([[-20.0, 3.0], [30.0, 3.0], [0.0, 40.0]], [0.5, 1.0, 0.7], [0.5, 0.3, 0.2])


def standard(d=1):
    """The model of N(0, I) in the user's own coordinates."""
    law = mixture([[0.0] * d], [1.0], [1.0])
    return max(
        analytic_models(law, law.draw(4096, orn.Noise(0))),
        key=lambda model: isinstance(model.denoiser.net, orn.models.ProductNetwork),
    )


def test_a_law_that_is_the_density_needs_no_training():
    """Three modes far apart, of different widths; two wells in each of six coordinates; a
    triangular map of a Gaussian: more than .7 effective paths per path without an optimiser step,
    log Z within 4 standard errors and 1e-5, since models are in float32."""
    x = FAR.draw(4096, orn.Noise(0))
    wells = torch.where(orn.Noise(1).uniform((4096, 6), DOUBLE) < 0.3, -2.0, 2.0) + 0.3 * orn.Noise(
        2
    ).normal((4096, 6), DOUBLE)
    z = orn.Noise(3).normal((4096, 3), DOUBLE)
    warped = torch.stack([z[:, 0], z[:, 1] * (0.7 * z[:, 0]).exp(), z[:, 2] + z[:, 0].square()], 1)
    laws = (
        (FAR, x),
        (with_mixtures(independent(wells), wells, 2), wells),
        (fit_triangular(warped, torch.arange(3)), warped),
    )
    for law, particles in laws:
        model, fraction = analytic_model(law, law.log_prob, particles, orn.Noise(4))
        found = estimate_log_z(
            model, PulledBackDensity(law.log_prob, model.codec), 4096, orn.Noise(5)
        )[1]
        assert (
            fraction > 0.7 and found.ess > 0.7 * 4096 and abs(found.value) < 4 * found.stderr + 1e-5
        )


def test_the_smallest_sufficient_number_of_steps_is_chosen():
    """N(0, I) takes one; modes far apart take more than eight, and keep nine tenths of what 64
    give, up to noise."""
    normal = mixture([[1.0, 2.0]], [3.0], [1.0])
    model = next(iter(analytic_models(normal, normal.draw(4096, orn.Noise(0)))))
    pulled_back = PulledBackDensity(
        lambda x: model.denoiser.sde.prior((1, 2)).log_prob(model.codec.encode(x)), model.codec
    )
    choose_path_steps(model, pulled_back, orn.Noise(1))
    assert model.info["path_steps"] == 1
    model, fraction = analytic_model(FAR, FAR.log_prob, FAR.draw(4096, orn.Noise(0)), orn.Noise(1))
    pulled_back = PulledBackDensity(FAR.log_prob, model.codec)
    choose_path_steps(model, pulled_back, orn.Noise(1))
    assert 8 < model.info["path_steps"] <= 64
    assert estimate_log_z(model, pulled_back, 4096, orn.Noise(2))[1].ess > 0.8 * 4096 * fraction


def test_the_mean_weight_of_particles_is_the_second_moment_of_the_weights_of_paths():
    """``E_rho[log w] >= log Z``, and ``E_rho[w] / Z = E[w^2] / Z^2``, one over the effective paths
    per path: within 4 standard errors for a density narrower than the model."""
    model, narrow = standard(), mixture([[0.2]], [0.7], [1.0])
    pulled_back = PulledBackDensity(lambda x: narrow.log_prob(x) + 3, model.codec)
    back = backward_log_weights(
        model,
        pulled_back,
        model.codec.encode(narrow.draw(20000, orn.Noise(3))).float(),
        orn.Noise(4),
    )
    paths, log_z = estimate_log_z(model, pulled_back, 20000, orn.Noise(5))
    assert float(back.mean()) > 3 > log_z.elbo
    w = (back - 3).exp()
    squares = (2 * (paths.log_w - log_z.value)).exp()
    error = math.sqrt(float(w.var() + squares.var()) / 20000)
    assert abs(float(w.mean()) - float(squares.mean())) < 4 * error


@pytest.mark.parametrize(("mass", "good"), [(0.0, True), (0.05, False)])
def test_a_mode_that_paths_never_reach_is_seen_by_particles(mass, good):
    """A twentieth of the mass lies 30 deviations off: paths of the model have equal weights,
    particles there tell."""
    target = (
        mixture([[0.0], [30.0]], [1.0, 0.5], [1 - mass, mass])
        if mass
        else mixture([[0.0]], [1.0], [1.0])
    )
    model = standard()
    pulled_back = PulledBackDensity(target.log_prob, model.codec)
    z = model.codec.encode(target.draw(1024, orn.Noise(6))).float()
    estimate = importance_sample(model, pulled_back, z, 2048, 0.0, orn.Noise(7))
    assert estimate.log_z.ess > 0.9 * 2048 and estimate.k_hat < 0.7
    assert estimate.good is good


def test_smc_is_used_for_a_model_whose_weights_are_uneven():
    """Twelve coordinates three quarters as wide as the model's: .27 effective paths per path. Log Z
    from SMC along it within 4 standard errors, these smaller than what as many independent
    paths have; a model that is exact for the density keeps its paths."""
    target, model = mixture([[0.0] * 12], [0.75], [1.0]), standard(12)
    pulled_back = PulledBackDensity(target.log_prob, model.codec)
    z = model.codec.encode(target.draw(1024, orn.Noise(6))).float()
    smc = importance_sample(model, pulled_back, z, 8192, 0.0, orn.Noise(0))
    plain = estimate_log_z(model, pulled_back, 8192, orn.Noise(1))[1]
    assert smc.good and abs(smc.log_z.value) < 4 * smc.log_z.stderr
    assert smc.log_z.stderr < 0.9 * plain.stderr and smc.log_z.ess > 2 * plain.ess
    exact = PulledBackDensity(mixture([[0.0] * 12], [1.0], [1.0]).log_prob, model.codec)
    even = importance_sample(model, exact, z / 0.75, 1024, 0.0, orn.Noise(0))
    mean = float(even.paths.log_w.mean())
    assert even.good and even.log_z.elbo == pytest.approx(mean)  # of independent paths


def test_models_come_in_the_coordinates_of_every_part_of_a_law():
    x = FAR.draw(2048, orn.Noise(0))
    kinds = [
        type(model.denoiser.net).__name__
        for model in analytic_models(DefensiveMixture((FAR, independent(x)), (0.5, 0.5)), x)
    ]
    assert kinds == ["MixtureNetwork", "ProductNetwork", "ProductNetwork", "ProductNetwork"]


def test_a_network_is_trained_whatever_the_default_dtype():
    """Two steps on N(0, 0.7^2) for the model of N(0, 1), in both default dtypes: the network is on
    top of the analytic model, and its paths estimate Z = 1 within 4 standard errors."""
    target = mixture([[0.0]], [0.7], [1.0])
    for dtype in (torch.float32, DOUBLE):
        torch.set_default_dtype(dtype)
        try:
            model = standard()
            pulled_back = PulledBackDensity(target.log_prob, model.codec)
            z, scores = pulled_back.pull(target.draw(512, orn.Noise(1)))
            steps = []
            trained = learn_diffusion(
                model, pulled_back, z, scores, 2, math.inf, orn.Noise(2), steps.append
            )
            log_z = estimate_log_z(trained, pulled_back, 512, orn.Noise(3))[1]
        finally:
            torch.set_default_dtype(torch.float32)
        assert len(steps) >= 2 and abs(log_z.value) < 4 * log_z.stderr
