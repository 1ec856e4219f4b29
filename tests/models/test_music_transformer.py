"""The music transformer: three blocks restated in numpy, windows, whole songs, streams, rollouts."""

import math

import numpy as np
import pytest
import torch

from datasets.clips import whole_music, with_context
from models.actor_critic import first_steps
from models.generation import EncodedMusic, GenerationConfig, Prompt, generate, generate_naively
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig, band_mask
from models.published.names import gpt_table, to_theirs
from models.stages.rollouts import TargetSong, WindowEncoder
from models.streaming import DanceStream
from models.vqvae import Codes
from tests.models.rounding import in_float64
from tests.models.test_streaming import memory_of

CPU = torch.device("cpu")
FRAMES, REACH, COLUMNS = 8, 5, 3
NUM_CODES = (13, 11)
CONFIG = GPTConfig(
    width=16, heads=2, base_blocks=1, head_blocks=1, context=29, dropout=0.0,
    music_transformer=MusicTransformerConfig(width=16, heads=2, blocks=3, dropout=0.0),
)  # fmt: skip
START = Codes(torch.tensor([1]), torch.tensor([2]))


def lively_gpt(config=CONFIG, num_codes=NUM_CODES):
    """Weights large enough that codes depend on everything attended to."""
    torch.manual_seed(0)
    gpt = MotionGPT(config, num_codes, COLUMNS * FRAMES, FRAMES)
    for name, parameter in gpt.named_parameters():
        if parameter.ndim > 1:
            spread = 0.3 if "embed_upper" in name or "embed_lower" in name or "positions" in name else 1.5
            parameter.data.normal_(std=spread / math.sqrt(parameter.shape[-1]))
        elif name.endswith("bias"):
            parameter.data.normal_(std=0.05)
    gpt.music.unused_positions.normal_()
    return gpt.eval()


def piece_of(frames, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, COLUMNS))


def song_of(piece):
    """The features of a song as prepared data hold them: steps, the last one filled up by zeros."""
    padded = np.pad(piece, ((0, -len(piece) % FRAMES), (0, 0)))
    return padded.reshape(-1, FRAMES * piece.shape[1])


def prompt_of(piece, steps=None):
    music = whole_music(song_of(piece), len(piece), FRAMES)[0].to(torch.get_default_dtype())
    return Prompt(with_context(music, 0, steps or len(music), REACH), START)


# The published system in numpy, from its description alone ---------------------------------------------


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def layer_norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def block(x, w, name, allowed):
    """A pre-norm block of two heads over tokens (n, C), where `allowed` (n, n) says who sees whom."""
    normed = layer_norm(x, w, f"{name}.ln1")
    query, key, value = (
        linear(normed, w, f"{name}.attn.{part}").reshape(len(x), 2, -1).transpose(1, 0, 2)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
    scores = np.where(allowed, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ value
    x = x + linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), w, f"{name}.attn.proj")
    inner = linear(layer_norm(x, w, f"{name}.ln2"), w, f"{name}.mlp.0")
    gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    return x + linear(gelu, w, f"{name}.mlp.2")


def published_vectors(music, w):
    """Vectors (t, C) of the frames (8 (t + 10), D) of a window."""
    x = linear(music, w, "music_trans.cond_emb")
    places = np.arange(len(x))
    for i in range(3):
        x = block(x, w, f"music_trans.blocks.{i}", abs(places[:, None] - places) <= 40)
    return linear(x[40:-40].reshape(-1, FRAMES * x.shape[1]), w, "music_trans.downsample")


def published_logits(vectors, upper, lower, w):
    """Logits (t, K) of both halves."""
    t, table = len(upper), w["gpt_base.pos_emb"][0]
    rows = len(table) // 3
    x = np.concatenate(
        [
            linear(vectors, w, "gpt_base.cond_emb") + table[:t],
            w["gpt_base.tok_emb_up.weight"][upper] + table[rows : rows + t],
            w["gpt_base.tok_emb_down.weight"][lower] + table[2 * rows : 2 * rows + t],
        ]
    )
    steps = np.tile(np.arange(t), 3)
    allowed = steps[:, None] >= steps
    x = block(block(x, w, "gpt_base.blocks.0", allowed), w, "gpt_head.blocks.0", allowed)
    x = layer_norm(x, w, "gpt_head.ln_f")
    return linear(x[t : 2 * t], w, "gpt_head.head_up"), linear(x[2 * t :], w, "gpt_head.head_down")


