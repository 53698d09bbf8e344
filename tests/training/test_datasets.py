"""Data from whatever holds it; what cannot be learned from is refused with the reason; recipes fit
the data's shape."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import ornstein as orn
from ornstein.errors import DataError, UnknownNameError
from ornstein.training.datasets.read import read
from ornstein.training.recipes import RECIPES, recipe

pytestmark = pytest.mark.usefixtures("seeded_weights")

TABLE = np.arange(12.0).reshape(4, 3) / 7


def same(samples, x, labels=None):
    torch.testing.assert_close(samples.x, torch.as_tensor(np.asarray(x), dtype=torch.float32))
    assert samples.labels is None if labels is None else samples.labels.tolist() == list(labels)


def test_arrays_tensors_lists_and_pairs():
    same(read(TABLE), TABLE)
    same(read(torch.from_numpy(TABLE)), TABLE)
    same(read(TABLE.tolist()), TABLE)
    same(read((TABLE, [0, 2, 1, 0])), TABLE, [0, 2, 1, 0])
    same(read(TABLE, np.array([0.0, 1.0, 1.0, 0.0])), TABLE, [0, 1, 1, 0])
    assert read(read(TABLE)).x.shape == (4, 3)


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "x.npy", TABLE)
    same(read(tmp_path / "x.npy"), TABLE)
    np.savez(tmp_path / "a.npz", x=TABLE, labels=[3, 2, 1, 0])
    same(read(str(tmp_path / "a.npz")), TABLE, [3, 2, 1, 0])
    np.savez(tmp_path / "b.npz", points=TABLE)
    same(read(tmp_path / "b.npz"), TABLE)
    np.savez(tmp_path / "c.npz", points=TABLE, classes=[0, 1, 0, 1])
    with pytest.raises(DataError, match=r"\['classes', 'points'\].*'x'"):
        read(tmp_path / "c.npz")


def test_csv_with_and_without_header(tmp_path):
    (tmp_path / "a.csv").write_text("height, weight\n1.5,2\n-3e1,4.25\n\n0,1\n")
    samples = read(tmp_path / "a.csv")
    same(samples, [[1.5, 2], [-30, 4.25], [0, 1]])
    assert samples.names == ("height", "weight")
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    same(read(tmp_path / "b.csv"), [[1, 2], [3, 4]])
    (tmp_path / "c.csv").write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(DataError, match=r"row 2.*'x'"):
        read(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="row 2"):
        read(tmp_path / "d.csv")
    for text in ("", "a,b\n"):
        (tmp_path / "e.csv").write_text(text)
        with pytest.raises(DataError):
            read(tmp_path / "e.csv")


def test_folder_of_pictures_with_classes(tmp_path):
    rng, expected = np.random.default_rng(0), []
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
            expected.append(pixels)
    samples = read(tmp_path)
    same(samples, np.stack(expected), [0, 0, 1, 1])
    assert samples.integer
    same(read(tmp_path / "cat"), np.stack(expected[:2]))
    Image.fromarray(expected[0][:4]).save(tmp_path / "cat" / "small.png")
    with pytest.raises(DataError, match="2 sizes"):
        read(tmp_path)


def test_torch_data_sets():
    class Pairs(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return torch.from_numpy(TABLE[i]), i % 2

    class Alone(Pairs):
        def __getitem__(self, i):
            return TABLE[i]

    same(read(Pairs()), TABLE, [0, 1, 0, 1])
    same(read(Alone()), TABLE)
    same(
        read(TensorDataset(torch.from_numpy(TABLE), torch.tensor([0, 1, 1, 0]))),
        TABLE,
        [0, 1, 1, 0],
    )


def test_a_data_set_of_one_tensor_has_no_labels():
    """``TensorDataset(x)`` yields tuples of one."""
    same(read(TensorDataset(torch.from_numpy(TABLE))), TABLE)


@pytest.mark.parametrize(
    ("data", "labels", "text"),
    [
        (np.array([[0.0, np.nan], [1, 2]]), None, "NaN or infinite.*sample 0"),
        (np.array([[0.0, 1], [np.inf, 2], [0, 1]]), None, "1 of 3 samples.*sample 1"),
        (np.zeros((0, 3)), None, "at least two"),
        (np.ones((1, 3)), None, "at least two"),
        (np.arange(5.0), None, r"x\[:, None\]"),
        ([["a", "b"], ["c", "d"]], None, "no array of numbers"),
        ([[1, 2], [3]], None, "no array of numbers"),
        (np.array([[1j, 2], [3, 4]]), None, "real and imaginary"),
        (TABLE, [0, 1], r"labels of shape \(2,\).*4 samples"),
        (TABLE, [0, 1, -1, 0], "label -1"),
        (TABLE, [0.5, 1, 0, 0], "whole numbers"),
        (TABLE, [0.0, np.nan, 0, 0], "whole numbers"),
        ("no/such/place", None, "no such file"),
    ],
)
def test_bad_data_is_refused_with_the_reason(data, labels, text):
    with pytest.raises(DataError, match=text):
        read(data, labels)


def test_labels_of_words_are_refused():
    with pytest.raises(DataError, match="labels"):
        read(TABLE, ["cat", "dog", "cat", "dog"])


def test_constant_data_and_empty_places_are_refused(tmp_path):
    with pytest.raises(DataError, match="every value of the data is 3"):
        read(np.full((5, 2), 3.0)).codec(0)
    with pytest.raises(DataError, match="no pictures"):
        read(tmp_path)
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(DataError, match="can read"):
        read(tmp_path / "x.txt")


def test_events_without_elements_are_refused():
    with pytest.raises(DataError):
        read(np.zeros((5, 0))).codec(0)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "pictures"])
def test_damaged_files_are_refused_by_name(tmp_path, name):
    """A truncated file of each kind: `DataError`, not what the reader beneath happens to raise."""
    path = tmp_path / name
    if name == "pictures":
        path.mkdir()
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path / "a.png")
        (path / "a.png").write_bytes((path / "a.png").read_bytes()[:20])
    elif name == "x.csv":
        path.write_bytes(b"\xff\xfe\x00,\x01\n1,2\n")
    else:
        (np.save if name == "x.npy" else np.savez)(path, TABLE)
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=name):
        read(path)


def test_an_array_of_objects_is_refused_without_unpickling(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy"):
        read(tmp_path / "x.npy")


# ---------------------------------------------------------------------------------- codecs, recipes


@pytest.mark.parametrize(
    ("event", "dims", "inside"),
    [
        ((3,), 0, (3,)),
        ((8, 9), 2, (1, 8, 9)),
        ((8, 9, 3), 2, (3, 8, 9)),
        ((3, 8, 9), 2, (3, 8, 9)),
        ((12,), 1, (1, 12)),
        ((2, 12), 1, (2, 12)),
        ((12, 3), 1, (3, 12)),
        ((4, 5, 6), 3, (1, 4, 5, 6)),
    ],
)
def test_codec_puts_channels_first_and_gives_the_layout_back(event, dims, inside):
    x = np.random.default_rng(0).normal(size=(6, *event))
    samples = read(x)
    codec = samples.codec(dims)
    z = codec.encode(samples.x)
    assert tuple(z.shape[1:]) == inside
    torch.testing.assert_close(codec.decode(z), samples.x)
    if dims:
        assert float(z.min()) == pytest.approx(-1, abs=1e-6) and float(z.max()) == pytest.approx(
            1, abs=1e-6
        )
    else:
        torch.testing.assert_close(z.mean(0), torch.zeros(event), rtol=0, atol=1e-6)
        torch.testing.assert_close(z.std(0), torch.ones(event))


def test_whole_numbers_in_pictures_are_levels():
    pixels = np.array([[[0, 16], [3, 8]], [[1, 1], [2, 5]]])
    codec = read(pixels).codec(2)
    assert codec.levels == orn.codecs.Levels(0.0, 1.0, 17)
    assert torch.equal(
        codec.decode(codec.encode(read(pixels).x) + 0.03), torch.tensor(pixels).float()
    )
    assert read(pixels + 0.5).codec(2).levels is None
    assert read(TABLE.round()).codec(0).levels is None


def test_a_constant_column_is_kept():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    codec = read(x).codec(0)
    torch.testing.assert_close(codec.decode(codec.encode(read(x).x)), read(x).x)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((50, 2), "points"),
        ((50, 3), "points"),
        ((50, 13), "table"),
        ((5, 8, 8), "digits"),
        ((5, 1, 16, 16), "digits"),
        ((5, 28, 28), "images"),
        ((5, 3, 32, 32), "images"),
        ((5, 32, 32, 3), "images"),
        ((3, 1, 6, 6, 6), "volumes"),
    ],
)
def test_auto_chooses_by_shape(shape, name):
    assert recipe("auto", read(np.random.default_rng(0).normal(size=shape))) is RECIPES[name]


def test_recipes_that_do_not_exist_or_do_not_fit_are_refused():
    samples = read(TABLE)
    with pytest.raises(UnknownNameError, match="Did you mean 'table'"):
        recipe("tabel", samples)
    with pytest.raises(DataError, match=r"\(3,\).*2 dimensions"):
        recipe("images", samples)
    assert recipe(RECIPES["points"], samples) is RECIPES["points"]
