"""`model.embed: codebook`: codes enter the GPT as their codebook vectors, which stay the memory's."""

import pytest
import torch

import main
from models.checkpoints import load_memory, load_policy
from models.generation import GenerationConfig, Prompt, generate, generate_naively
from models.gpt import CodebookEmbedding, GPTConfig, MotionGPT
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.models.stages import tiny
from utils.training.checkpoints import load_checkpoint

CODES, DIM = (31, 23), 7
SIZES = {"width": 32, "heads": 4, "base_blocks": 2, "head_blocks": 2, "context": 9}


def gpt_of(embed="codebook"):
    """Large weights, so that logits depend on every code."""
    torch.manual_seed(0)
    gpt = MotionGPT(GPTConfig(**SIZES, embed=embed), CODES, 6, code_dim=DIM)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    if embed == "codebook":
        gpt.base.set_codebooks(*(3 + 5 * torch.randn(number, DIM) for number in CODES))
    return gpt.eval()


def random_input(batch, steps):
    codes = Codes(*(torch.randint(size, (batch, steps)) for size in CODES))
    return torch.randn(batch, steps, 6), codes


@torch.no_grad()
def test_tokens_equal_those_computed_by_hand():
    torch.manual_seed(1)
    codebook = [[3.0, 1.0], [1.0, 1.0], [2.0, 7.0]]  # mean (2, 3); squared distances 5, 5 and 16
    embedding = CodebookEmbedding(3, 2, 4)
    embedding.set_codebook(torch.tensor(codebook))
    scale = (26 / 3) ** 0.5
    weight, bias = embedding.linear.weight.tolist(), embedding.linear.bias.tolist()
    tokens = embedding(torch.tensor([[2, 0]]))[0].tolist()
    for token, (x, y) in zip(tokens, (codebook[2], codebook[0]), strict=True):
        by_hand = [
            w[0] * (x - 2) / scale + w[1] * (y - 3) / scale + b for w, b in zip(weight, bias, strict=True)
        ]
        assert token == pytest.approx(by_hand, abs=1e-6)


@torch.no_grad()
def test_the_base_adds_positions_to_the_tokens_of_each_half():
    base, (music, codes) = gpt_of().base, random_input(2, 5)
    tokens = base.embed(music, codes).unflatten(1, (3, 5))
    for stream, (half, own) in enumerate(zip(codes, (base.embed_upper, base.embed_lower), strict=True), 1):
        vectors = own.vectors[half]
        expected = vectors @ own.linear.weight.T + own.linear.bias + base.positions[stream, :5]
        torch.testing.assert_close(tokens[:, stream], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("quantizer", ["ema", "fsq"])
@torch.no_grad()
def test_code_vectors_are_those_that_the_decoder_reads(quantizer):
    torch.manual_seed(2)
    levels = {"levels_upper": [4, 3], "levels_lower": [3, 5]}
    sizes = {"codes_upper": 24, "codes_lower": 16, "codebook": {"dim": 8}, "fsq": levels}
    memory = ChoreographicMemory(MemoryConfig.model_validate({"quantizer": quantizer, **sizes}))
    if quantizer == "ema":
        for half in memory.halves.values():
            half.quantizer.codebook.normal_()
    for half, vectors in zip(memory.halves.values(), memory.code_vectors, strict=True):
        assert vectors.shape == (half.quantizer.num_codes, 8)
        read = half.quantizer.decode(torch.tensor([[5, 0]]))[0].T
        assert torch.equal(vectors[[5, 0]], read)
        assert not torch.equal(vectors[5], vectors[0])


@torch.no_grad()
def test_cached_logits_equal_those_of_one_pass():
    gpt, (music, codes) = gpt_of(), random_input(2, 9)
    whole, cache = gpt(music, codes), gpt.new_cache(2)
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        logits = gpt(music[:, part], Codes(*(half[:, part] for half in codes)), cache)
        for made, expected in zip(logits, whole, strict=True):
            torch.testing.assert_close(made, expected[:, part], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", ["exact", "hop"])
def test_generated_codes_are_the_naive_ones(window):
    gpt = gpt_of()
    prompt = Prompt(torch.randn(30, 6), Codes(torch.tensor([3]), torch.tensor([5])), "a song")
    config = GenerationConfig(window=window, temperature=0.8, first_codes=(0, 0))
    made, expected = (
        generate(gpt, [prompt], config, torch.device("cpu"))[0],
        generate_naively(gpt, prompt, config),
    )
    assert all(torch.equal(half, other) for half, other in zip(made, expected, strict=True))
    assert len(made.upper.unique()) > 5


def test_a_checkpoint_without_the_key_embeds_indices():
    architecture = gpt_of("index").architecture()
    assert "code_dim" not in architecture
    del architecture["gpt"]["embed"]
    assert isinstance(MotionGPT.from_architecture(architecture).base.embed_upper, torch.nn.Embedding)
    again = MotionGPT.from_architecture(gpt_of().architecture())
    assert again.base.embed_lower.vectors.shape == (CODES[1], DIM)


@pytest.fixture(scope="module")
def memory_folder(trained, tmp_path_factory):
    """An output folder with the memory of the small trained stages."""
    folder = tmp_path_factory.mktemp("codebook")
    memory = tiny.checkpoint(folder, "sep_vqvae_root")
    memory.parent.mkdir(parents=True)
    memory.symlink_to(tiny.checkpoint(trained, "sep_vqvae_root"))
    return folder


def test_training_resumes_and_leaves_the_vectors_as_they_are(memory_folder, small_data, capsys):
    def train(name, epochs):
        more = ("model.embed=codebook", f"training.epochs={epochs}", f"name={name}/sample/cc_motion_gpt")
        tiny.run("cc_motion_gpt", small_data, memory_folder, "train", *more)
        return memory_folder / name / "sample" / "cc_motion_gpt" / "ckpt" / "last.pt"

    whole = load_checkpoint(train("whole", 2), "")["model"]
    train("parts", 1)
    path = train("parts", 2)
    resumed = load_checkpoint(path, "")["model"]
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())

    memory = load_memory(tiny.checkpoint(memory_folder, "sep_vqvae_root"), "", velocity=True)
    base = load_policy(path, "").gpt.base
    for embedding, vectors in zip((base.embed_upper, base.embed_lower), memory.code_vectors, strict=True):
        centred = vectors - vectors.mean(0)
        expected = centred / (centred**2).sum(1).mean().sqrt()
        torch.testing.assert_close(embedding.vectors, expected, rtol=1e-5, atol=1e-6)

    more = ("model.embed=index", "name=parts/sample/cc_motion_gpt")
    arguments = tiny.arguments("cc_motion_gpt", small_data, memory_folder, "eval", *more)
    assert main.main(arguments) == 2
    assert "was trained with model.embed codebook, the config says index" in capsys.readouterr().err