def published_dance(piece, w, steps):
    """The greedy codes (steps + 1, 2) of the published loop to a whole piece (N, D)."""
    zeros = np.zeros((40, piece.shape[1]))
    music = np.concatenate([zeros, piece, piece[-1:], zeros])[8:]
    upper, lower = [1], [2]
    for k in range(steps):
        n = min(k + 1, 28)
        vectors = published_vectors(music[8 * (k + 1 - n) : 8 * (k + 11)], w)
        up, down = published_logits(vectors, upper[-n:], lower[-n:], w)
        upper.append(int(up[-1].argmax()))
        lower.append(int(down[-1].argmax()))
    return np.stack([upper, lower], 1)


def published_weights(gpt):
    table = gpt_table(CONFIG, NUM_CODES, COLUMNS * FRAMES, None, FRAMES)
    state = to_theirs(table, gpt.state_dict())
    return {key.removeprefix("module."): value.double().numpy() for key, value in state.items()}


@pytest.mark.parametrize("frames", [335, 336])
def test_dances_are_those_of_the_published_loop(frames):
    """Three blocks, as published: there the ends of a window matter for all of its vectors."""
    piece = piece_of(frames)
    steps = (frames + 1) // 8 - 1
    with in_float64(), torch.no_grad():
        gpt = lively_gpt().double()
        weights, prompt = published_weights(gpt), prompt_of(piece)
        expected = published_dance(piece, weights, steps)
        made = torch.stack(generate(gpt, [prompt], GenerationConfig(), CPU)[0], 1)
        assert len(made) == -(-(frames + 1) // 8)  # a last, incomplete step has a code here too
        np.testing.assert_array_equal(made[: steps + 1], expected)
        assert len(set(expected[:, 0].tolist())) > 5
        window = prompt.music[1 : 1 + 29 + 2 * REACH]
        vectors = published_vectors(window.reshape(-1, COLUMNS).numpy(), weights)
        np.testing.assert_allclose(gpt.music(window[None])[0], vectors, atol=1e-10)
        codes = Codes(*(torch.from_numpy(expected[None, :29, half]) for half in (0, 1)))
        up, down = published_logits(vectors, *expected[:29].T, weights)
        ours = gpt(window[None], codes)
        np.testing.assert_allclose(ours.upper[0], up, atol=1e-10)
        np.testing.assert_allclose(ours.lower[0], down, atol=1e-10)


# Windows ---------------------------------------------------------------------------------------------


def test_band_mask():
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert band_mask(4, 1).int().tolist() == expected


def test_a_step_reaches_as_far_as_its_blocks():
    """A change of one frame reaches blocks * reach codes to either side, and no further."""
    gpt, music = lively_gpt(), torch.randn(1, 60, COLUMNS * FRAMES)
    other = music.clone()
    other[:, 30] += 1
    with torch.no_grad():
        changed = (gpt.music(music) != gpt.music(other)).any(-1)[0]
    touched = changed.nonzero().flatten() + REACH
    assert (int(touched[0]), int(touched[-1])) == (30 - 3 * REACH, 30 + 3 * REACH)


def test_a_shorter_window_has_other_vectors():
    """So one pass of the base cannot serve policy and value, and keys and values cannot be cached."""
    gpt, music = lively_gpt(), torch.randn(1, 29 + 2 * REACH, COLUMNS * FRAMES)
    codes = Codes(*torch.zeros(2, 1, 29, dtype=torch.long))
    with torch.no_grad():
        long, short = gpt.music(music), gpt.music(music[:, :-1])
        size = (long[:, :-1] - short).abs().amax(-1)[0]
        assert (size[:18] < 1e-6).all()
        assert (size[18:] > 1e-6).all()  # the last ten codes
        assert size[-1] > 1e-3
        shared = first_steps(gpt.base(long, codes), 28)
        own = gpt.base(short, Codes(*(half[:, :28] for half in codes)))
    assert (shared - own).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("steps", [7, 16, 100])
def test_a_song_in_pieces_is_one_window(steps, monkeypatch):
    monkeypatch.setattr("models.gpt._PIECE", steps)
    gpt, music = lively_gpt(), torch.randn(40 + 2 * REACH, COLUMNS * FRAMES)
    torch.testing.assert_close(gpt.music.of_song(music), gpt.music(music[None])[0])


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 19, 20, 21, 28, 29])
@pytest.mark.parametrize("blocks", [1, 3])
def test_windows_by_their_ends_are_those_one_by_one(steps, blocks):
    """From the shortest window whose ends do not meet, and below; the first and the last of the song."""
    transformer = CONFIG.music_transformer.model_copy(update={"blocks": blocks})
    gpt = lively_gpt(CONFIG.model_copy(update={"music_transformer": transformer}))
    music, starts = torch.randn(50 + 2 * REACH, COLUMNS * FRAMES), torch.tensor([0, 3, 7, 50 - steps])
    lengths = torch.tensor([steps, steps, 30, steps])
    found = gpt.music.of_windows(music, starts, lengths)
    for vectors, start, length in zip(found, starts.tolist(), lengths.tolist(), strict=True):
        expected = gpt.music(music[None, start : start + length + 2 * REACH])[0]
        torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)
    departs = (gpt.music.of_song(music)[3 : 3 + steps] - found[1]).abs().max() > 1e-3
    assert departs == (blocks > 1)  # with one block all that a window lacks is dropped at its ends


