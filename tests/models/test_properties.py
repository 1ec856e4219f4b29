"""What must hold at any size: causality, straight-through gradients, restarts, sizes from the config."""

import pytest
import torch

from models.actor_critic import ActorCritic, ValueConfig
from models.conv import ConvConfig, Decoder
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import GPTConfig, MotionGPT
from models.quantizer import CodebookConfig, EMAQuantizer
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig


def tiny_gpt(context=9, **more):
    torch.manual_seed(0)
    return MotionGPT(
        GPTConfig(width=16, heads=2, base_blocks=1, head_blocks=2, context=context, **more), (7, 5), 6
    ).eval()


def random_codes(batch, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Codes(*(torch.randint(k, (batch, length), generator=generator) for k in (7, 5)))


@pytest.mark.parametrize(
    ("downsamplings", "depth", "growth", "width", "hidden", "upper", "lower"),
    [(1, 1, 1, 8, 1.0, 5, 9), (2, 2, 2, 6, 0.5, 16, 3), (4, 3, 3, 4, 2.0, 4, 4)],
)
def test_memory_sizes_follow_the_config(downsamplings, depth, growth, width, hidden, upper, lower):
    conv = ConvConfig(
        downsamplings=downsamplings,
        depth=depth,
        dilation_growth=growth,
        width=width,
        hidden_multiplier=hidden,
    )
    config = MemoryConfig(codes_upper=upper, codes_lower=lower, codebook=CodebookConfig(dim=10), conv=conv)
    memory = ChoreographicMemory(config, velocity=True)
    pose = torch.randn(2, 64, 72)
    memory.train()(pose)  # initialises the codebooks
    codes = memory.eval().encode(pose)
    assert codes.upper.shape == (2, 64 // 2**downsamplings)
    assert codes.upper.max() < upper
    assert codes.lower.max() < lower
    assert memory.decode(codes).shape == pose.shape
    again = ChoreographicMemory.from_architecture(memory.architecture())
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.eval().decode(codes), memory.decode(codes))
    dilations = [block.layers[1].dilation[0] for block in memory.upper.encoder.stages[0][1]]
    assert dilations == [growth**d for d in range(depth)]
    assert [b.layers[1].dilation[0] for b in memory.upper.decoder.stages[0][0]] == dilations[::-1]


def test_published_sizes():
    """Parameters and codes of the published full-size networks."""
    with torch.device("meta"):
        memory = ChoreographicMemory(MemoryConfig(), velocity=True)
        gpt = MotionGPT(GPTConfig(), (512, 512), 438)
        critic = ActorCritic(gpt, ValueConfig())

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(memory) == 65_068_619
    assert count(memory) - count(memory.velocity) == 51_683_400
    assert count(memory.upper) == 25_873_965
    assert count(gpt) == 87_032_832
    assert (count(gpt.base), count(gpt.head)) == (43_717_632, 43_315_200)
    assert count(critic) == 108_299_520


def test_decoders_give_fp32_whatever_the_precision():
    """bf16 of a velocity of millimetres would be summed up over a song: the last layer is exact."""
    torch.manual_seed(0)
    decoder = Decoder(3, 16, ConvConfig(width=16)).train()
    hidden = []
    decoder.out.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
    for channels_last in (False, True):
        decoder.channels_last = channels_last
        with torch.autocast("cpu", torch.bfloat16):
            made = decoder(torch.randn(2, 16, 5))
        assert decoder.first.weight.dtype == made.dtype == torch.float32
        expected = decoder.out(hidden.pop())
        assert torch.equal(made, expected.squeeze(2) if channels_last else expected)
        expected.sum().backward()
        assert decoder.first.weight.grad is not None
    assert not torch.equal(made, made.bfloat16().float())


def test_root_slot_is_ignored():
    memory = ChoreographicMemory(MemoryConfig(codes_upper=8, codes_lower=8, conv=ConvConfig(width=8)))
    pose = torch.randn(1, 32, 72)
    moved = pose.clone()
    moved[..., :3] += 5
    memory.train()(pose)
    memory.eval()
    assert all(torch.equal(a, b) for a, b in zip(memory.encode(pose), memory.encode(moved), strict=True))


@pytest.mark.parametrize("shape", [(4, 240), (1, 240, 70), (1, 7, 72)])
def test_memory_refuses_wrong_poses(shape):
    memory = ChoreographicMemory(MemoryConfig(conv=ConvConfig(width=4)))
    with pytest.raises(ValueError, match="pose"):
        memory.encode(torch.zeros(shape))


def codebook(num_codes=4, dim=3, **more):
    book = EMAQuantizer(num_codes, CodebookConfig(dim=dim, **more)).train()
    return book


def test_straight_through_gradient_is_one():
    book = codebook()
    latents = torch.randn(2, 3, 5, requires_grad=True)
    book(latents).latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_commitment_pulls_latents_to_their_codes():
    book = codebook().eval()
    book.codebook.copy_(torch.eye(4, 3))
    latents = torch.tensor([0.9, 0.2, 0.0]).view(1, 3, 1).requires_grad_(True)
    quantized = book(latents)
    assert quantized.indices.item() == 0
    quantized.commitment.backward()
    torch.testing.assert_close(latents.grad.flatten(), 2 / 3 * torch.tensor([-0.1, 0.2, 0.0]))


def test_eval_mode_learns_nothing():
    book = codebook()
    book(torch.randn(1, 3, 8))
    before = {k: v.clone() for k, v in book.state_dict().items()}
    book.eval()(torch.randn(1, 3, 8))
    assert all(torch.equal(before[k], v) for k, v in book.state_dict().items())


def test_restarts():
    """A dead code jumps onto a latent; as published it keeps its old sum and jumps again, reset it stays."""
    latents = torch.randn(1, 3, 50, generator=torch.Generator().manual_seed(0)) * 0.01
    for restarts, jumps_again in (("published", True), ("reset", False)):
        torch.manual_seed(1)
        book = codebook(num_codes=2, restarts=restarts)
        book.codebook.copy_(torch.tensor([[0.0, 0, 0], [100.0, 100, 100]]))
        book.restore()
        book.ema_count.fill_(1.0)
        book(latents)
        first = book.codebook[1].clone()
        assert int(book.restarted) == 1
        assert (latents[0].T - first).norm(dim=1).min() < 1e-6
        assert (book.ema_count[1] == 1.0) == (restarts == "reset")
        book.codebook[1] = first + 100  # far from every latent again
        if restarts == "reset":
            book.ema_sum[1] = book.codebook[1] * book.ema_count[1]
            book.ema_count[1] = 1.2
            book.ema_sum[1] = book.codebook[1] * 1.2
        book(latents)
        assert (int(book.restarted) == 1) == jumps_again


@pytest.mark.parametrize("stream", ["music", "upper", "lower"])
def test_the_future_cannot_be_seen(stream):
    gpt, codes, music = tiny_gpt(), random_codes(1, 9), torch.randn(1, 9, 6)
    before = gpt(music, codes)
    music2, codes2 = music.clone(), Codes(codes.upper.clone(), codes.lower.clone())
    if stream == "music":
        music2[:, 6:] += 1
    else:
        half = getattr(codes2, stream)
        half[:, 6:] = (half[:, 6:] + 1) % 5
    after = gpt(music2, codes2)
    for half in ("upper", "lower"):
        assert torch.equal(getattr(before, half)[:, :6], getattr(after, half)[:, :6])
        assert not torch.allclose(getattr(before, half)[:, 6:], getattr(after, half)[:, 6:])


def test_each_half_sees_the_other():
    gpt, codes, music = tiny_gpt(), random_codes(1, 9), torch.randn(1, 9, 6)
    other = Codes(codes.upper, (codes.lower + 1) % 5)
    assert not torch.allclose(gpt(music, codes).upper[:, 0], gpt(music, other).upper[:, 0])


def test_drawing_codes():
    gpt, device = tiny_gpt(), torch.device("cpu")
    first = Codes(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    prompts = [Prompt(torch.randn(40, 6), first, key) for key in "ab"]

    def upper(**how):
        return torch.stack([dance.upper for dance in generate(gpt, prompts, GenerationConfig(**how), device)])

    drawn = upper(temperature=1.0, seed=1)
    assert torch.equal(drawn, upper(temperature=1.0, seed=1))
    assert not torch.equal(drawn, upper(temperature=1.0, seed=2))
    assert torch.equal(upper(), upper(temperature=1.0, top_k=1))


@pytest.mark.parametrize(
    ("how", "channels", "message"),
    [
        ({"window_codes": 10}, 6, "does not fit the GPT's context of 9"),
        ({"window": "hop", "window_codes": 4, "hop": 5}, 6, "must not exceed the window"),
        ({}, 7, r"must be \(N, 6\)"),
    ],
)
def test_generation_refuses(how, channels, message):
    first = Codes(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    prompts = [Prompt(torch.zeros(5, channels), first)]
    with pytest.raises(ValueError, match=message):
        generate(tiny_gpt(), prompts, GenerationConfig(**how), torch.device("cpu"))


def test_nothing_drops_out_in_actor_critic():
    model = ActorCritic(tiny_gpt(dropout=0.5), ValueConfig(blocks=1)).train()
    features = torch.randn(2, 9, 16)
    assert torch.equal(model(features, "values"), model(features, "values"))
    assert not any(p.requires_grad for p in model.gpt.base.parameters())
