"""Networks: zero at the start, conditioned, rebuilt from their configuration, and alive in every
parameter."""

import pytest
import torch
from torch import nn

import ornstein as orn
from ornstein.errors import OrnsteinError
from ornstein.nets.layers import Fourier
from ornstein.nets.unet import SelfAttention

pytestmark = pytest.mark.usefixtures("seeded_weights")

NETS = {
    "MLP": (lambda: orn.MLP(5, width=16, depth=2, labels=4), (5,)),
    "MLP of pictures": (lambda: orn.MLP((2, 3), width=16, depth=1, labels=4), (2, 3)),
    "UNet 1-d": (
        lambda: orn.UNet(2, width=8, multipliers=(1, 2), blocks=1, labels=4, heads=2, dims=1),
        (2, 9),
    ),
    "UNet 2-d": (
        lambda: orn.UNet(1, width=8, multipliers=(1, 2, 2), blocks=1, attention=(0, 2), labels=4),
        (1, 7, 11),
    ),
    "UNet 3-d": (
        lambda: orn.UNet(1, width=4, multipliers=(1, 2), blocks=1, heads=2, labels=4, dims=3),
        (1, 3, 4, 5),
    ),
}


def perturbed(net, std=0.3):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def inputs(event, b=3):
    label = torch.tensor([3, 0, 2])[:b]
    return orn.Noise(2).normal((b, *event)), torch.tensor([-0.7, 0.1, 1.2])[:b], {"label": label}


@pytest.mark.parametrize("name", NETS)
def test_output_is_zero_at_the_start(name):
    make, event = NETS[name]
    x, c, cond = inputs(event)
    assert torch.equal(make()(x, c, cond), torch.zeros_like(x))


@pytest.mark.parametrize("name", NETS)
def test_every_input_changes_the_output(name):
    """Sample, noise level and label; samples do not see each other."""
    make, event = NETS[name]
    net, (x, c, cond) = perturbed(make()), inputs(event)
    y = net(x, c, cond)
    for other in (
        net(x + 0.5, c, cond),
        net(x, c + 0.5, cond),
        net(x, c, {"label": torch.tensor([1, 1, 1])}),
    ):
        assert bool(((other - y).flatten(1).abs().amax(1) > 1e-3).all())
    changed = x.clone()
    changed[1] += 1
    torch.testing.assert_close(net(changed, c, cond)[[0, 2]], y[[0, 2]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_no_label_is_the_null_class(name):
    make, event = NETS[name]
    net, (x, c, _) = perturbed(make()), inputs(event)
    null = {"label": torch.full((3,), net.config["labels"])}
    for missing in (None, {}):
        torch.testing.assert_close(net(x, c, missing), net(x, c, null), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETS)
def test_one_noise_level_for_the_batch_is_the_same_level_for_each(name):
    make, event = NETS[name]
    net, (x, _, cond) = perturbed(make()), inputs(event)
    one = torch.tensor([0.4])
    for condition in (cond, None):
        torch.testing.assert_close(
            net(x, one, condition), net(x, one.expand(3), condition), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", NETS)
def test_configuration_and_weights_rebuild_the_network(name):
    make, event = NETS[name]
    net, (x, c, cond) = perturbed(make()), inputs(event)
    again = type(net)(**net.config).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, c, cond), net(x, c, cond)) and again.config == net.config


@pytest.mark.parametrize("name", NETS)
def test_gradient_reaches_every_parameter(name):
    """A row of the label table that no sample asks for is the only thing that may stay without."""
    make, event = NETS[name]
    net, (x, c, cond) = perturbed(make()), inputs(event)
    (net(x, c, cond).square().sum() + net(x, c).square().sum()).backward()
    dead = [
        n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)
    ]
    assert dead == []
    rows = net.embedding.inputs[0].table.weight.grad.abs().amax(1) > 0
    assert rows.tolist() == [True, False, True, True, True]


@pytest.mark.parametrize("size", [(2,), (3,), (4, 5), (8, 3), (13, 6), (2, 3, 5)])
def test_unet_takes_any_size_from_two_to_the_levels_less_one(size):
    """One pixel in a corner reaches the opposite corner: no position is dropped when odd sizes are
    halved."""
    net = perturbed(orn.UNet(1, width=8, multipliers=(1, 2), blocks=1, dims=len(size)))
    x = orn.Noise(0).normal((1, 1, *size))
    y = x.clone()
    y[(0, 0, *[0] * len(size))] += 3
    change = (net(y, torch.zeros(1)) - net(x, torch.zeros(1))).abs()
    assert change.shape == x.shape and float(change.min()) > 1e-6


def test_unet_of_one_level_commutes_with_cyclic_shifts():
    """Convolutions (made cyclic), group norms and attention without positions know no origin."""
    net = perturbed(orn.UNet(1, width=8, multipliers=(1,), blocks=1, attention=(0,), dims=1))
    for module in net.modules():
        if isinstance(module, nn.Conv1d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [module.padding[0]] * 2
    x, c = orn.Noise(1).normal((1, 1, 12)), torch.zeros(1)
    torch.testing.assert_close(net(x.roll(3, 2), c), net(x, c).roll(3, 2), rtol=1e-4, atol=1e-4)


def test_fourier_features_are_cosines_and_sines_of_log_spaced_frequencies():
    c = torch.tensor([-1.3, 0.0, 2.0])
    frequency = torch.tensor([0.25 * 2 ** (6 * k / 3) for k in range(4)])
    expected = 2**0.5 * torch.cat(
        [(c[:, None] * frequency).cos(), (c[:, None] * frequency).sin()], 1
    )
    torch.testing.assert_close(Fourier(8)(c), expected)


def test_attention_is_softmax_attention():
    """The attention block against its formula, written out for one head at a time."""
    block = perturbed(SelfAttention(8, 2))
    x = orn.Noise(3).normal((2, 8, 3, 2))
    h = block.norm(x).flatten(2).transpose(1, 2)
    q, k, v = block.qkv(h).split(8, 2)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weight = (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(-1)
        heads.append(weight @ v[..., part])
    expected = x + block.leave(torch.cat(heads, 2)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_wrong_shapes_and_names_are_refused_with_what_fits():
    c = torch.zeros(1)
    with pytest.raises(OrnsteinError, match=r"events of shape \(5,\), got \(4,\)"):
        orn.MLP(5, 8, 1)(torch.zeros(2, 4), c)
    with pytest.raises(OrnsteinError, match=r"3 channels and 2 dimensions.*\(1, 8, 8\)"):
        orn.UNet(3, 8, heads=2)(torch.zeros(2, 1, 8, 8), c)
    with pytest.raises(OrnsteinError, match="2 dimensions"):
        orn.UNet(3, 8, heads=2)(torch.zeros(2, 3, 8), c)
    with pytest.raises(OrnsteinError, match=r"\['colour'\].*\['label'\]"):
        orn.MLP(2, 8, 1, labels=2)(torch.zeros(2, 2), c, {"colour": torch.zeros(2)})
    with pytest.raises(OrnsteinError, match=r"\['label'\].*no conditions"):
        orn.MLP(2, 8, 1)(torch.zeros(2, 2), c, {"label": torch.zeros(2).long()})
    with pytest.raises(OrnsteinError, match="dims=4"):
        orn.UNet(1, dims=4)
    with pytest.raises(OrnsteinError, match="multiple of the heads"):
        orn.UNet(1, width=6, heads=4)