WAYS = [
    {"window": "exact"},
    {"window": "hop", "hop": 9},
    {"window": "exact", "music_context": "song"},
    {"window": "hop", "music_context": "song"},
    {"temperature": 1.0, "top_p": 0.9, "seed": 3},
    {"window": "exact", "window_codes": 9},
]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_codes_equal_the_naive_ones(how, monkeypatch):
    """Songs of several lengths, given codes, and few windows encoded at a time."""
    monkeypatch.setattr("models.generation._WINDOWS", 16)
    monkeypatch.setattr("models.gpt._WINDOWS", 3)
    gpt, config = lively_gpt(), GenerationConfig(**how)
    given = [START, START, Codes(torch.arange(9), torch.arange(9)), START]
    prompts = [
        Prompt(prompt_of(piece_of(8 * n, n)).music, codes, str(n))
        for n, codes in zip((45, 1, 38, 30), given, strict=True)
    ]
    together = generate(gpt, prompts, config, CPU)
    for prompt, dance in zip(prompts, together, strict=True):
        naive = generate_naively(gpt, prompt, config)
        assert torch.equal(dance.upper, naive.upper)
        assert torch.equal(dance.lower, naive.lower)
        assert len(dance.upper) == len(prompt.music) - 2 * REACH


def test_the_context_of_a_song_is_a_departure():
    prompt = prompt_of(piece_of(400))
    window, song = (
        generate(lively_gpt(), [prompt], GenerationConfig(music_context=context), CPU)[0]
        for context in ("window", "song")
    )
    assert (window.upper != song.upper).float().mean() > 0.1


def test_windows_are_encoded_beforehand(monkeypatch):
    """The transformer runs over many windows at a time, not once per code."""
    gpt, calls = lively_gpt(), []
    plain = gpt.music.of_windows
    monkeypatch.setattr(gpt.music, "of_windows", lambda *given: calls.append(given[1]) or plain(*given))
    generate(gpt, [prompt_of(piece_of(800))], GenerationConfig(), CPU)
    assert list(map(len, calls)) == [100]


