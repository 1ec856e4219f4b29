"""Published files: lists of keys, names both ways, the golden networks through a file, the commands."""

import numpy as np
import pytest
import torch

from models.actor_critic import ActorCritic, ValueConfig
from models.checkpoints import MEMORY_STAGES, POLICY_STAGES, load_memory, read_checkpoint
from models.conv import ConvConfig
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig
from models.published import __main__ as command
from models.published.conversion import from_published, to_published
from models.published.files import is_published, read_published
from models.published.names import gpt_table, memory_table, to_ours, to_theirs
from models.quantizer import CodebookConfig
from models.stages.base import fingerprint_of_codes, fingerprint_of_memory
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.golden.select_arrays import OUTPUTS
from tests.helpers import SHARED, golden
from tests.models.golden_models import GPT_MUSIC_SMALL, GPT_SMALL, NUM_CODES, tensors
from tests.models.published.files import write
from tests.packing import sample
from utils.training.checkpoints import load_checkpoint

MEMORY_SMALL = MemoryConfig(
    codes_upper=64, codes_lower=64, codebook=CodebookConfig(dim=48), conv=ConvConfig(width=32)
)
WITH_MUSIC = GPTConfig(music_transformer=MusicTransformerConfig())
FULL = {
    "SepVQVAE": memory_table(MemoryConfig(), False),
    "SepVQVAER": memory_table(MemoryConfig(), True),
    "pp_SepVQVAERmix": memory_table(MemoryConfig(), True, True),
    "pp_SepVQVAERmix_acrotmat": memory_table(MemoryConfig(), True, True),
    "CrossCondGPT2": gpt_table(GPTConfig(), (512, 512), 438),
    "CrossCondGPT2AC": gpt_table(GPTConfig(), (512, 512), 438, 3),
    "CrossCondGPT2AC_demo": gpt_table(GPTConfig(), (512, 512), 438, 3),
    "pp_CrossCondGPT2MW": gpt_table(WITH_MUSIC, (512, 512), 440, None, 8),
    "pp_CrossCondGPT2MWAC": gpt_table(WITH_MUSIC, (512, 512), 440, 3, 8),
    "pp_CrossCondGPT2MWAC_rotmat": gpt_table(WITH_MUSIC, (512, 512), 440, 3, 8),
}
SMALL = {
    "vq_small": memory_table(MEMORY_SMALL, False),
    "vqr_small": memory_table(MEMORY_SMALL, True),
    "gpt_small": gpt_table(GPT_SMALL, NUM_CODES, 438),
    "gptac_small": gpt_table(GPT_SMALL, NUM_CODES, 438, 1),
    "pp_gptmw_small": gpt_table(GPT_MUSIC_SMALL, NUM_CODES, 440, None, 8),
    "pp_gptmwac_small": gpt_table(GPT_MUSIC_SMALL, NUM_CODES, 440, 1, 8),
}
HEADS = {"structure": {"base": {"n_head": 6}, "head": {"n_head": 6}}}


@pytest.mark.parametrize("name", FULL)
def test_keys_and_shapes_are_the_published_ones(name):
    listed = golden("published_keys.npz")
    keys, shapes = listed[f"{name}_keys"].tolist(), listed[f"{name}_shapes"].tolist()
    assert [f"module.{key}" for key in FULL[name]] == keys
    assert [" ".join(map(str, entry.shape)) for entry in FULL[name].values()] == shapes
    buffers = {key for key, buffer in zip(keys, listed[f"{name}_buffers"], strict=True) if buffer}
    assert buffers == {f"module.{k}" for k in FULL[name] if k.endswith(("attn.mask", "level_blocks.0.k"))}


@pytest.mark.parametrize("name", SMALL)
def test_the_golden_networks_have_this_form(name):
    stored = tensors(f"{name}_weights.npz")
    assert [(k, tuple(v.shape)) for k, v in stored.items()] == [
        (f"module.{k}", entry.shape) for k, entry in SMALL[name].items()
    ]


