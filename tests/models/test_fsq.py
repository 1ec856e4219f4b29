"""Finite scalar quantization: the properties its paper states, and a memory that is built on it."""

import itertools

import pytest
import torch

from models.conv import ConvConfig
from models.fsq import FSQ, FSQConfig, from_indices, to_indices, to_levels, whitened
from models.quantizer import CodebookConfig
from models.stages.memory_losses import MotionLossConfig, memory_loss
from models.vqvae import ChoreographicMemory, MemoryConfig
from utils.config import check

GRIDS = [(5,), (2,), (8, 5, 5, 5), (3, 4), (2, 3, 7)]


def memory(**more):
    torch.manual_seed(0)
    settings = {
        "quantizer": "fsq",
        "codebook": CodebookConfig(dim=12),
        "fsq": FSQConfig(levels_upper=(4, 3), levels_lower=(5, 3)),
        "conv": ConvConfig(width=8, depth=1),
    }
    return ChoreographicMemory(MemoryConfig(**{**settings, **more}), velocity=True)


@pytest.mark.parametrize("grid", GRIDS)
def test_levels_are_even_steps_and_all_are_reached(grid):
    """Each dimension takes exactly its L values, evenly from -1 to 1, and all combinations of them occur."""
    levels = torch.tensor(grid)
    line = torch.linspace(-6, 6, 4001)
    for dimension, count in enumerate(grid):
        z = torch.zeros(len(line), len(grid))
        z[:, dimension] = line
        values = to_levels(z, levels)[:, dimension]
        torch.testing.assert_close(values.unique(), torch.linspace(-1, 1, count))
        assert (values.diff() >= 0).all()  # a larger number never gets a lower level
    middles = [torch.atanh(torch.linspace(-1, 1, count) * 0.999) for count in grid]
    z = torch.tensor(list(itertools.product(*(m.tolist() for m in middles))))
    assert sorted(to_indices(to_levels(z, levels), levels).tolist()) == list(range(levels.prod()))


def test_an_odd_number_of_levels_is_the_paper_s():
    """round(floor(L / 2) tanh(z)), scaled to -1..1; 0 is a level."""
    z = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_levels(z, torch.tensor([7])), torch.round(3 * torch.tanh(z)) / 3)
    assert to_levels(torch.zeros(1, 1), torch.tensor([7])) == 0
    assert to_levels(torch.full((1, 1), 0.01), torch.tensor([2])) == 1  # even: 0 lies between two levels


def test_extremes_stay_inside():
    z = torch.tensor([[-1e30, 1e30], [float("-inf"), float("inf")]])
    assert to_indices(to_levels(z, torch.tensor([4, 5])), torch.tensor([4, 5])).tolist() == [16, 16]


@pytest.mark.parametrize("grid", GRIDS)
def test_codes_and_places_are_each_other_s_inverse(grid):
    levels = torch.tensor(grid)
    codes = torch.arange(levels.prod())
    places = from_indices(codes, levels)
    assert places.abs().max() == 1
    assert len(places.unique(dim=0)) == len(codes)
    assert torch.equal(to_indices(places, levels), codes)
    assert torch.equal(to_indices(places.double(), levels), codes)


def test_gradients_go_straight_through_rounding():
    """The gradient is that of the bound alone, 1 - tanh², as if nothing were rounded."""
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    to_levels(z, torch.tensor([8, 5, 2])).sum().backward()
    torch.testing.assert_close(z.grad, 1 - torch.tanh(z.detach()).square())


def test_what_goes_forward_is_what_is_looked_up():
    book = FSQ((4, 3, 5), 12).eval()
    latents = 30 * torch.randn(2, 12, 9, generator=torch.Generator().manual_seed(0))
    quantized = book(latents)
    assert book.num_codes == 60
    assert torch.equal(quantized.indices, book.encode(latents))
    torch.testing.assert_close(quantized.latents, book.decode(quantized.indices))
    assert quantized.commitment == 0
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book.eval()(latents)
    assert all(torch.equal(before[name], value) for name, value in book.state_dict().items())


def test_latents_are_standardised():
    """Latents that hardly differ, far from 0, still spread over the grid; moving averages follow them."""
    book = FSQ((5, 5, 5), 12).train()
    latents = 0.7 + 1e-2 * torch.randn(4, 12, 50, generator=torch.Generator().manual_seed(0))
    assert len(book(latents).indices.unique()) > 60
    for _ in range(500):
        codes = book(latents).indices
    assert (book.eval()(latents).indices == codes).float().mean() > 0.98