def test_music_must_have_its_context():
    gpt = lively_gpt()
    with pytest.raises(ValueError, match=r"music must be \(N \+ 10, 24\)"):
        generate(gpt, [Prompt(torch.zeros(10, 24), START)], GenerationConfig(), CPU)
    long = Codes(*torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="2 codes are given for 1 steps"):
        generate(gpt, [Prompt(torch.zeros(11, 24), long)], GenerationConfig(), CPU)


def test_features_without_frames_are_refused():
    with pytest.raises(ValueError, match=r"needs music at the rate of the motion.*--features frames"):
        MotionGPT(CONFIG, NUM_CODES, 58)


def test_encoded_music_of_no_transformer_is_the_features():
    plain = MotionGPT(CONFIG.model_copy(update={"music_transformer": None}), NUM_CODES, 6)
    songs = [torch.randn(4, 6), torch.randn(2, 6)]
    music = EncodedMusic(plain, songs, GenerationConfig(), CPU)
    assert torch.equal(music.of_step(1, 2), torch.stack([songs[0][1], songs[1][1]]))
    assert torch.equal(music.of_step(3, 1), songs[0][3:])


# Streams, rollouts -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("how", [{}, {"window": "hop", "hop": 5}], ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_a_stream_gives_the_same_codes(chunk, how):
    memory = memory_of()
    gpt = lively_gpt(num_codes=memory.num_codes)
    config, song = GenerationConfig(**how), torch.from_numpy(song_of(piece_of(320))).float()
    prompt = Prompt(with_context(song, 0, len(song), REACH), START)
    whole = generate(gpt, [prompt], config, CPU)[0]
    dance, made = DanceStream(gpt, memory, START, config), []
    for start in range(0, len(song), chunk):
        made.append(dance.push(song[start : start + chunk]).codes)
        known = min(start + chunk, len(song))
        assert sum(len(codes.upper) for codes in made) == max(0, known - REACH)  # 48 frames of look-ahead
    made.append(dance.push(song[:0], last=True).codes)
    assert torch.equal(torch.cat([codes.upper for codes in made]), whole.upper)
    assert torch.equal(torch.cat([codes.lower for codes in made]), whole.lower)


def test_a_stream_has_no_whole_song():
    memory = memory_of()
    gpt = lively_gpt(num_codes=memory.num_codes)
    with pytest.raises(ValueError, match="music_context=window"):
        DanceStream(gpt, memory, START, GenerationConfig(music_context="song"))


@torch.no_grad()
def test_vectors_of_rollouts_are_those_of_their_windows():
    gpt, music = lively_gpt(), torch.randn(50, COLUMNS * FRAMES)
    song = TargetSong("dance", "song", music, torch.zeros(400, dtype=torch.bool), START, 0)
    encoder = WindowEncoder(gpt, 30)
    value, policy = encoder.of(song, CPU)
    assert (value.shape[:2], policy.shape[:2]) == ((21, 29), (21, 28))
    for start in (0, 3, 20):
        window = with_context(music, start + 1, 29, REACH)[None]
        torch.testing.assert_close(value[start], gpt.music(window)[0])
        torch.testing.assert_close(policy[start], gpt.music(window[:, :-1])[0])
    assert encoder.of(song._replace(name="another dance"), CPU).value is value  # once per run


def test_vectors_of_normalised_features_are_not_hidden_by_what_blocks_add():
    music = torch.randn(8, 39, 8, 55, generator=torch.Generator().manual_seed(0)) * (6 / 55) ** 0.5

    def spread(normalise):
        torch.manual_seed(0)
        config = GPTConfig(
            width=96,
            heads=4,
            base_blocks=1,
            head_blocks=1,
            normalise_music=normalise,
            music_transformer=MusicTransformerConfig(width=32, heads=4, blocks=2, reach=5),
        )
        gpt = MotionGPT(config, (4, 4), 8 * 55, frames_per_step=8).eval()
        with torch.no_grad():
            return float(gpt.music(music.flatten(2)).std())

    assert 0.5 < spread(True) < 2
    assert spread(False) < 0.05  # as published