def random_state(table):
    """Seeded weights of a table; masks as they are in every published file."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, entry in table.items():
        value = torch.rand(entry.shape, generator=generator)
        state[f"module.{key}"] = entry.mask if key.endswith("mask") else value
    return state


def same(a, b):
    assert list(a) == list(b)
    for key, value in a.items():
        assert value.dtype == b[key].dtype
        assert torch.equal(value, b[key]), key


@pytest.mark.parametrize(
    "name", ["SepVQVAER", "pp_SepVQVAERmix", "CrossCondGPT2AC", "pp_CrossCondGPT2MWAC", *SMALL]
)
def test_there_and_back_is_bit_exact(name):
    """Also into the modules, whose state dict is exactly what the names give."""
    table = (FULL | SMALL)[name]
    state = random_state(table) if name in FULL else tensors(f"{name}_weights.npz")
    memory = "vqvae_up" in next(iter(table))
    ours = to_ours(table, {key.removeprefix("module."): value for key, value in state.items()})
    same(to_theirs(table, ours), state)
    if name in FULL:
        with torch.device("meta"):
            if memory:
                module = ChoreographicMemory(MemoryConfig(), True, rotations=name == "pp_SepVQVAERmix")
            else:
                sizes = (WITH_MUSIC, (512, 512), 440, 8) if "MW" in name else (GPTConfig(), (512, 512), 438)
                module = ActorCritic(MotionGPT(*sizes), ValueConfig())
        assert {k: v.shape for k, v in module.state_dict().items()} == {k: v.shape for k, v in ours.items()}
    if memory:
        for half in ("upper", "lower"):
            assert torch.equal(ours[f"{half}.quantizer.ema_sum"], ours[f"{half}.quantizer.codebook"])
            assert bool((ours[f"{half}.quantizer.ema_count"] == 1).all())
            assert bool(ours[f"{half}.quantizer.initialised"])


@pytest.fixture(params=[True, False], ids=["zip", "old"])
def file(request, tmp_path):
    """A maker of published files of a golden network, in both of torch's formats."""

    def make(name):
        return write(
            tmp_path / f"{name}.pt", tensors(f"{name}_weights.npz"), HEADS, zipped=request.param, epoch=7
        )

    return make