def test_latents_that_move_together_still_fill_the_grid():
    """All numbers of a latent follow one: whitened, what is left of the others reaches their levels too."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(4, 1, 100, generator=generator).expand(-1, 12, -1)
    latents = common + 0.1 * torch.randn(4, 12, 100, generator=generator)
    assert len(FSQ((5, 5, 5), 12).train()(latents).indices.unique()) > 60
    z = torch.randn(1000, 3, generator=generator) @ torch.tensor([[3.0, 0, 0], [2.9, 0.5, 0], [-3, 0.1, 0.9]])
    white = whitened(z - z.mean(0), z.T.cov(correction=0))
    torch.testing.assert_close(white.T.cov(correction=0), torch.eye(3), atol=0.05, rtol=0)


def test_codes_do_not_depend_on_autocast():
    book = FSQ((8, 8, 8), 12).eval()
    latents = 30 * torch.randn(2, 12, 50, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(book.encode(latents), book(latents).indices)
        inside = book.encode(latents)
    assert torch.equal(inside, book.encode(latents))


def test_the_memory_around_it():
    """Encodes, decodes, is built again from its architecture; its numbers of codes are the products."""
    fsq, pose = memory(), torch.randn(2, 64, 72)
    assert fsq.num_codes == (12, 15)
    codes = fsq.eval().encode(pose)
    assert codes.upper.shape == codes.lower.shape == (2, 8)
    assert fsq.decode(codes).shape == pose.shape
    torch.testing.assert_close(fsq.decode(codes)[..., 3:], fsq(pose).pose[..., 3:])
    again = ChoreographicMemory.from_architecture(fsq.architecture())
    again.load_state_dict(fsq.state_dict())
    assert torch.equal(again.eval().decode(codes), fsq.decode(codes))


def test_every_parameter_learns():
    fsq, pose = memory(), torch.randn(2, 64, 72)
    loss, logs = memory_loss(fsq.train()(pose), pose, fsq, MotionLossConfig())
    loss.backward()
    assert logs["commitment_upper"] == 0
    for name, parameter in fsq.named_parameters():
        assert name.startswith("velocity.") or parameter.grad.abs().max() > 0, name


def test_other_levels_of_the_same_product_are_refused():
    other = memory(fsq=FSQConfig(levels_upper=(3, 4), levels_lower=(5, 3)))
    assert other.num_codes == memory().num_codes
    with pytest.raises(ValueError, match=r"upper\.quantizer\.levels are \[4, 3\], the config's \[3, 4\]"):
        other.load_state_dict(memory().state_dict())


@pytest.mark.parametrize("levels", [[], [5, 1], [2.5]])
def test_bad_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels_upper"):
        check(FSQConfig, {"levels_upper": levels}, "test")


@pytest.mark.parametrize("quantizer", ["ema", "fsq"])
def test_one_codebook_for_the_whole_body(quantizer):
    """All joints through one VQ-VAE: what it learns from, its losses and its codes have one half."""
    whole, pose = memory(halves="whole", quantizer=quantizer, codes_lower=15), torch.randn(2, 64, 72)
    assert list(whole.halves) == ["whole"]
    assert whole.num_codes == (15, 15)
    reconstruction = whole.train()(pose)
    loss, logs = memory_loss(reconstruction, pose, whole, MotionLossConfig())
    target = torch.cat([torch.zeros(2, 64, 3), pose[..., 3:]], -1)
    torch.testing.assert_close(logs["reconstruction_whole"], (reconstruction.pose - target).abs().mean())
    assert not any(name.endswith(("_upper", "_lower")) for name in logs)
    loss.backward()
    codes = whole.eval().encode(pose)
    assert torch.equal(codes.upper, codes.lower)
    torch.testing.assert_close(whole.decode(codes)[..., 3:], whole(pose).pose[..., 3:])
    assert torch.equal(whole.decode(codes._replace(upper=codes.upper * 0)), whole.decode(codes))
    again = ChoreographicMemory.from_architecture(whole.architecture())
    again.load_state_dict(whole.state_dict())
    assert torch.equal(again.eval().encode(pose).lower, codes.lower)
