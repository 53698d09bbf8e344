"""Draws to ArviZ, pandas and npz: numbers, names, axes and attributes arrive."""

import math

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.density.interop.export import load_npz, save_npz, to_inference_data, to_pandas
from ornstein.errors import DataError, OrnsteinError

N = 50
DRAWS = {
    "mu": orn.Noise(0).normal((N,)),
    "theta": orn.Noise(1).normal((N, 3), torch.float64),
    "chol": orn.Noise(2).normal((N, 2, 2)),
    "count": torch.arange(N),
}
NOTES = {"log_z": -31.3, "log_z_stderr": 0.01, "log_z_interval": [-31.32, -31.28], "ess": 900.0}


class TestArviZ:
    def data(self):
        pytest.importorskip("arviz", reason="ArviZ is not installed: pip install 'ornstein[arviz]'")
        return to_inference_data(
            DRAWS,
            {**NOTES, "k_hat": None},
            {"theta": ("school",)},
            {"school": ("a", "b", "c"), "unused": (1, 2)},
        )

    def test_gets_one_chain_with_named_axes(self):
        posterior = self.data().posterior
        assert dict(posterior.sizes) | {"chain": 1, "draw": N, "school": 3} == dict(posterior.sizes)
        assert list(posterior["school"].values) == ["a", "b", "c"]
        assert posterior["theta"].dims == ("chain", "draw", "school")
        for name, value in DRAWS.items():
            assert np.array_equal(posterior[name].values[0], value.numpy())
        assert posterior.attrs["log_z"] == -31.3
        assert "k_hat" not in posterior.attrs

    def test_computes_with_them(self):
        arviz = pytest.importorskip("arviz")
        table = arviz.summary(self.data(), var_names=["mu", "theta"], round_to="none")
        assert float(table.loc["mu", "mean"]) == pytest.approx(float(DRAWS["mu"].mean()), abs=1e-6)
        assert "theta[b]" in table.index


def test_pandas_gets_a_column_for_every_number():
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'ornstein[arviz]'")
    frame = to_pandas(DRAWS, NOTES)
    assert list(frame) == [
        "mu",
        "theta[0]",
        "theta[1]",
        "theta[2]",
        "chol[0, 0]",
        "chol[0, 1]",
        "chol[1, 0]",
        "chol[1, 1]",
        "count",
    ]
    assert np.array_equal(frame["chol[1, 0]"], DRAWS["chol"][:, 1, 0])
    assert frame.attrs["ess"] == 900.0


class TestNpz:
    def test_comes_back_as_it_was(self, tmp_path):
        notes = {**NOTES, "k_hat": math.inf, "warnings": ["low-ess"], "nothing": None}
        save_npz(tmp_path / "draws.npz", DRAWS, notes)
        draws, read = load_npz(tmp_path / "draws.npz")
        assert read == notes
        assert draws.keys() == DRAWS.keys()
        for name, value in DRAWS.items():
            assert draws[name].dtype == value.dtype
            assert torch.equal(draws[name], value)

    def test_takes_any_name_of_a_parameter(self, tmp_path):
        """Also those that `numpy.savez` keeps for itself."""
        save_npz(tmp_path / "x.npz", {"file": torch.zeros(2), "allow_pickle": torch.ones(2)})
        assert load_npz(tmp_path / "x.npz")[0].keys() == {"file", "allow_pickle"}

    def test_of_others_is_refused(self, tmp_path):
        np.savez(tmp_path / "other.npz", x=np.zeros(3))
        (tmp_path / "text.npz").write_text("no archive")
        for name, words in (
            ("other.npz", "did not write it"),
            ("text.npz", "no file of draws"),
            ("none.npz", "no file of draws"),
        ):
            with pytest.raises(DataError, match=words):
                load_npz(tmp_path / name)


def test_draws_of_different_number_are_refused():
    with pytest.raises(OrnsteinError, match="equally many draws"):
        save_npz("never.npz", {"a": torch.zeros(3), "b": torch.zeros(4)})