@pytest.mark.parametrize("name", ["vq_small", "vqr_small"])
def test_golden_memory_through_a_file(name, file):
    path, g = file(name), golden(f"{name}_eval.npz")
    assert is_published(path)
    content = read_checkpoint(path, "", MEMORY_STAGES)
    assert content["stage"] == ("sep_vqvae" if name == "vq_small" else "sep_vqvae_root")
    assert (content["epoch"], content["config"]) == (7, HEADS)
    memory = ChoreographicMemory.from_architecture(content["architecture"]).eval()
    memory.load_state_dict(content["model"])
    with torch.no_grad():
        codes = memory.encode(torch.from_numpy(g["x"]))
        np.testing.assert_array_equal(codes.upper, g["codes_up"])
        np.testing.assert_array_equal(codes.lower, g["codes_down"])
        decoded = sample(memory.decode(codes).numpy(), OUTPUTS)
        np.testing.assert_allclose(decoded, g["decode_sample"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["gpt_small", "gptac_small", "pp_gptmw_small", "pp_gptmwac_small"])
def test_golden_gpt_through_a_file(name, file):
    path, g, by_frame = file(name), golden(f"{name}_vectors.npz"), name.startswith("pp_")
    content = read_checkpoint(path, "", POLICY_STAGES)
    assert content["architecture"]["music"] == ("frames" if by_frame else "compat")
    assert content["architecture"]["gpt"]["heads"] == 6
    kind = ActorCritic if name.endswith("ac_small") else MotionGPT
    assert content["stage"] == ("actor_critic" if kind is ActorCritic else "motion_gpt")
    model = kind.from_architecture(content["architecture"]).eval()
    model.load_state_dict(content["model"])
    gpt = model.gpt if isinstance(model, ActorCritic) else model

    def steps(key):
        return torch.from_numpy(g[key]).unflatten(1, (-1, 8 if by_frame else 1)).flatten(2)

    music = steps("music")
    codes = Codes(torch.from_numpy(g["idx_up"]), torch.from_numpy(g["idx_down"]))
    with torch.no_grad():
        features = gpt.base(music if gpt.music is None else gpt.music(music), codes)
        np.testing.assert_allclose(gpt.head(features).upper, g["logits_up"], rtol=0, atol=5e-5)
        if isinstance(model, ActorCritic):
            np.testing.assert_allclose(model.values(features), g["critic_values"][..., 0], rtol=0, atol=5e-5)
    song = steps("s_cond")
    song = torch.cat([song[:, :1] * 0, song], dim=1)  # the published call is given the music from step 1 on
    first = zip(torch.from_numpy(g["s_x0_up"]), torch.from_numpy(g["s_x0_down"]), strict=True)
    prompts = [Prompt(music, Codes(*pair)) for music, pair in zip(song, first, strict=True)]
    made = generate(gpt, prompts, GenerationConfig(), torch.device("cpu"))
    np.testing.assert_array_equal(torch.stack([dance.upper for dance in made]), g["s_codes_up"])
    np.testing.assert_array_equal(torch.stack([dance.lower for dance in made]), g["s_codes_down"])


@pytest.mark.parametrize("name", ["vq_small", "gptac_small", "pp_gptmwac_small"])
def test_convert_and_back(name, file, tmp_path, capsys):
    theirs, ours, back, again = (
        file(name),
        tmp_path / "ours.pt",
        tmp_path / "a/back.pt",
        tmp_path / "again.pt",
    )
    assert command.main(["import", str(theirs), str(ours)]) == 0
    assert not is_published(ours)
    content = load_checkpoint(ours, "")
    assert content["stage"] == ("sep_vqvae" if name == "vq_small" else "actor_critic")
    assert command.main(["export", str(ours), str(back)]) == 0
    assert "back.pt" in capsys.readouterr().out
    same(torch.load(back, weights_only=True)["model"], tensors(f"{name}_weights.npz"))
    assert command.main(["import", str(back), str(again)]) == 0
    second = load_checkpoint(again, "")
    assert second["architecture"] == content["architecture"]
    assert second["epoch"] == 7
    same(second["model"], content["model"])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [theirs.name, "ours.pt", "back.pt", "again.pt"]
    )


def test_back_keeps_the_feature_version(tmp_path):
    """A published file says nothing of features and means compat; ours of another version says so."""
    table = gpt_table(GPTConfig(width=8, heads=2, base_blocks=1, head_blocks=1), (5, 4), 6)
    path = write(tmp_path / "gpt.pt", random_state(table), {"n_head": 2})
    content = from_published(read_published(path))
    assert content["architecture"]["music"] == "compat"
    content["architecture"]["music"] = "standard"
    torch.save(to_published(content, "ours"), path)
    again = from_published(read_published(path))
    assert again["architecture"] == content["architecture"]


def variant(growth, **settings):
    """A memory of other sizes than the published ones, and the config that its published file has."""
    torch.manual_seed(0)
    conv = ConvConfig(width=8, downsamplings=2, depth=2, dilation_growth=growth)
    memory = ChoreographicMemory(
        MemoryConfig(codes_upper=7, codes_lower=5, codebook=CodebookConfig(dim=4), conv=conv), velocity=True
    ).eval()
    for half in memory.halves.values():
        half.quantizer.codebook.normal_()
    half = {"dilation_growth_rate": growth, "depth": 2, "width": 8, "m_conv": 1.0, **settings}
    return memory, {"structure": {"up_half": half, "down_half": {**half}}}


def published_state(memory):
    return to_theirs(memory_table(memory.config, True), memory.state_dict())


@pytest.mark.parametrize("growth", [2, 3])
def test_settings_that_no_shape_shows_are_read_from_the_config(tmp_path, growth):
    memory, config = variant(growth, vqvae_reverse_decoder_dilation=True, use_bottleneck=True)
    path = write(tmp_path / "variant.pt", published_state(memory), config)
    content = read_checkpoint(path, "", MEMORY_STAGES)
    found = ChoreographicMemory.from_architecture(content["architecture"], "variant").eval()
    found.load_state_dict(content["model"], strict=True)
    assert found.config.conv == memory.config.conv
    codes = Codes(torch.randint(7, (1, 9)), torch.randint(5, (1, 9)))
    torch.testing.assert_close(found.decode(codes), memory.decode(codes), rtol=0, atol=0)
    again = to_published(content, "variant")
    assert again["config"]["structure"]["up_half"]["dilation_growth_rate"] == growth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vqvae_reverse_decoder_dilation": False}, "vqvae_reverse_decoder_dilation is False in its config"),
        ({"use_bottleneck": False}, "use_bottleneck is False in its config, this project builds True only"),
        ({"depth": 3}, "depth is 3 in its config, its tensors show 2 only"),
        ({"m_conv": 0.5}, "m_conv is 0.5 in its config, its tensors show 1.0 only"),
        ({"dilation_growth_rate": 0}, "its dilation_growth_rate is 0"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(tmp_path, settings, message):
    memory, config = variant(3, **settings)
    path = write(tmp_path / "variant.pt", published_state(memory), config)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path, "", MEMORY_STAGES)


def test_halves_with_different_settings_are_refused(tmp_path):
    memory, config = variant(3)
    config["structure"]["down_half"]["dilation_growth_rate"] = 2
    path = write(tmp_path / "variant.pt", published_state(memory), config)
    with pytest.raises(ValueError, match="dilation_growth_rate differs between parts of its config"):
        read_checkpoint(path, "", MEMORY_STAGES)


def test_the_golden_memory_of_other_sizes(tmp_path):
    folder = SHARED / "golden"
    if not (folder / "variant_vqr.npz").is_file():
        pytest.skip("the golden memory of other sizes (variant_vqr) is not here")
    with np.load(folder / "variant_vqr_weights.npz") as file:
        state = {key: torch.from_numpy(value) for key, value in file.items()}
    with np.load(folder / "variant_vqr.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in ("x", "codes_up", "codes_down", "decode")}
    half = {"dilation_growth_rate": 2, "depth": 2}
    path = write(tmp_path / "variant.pt", state, {"structure": {"up_half": half, "down_half": {**half}}})
    content = read_checkpoint(path, "", MEMORY_STAGES)
    memory = ChoreographicMemory.from_architecture(content["architecture"], "variant").eval()
    memory.load_state_dict(content["model"], strict=True)
    with torch.no_grad():
        codes = memory.encode(arrays["x"])
        pose = memory.decode(Codes(arrays["codes_up"], arrays["codes_down"]))
    assert torch.equal(codes.upper, arrays["codes_up"])
    assert torch.equal(codes.lower, arrays["codes_down"])
    torch.testing.assert_close(pose, arrays["decode"], rtol=1e-5, atol=1e-5)


def test_a_memory_there_and_back_has_the_same_codes(tmp_path):
    """Its moving averages are not kept, and a GPT of its codes is still one of its codes."""
    memory = ChoreographicMemory(MEMORY_SMALL, velocity=True)
    for half in memory.halves.values():
        half.quantizer.codebook.normal_()
        half.quantizer.ema_sum.normal_()
    content = {"stage": "sep_vqvae_root", "architecture": memory.architecture(), "model": memory.state_dict()}
    made = to_published({**content, "config": {}, "epoch": 1}, "memory")
    path = write(tmp_path / "memory.pt", made["model"], made["config"])
    again = load_memory(path, "", velocity=True)
    assert fingerprint_of_memory(again) != fingerprint_of_memory(memory)
    assert fingerprint_of_codes(again) == fingerprint_of_codes(memory)
    again.lower.quantizer.codebook[3] += 1
    assert fingerprint_of_codes(again) != fingerprint_of_codes(memory)
