"""Motion GPT, generation, actor-critic, rewards and rollouts against the published system's numbers."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from models.actor_critic import first_steps, policy_entropy, policy_loss, td_error, value_loss
from models.generation import GenerationConfig, Prompt, attention_window, generate, generate_naively
from models.gpt import code_losses
from models.published.names import gpt_table, to_theirs
from models.reward import RewardConfig, beat_reward, motion_beats, per_code, reward, smooth
from models.stages.rollouts import cut_windows
from models.vqvae import Codes
from tests.golden.select_arrays import OUTPUTS, WEIGHTS
from tests.helpers import golden
from tests.models.golden_models import (
    GPT_MUSIC_SMALL,
    GPT_SMALL,
    NUM_CODES,
    actor_critic_music_small,
    actor_critic_small,
    gpt_music_small,
    gpt_small,
    memory_small,
)
from tests.models.rounding import Bounds, Disturbance, in_float64
from tests.packing import sample
from utils.motion import difference


def close(ours, theirs, rtol=1e-5, atol=None):
    """Equal to 1e-5 of the size of the numbers: sums of large terms may cancel to a small one."""
    atol = rtol * np.abs(theirs).max() if atol is None else atol
    ours = ours.detach() if isinstance(ours, torch.Tensor) else ours
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


def codes_of(g, up, down):
    return Codes(torch.from_numpy(g[up]), torch.from_numpy(g[down]))


SETS = {
    "gpt_small": gpt_small,
    "gptac_small": lambda: actor_critic_small().gpt,
    "pp_gptmw_small": gpt_music_small,
    "pp_gptmwac_small": lambda: actor_critic_music_small().gpt,
}
FRAMES = 8  # of music per code, recorded one by one for the music transformer


def steps_of(music, name):
    """Recorded music (B, n, D) step by step."""
    music = torch.from_numpy(music)
    return music.unflatten(1, (-1, FRAMES)).flatten(2) if name.startswith("pp_") else music


def conditions(gpt, music):
    """The music as the base receives it."""
    return music if gpt.music is None else gpt.music(music)


@pytest.mark.parametrize("name", SETS)
def test_logits_and_loss(name):
    gpt, g = SETS[name](), golden(f"{name}_vectors.npz")
    music, codes = steps_of(g["music"], name), codes_of(g, "idx_up", "idx_down")
    features = gpt.base(conditions(gpt, music), codes)
    if gpt.music is not None:
        close(sample(gpt.music(music).detach().numpy(), OUTPUTS), g["music_emb_sample"])
    close(sample(features.detach().numpy(), OUTPUTS), g["base_feat_sample"])
    logits = gpt.head(features)
    close(logits.upper, g["logits_up"])
    close(logits.lower, g["logits_down"])
    upper, lower = code_losses(logits, codes_of(g, "target_up", "target_down"))
    ours = upper.mean() + lower.mean() if g["loss"].ndim == 0 else (upper + lower).flatten()
    close(ours, g["loss"])
    short = gpt(music[:, : 13 + 2 * gpt.reach], Codes(codes.upper[:, :13], codes.lower[:, :13]))
    close(short.upper, g["logits13_up"])
    close(short.lower, g["logits13_down"])


@torch.no_grad()
def test_float64():
    g, shared = golden("float64_vectors.npz"), golden("gptac_small_vectors.npz")
    with in_float64():
        model = actor_critic_small().double()
        codes = codes_of(shared, "idx_up", "idx_down")
        features = model.gpt.base(torch.from_numpy(shared["music"]), codes)
        logits = model.policy(features)
        for half, side in ((logits.upper, "up"), (logits.lower, "down")):
            expected = g[f"gptac_small_logits_{side}_sample"]
            close(sample(half.numpy(), OUTPUTS), expected, rtol=0, atol=1e-9)
        close(model.values(features), g["gptac_small_critic_values"][..., 0], rtol=0, atol=1e-9)
        upper, lower = code_losses(logits, codes_of(shared, "target_up", "target_down"))
        close((upper + lower).flatten(), g["gptac_small_loss"], rtol=0, atol=1e-9)


TRAINED = ["gpt_small", "pp_gptmw_small"]


def adam_run(name, disturbance, betas=None, weight_of_lower=1.0):
    """Loss before each of three Adam steps and after the last, and squared norms of the first gradients."""
    g = golden(f"{name}_vectors.npz")
    gpt = SETS[name]().to(torch.get_default_dtype())
    lr, *published = map(float, g["opt"])
    optimizer = torch.optim.Adam(gpt.parameters(), lr=lr, betas=betas or published)
    music, codes = steps_of(g["music"], name), codes_of(g, "idx_up", "idx_down")
    targets, losses, squares = codes_of(g, "target_up", "target_down"), [], {}
    for step in range(4):
        optimizer.zero_grad()
        with disturbance.step(gpt):
            upper, lower = code_losses(gpt(music, codes), targets)
            loss = upper.mean() + weight_of_lower * lower.mean()
            loss.backward()
        losses.append(float(loss.detach()))
        if step == 0:
            squares = {n: float(p.grad.square().sum()) for n, p in gpt.named_parameters()}
        optimizer.step()
    return {"adam_losses": np.array(losses), **{f"grad_{n}": np.array(v) for n, v in squares.items()}}


@lru_cache
def adam_bounds(name):
    return Bounds(lambda disturbance: adam_run(name, disturbance))


@pytest.mark.parametrize("name", TRAINED)
def test_first_gradients_and_adam(name):
    g = golden(f"{name}_vectors.npz")
    recorded = {"adam_losses": g["adam_losses"], **published_squares(name, g)}
    assert recorded.keys() == adam_bounds(name).exact.keys()
    adam_bounds(name).check(recorded)
    adam_bounds(name).check(adam_run(name, Disturbance()))


@pytest.mark.parametrize("mistake", [{"betas": (0.9, 0.999)}, {"weight_of_lower": 0.9999}])
def test_a_mistake_of_adam_or_loss_is_further_off(mistake):
    with pytest.raises(AssertionError, match="rounding allows"):
        adam_bounds("gpt_small").check(adam_run("gpt_small", Disturbance(), **mistake))


def published_squares(name, g):
    """Squared norms of the published gradients by our names: query, key and value add up to our joint map.

    The music transformer's table of positions is not used and has no gradient.
    """
    table, joint = gpt_table(GPT_SMALL, NUM_CODES, 438), dict[str, float]()
    if name.startswith("pp_"):
        table = gpt_table(GPT_MUSIC_SMALL, NUM_CODES, 440, None, FRAMES)
        assert g["nograd_names"].tolist() == ["module.music_trans.pos_emb"]
    for key, value in zip(g["gradnorm_names"].tolist(), g["gradnorm"], strict=True):
        ours = table[key.removeprefix("module.")].ours
        joint[ours] = joint.get(ours, 0.0) + float(value) ** 2
    return {f"grad_{key}": np.array(value) for key, value in joint.items()}


def prompts_of(g, prefix, name):
    """The published call is given the music from step 1 on; step 0 is not used."""
    music = steps_of(g[f"{prefix}_cond"], name)
    music = torch.cat([music[:, :1] * 0, music], dim=1)
    first = codes_of(g, f"{prefix}_x0_up", f"{prefix}_x0_down")
    return [Prompt(song, Codes(up, down)) for song, up, down in zip(music, *first, strict=True)]


def window_lengths(hop):
    windows = [attention_window(k, 28, hop) for k in range(1, 65)]
    return [window.stop - window.start for window in windows]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("prefix", ["s", "b"])
def test_greedy_codes(name, prefix):
    gpt, g = SETS[name](), golden(f"{name}_vectors.npz")
    prompts = prompts_of(g, prefix, name)
    made = generate(gpt, prompts, GenerationConfig(), torch.device("cpu"))
    np.testing.assert_array_equal(torch.stack([dance.upper for dance in made]), g[f"{prefix}_codes_up"])
    np.testing.assert_array_equal(torch.stack([dance.lower for dance in made]), g[f"{prefix}_codes_down"])
    np.testing.assert_array_equal(window_lengths(1), g[f"{prefix}_win_tokens"])
    naive = generate_naively(gpt, prompts[0], GenerationConfig())
    np.testing.assert_array_equal(naive.upper, g[f"{prefix}_codes_up"][0])
    np.testing.assert_array_equal(naive.lower, g[f"{prefix}_codes_down"][0])


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(("hop", "shortest"), [(15, 14), (9, 20)])
def test_hop_window(name, hop, shortest):
    """The published system's optional saw-tooth window: down to `shortest` and up again."""
    gpt, g = SETS[name](), golden(f"{name}_vectors.npz")
    how = GenerationConfig(window="hop", hop=hop)
    made = generate(gpt, prompts_of(g, "s", name), how, torch.device("cpu"))
    np.testing.assert_array_equal(window_lengths(hop), g[f"s_shift{shortest}_win_tokens"])
    np.testing.assert_array_equal(torch.stack([d.upper for d in made]), g[f"s_shift{shortest}_codes_up"])
    np.testing.assert_array_equal(torch.stack([d.lower for d in made]), g[f"s_shift{shortest}_codes_down"])


@pytest.mark.parametrize("name", ["gptac_small", "pp_gptmwac_small"])
def test_values_and_entropy(name):
    model = actor_critic_small() if name == "gptac_small" else actor_critic_music_small()
    g = golden(f"{name}_vectors.npz")
    codes, music = codes_of(g, "idx_up", "idx_down"), steps_of(g["music"], name)
    features = model.gpt.base(conditions(model.gpt, music), codes)
    close(model.values(features), g["critic_values"][..., 0])
    states = first_steps(features, 28)
    if model.gpt.music is not None:  # a window that ends earlier
        states = model.gpt.base(model.gpt.music(music[:, :-1]), Codes(*(half[:, :28] for half in codes)))
    logits = model.policy(states)
    close(logits.upper, g["actor_logits_up"])
    targets = codes_of(g, "target_up", "target_down")
    upper, lower = code_losses(logits, Codes(targets.upper[:, :28], targets.lower[:, :28]))
    close((upper + lower).flatten(), g["actor_nll"])
    close(policy_entropy(logits).flatten(), g["actor_entropy"])


def test_rewards():
    g = golden("reward_vectors.npz")
    pose, beats = torch.from_numpy(g["pose"]), torch.from_numpy(g["beats60"])
    speed = difference(pose).unflatten(-1, (24, 3)).norm(dim=-1).mean(-1)
    close(speed, g["speed"])
    close(smooth(speed, 5.0), g["speed_smooth"], atol=1e-6)
    np.testing.assert_array_equal(per_code(motion_beats(pose), 8).any(-1), g["dance_beats"] > 0)
    np.testing.assert_array_equal(beat_reward(pose, beats, 8, "published"), g["ba_reward_released"])
    np.testing.assert_array_equal(beat_reward(pose, beats, 8, "paper"), g["ba_reward_paper"])
    for form, recorded in (("published", "released"), ("paper", "paper")):
        for rate in (0, 1):
            config = RewardConfig(beats=form, consistency=rate, lower_sign="upper")
            close(reward(pose, beats, 8, config)["reward"], g[f"reward_{recorded}_rate{rate}"])


def test_each_half_has_its_own_sign():
    """With the paper's sign the released one's result differs, and a turned-round lower half is punished."""
    g = golden("reward_vectors.npz")
    pose, beats = torch.from_numpy(g["pose"]), torch.from_numpy(g["beats60"])
    as_released = reward(pose, beats, 8, RewardConfig(consistency=1, lower_sign="upper"))["consistency"]
    as_in_paper = reward(pose, beats, 8, RewardConfig(consistency=1))["consistency"]
    assert (as_released - as_in_paper).abs().max() > 0.01


def test_windows():
    g = golden("rl_windows_vectors.npz")
    parts = []
    for piece in (0, 1):
        codes = Codes(torch.from_numpy(g[f"piece{piece}_up"]), torch.from_numpy(g[f"piece{piece}_down"]))
        music = torch.from_numpy(g[f"piece{piece}_music_first4"])
        parts.append(
            cut_windows(
                codes, music, torch.from_numpy(g[f"piece{piece}_beat60"]), steps=30, frames_per_code=8
            )
        )
    joined = [torch.cat(field) for field in zip(*parts, strict=True)]
    assert len(joined[0]) == int(g["n_windows"])
    np.testing.assert_array_equal(joined[0], g["win_up"])
    np.testing.assert_array_equal(joined[1], g["win_down"])
    np.testing.assert_array_equal(joined[2], g["win_music_first4"])
    np.testing.assert_array_equal(joined[3], g["win_beat"])
    np.testing.assert_array_equal(joined[4], g["win_mask"])


def actor_critic_run(idle, disturbance, betas=(0.5, 0.999), discount=1.0):
    """Values, TD errors, losses and changes of four steps, policy and value in turn; weights after them."""
    g, found = golden("ac_update_vectors.npz"), {}
    dtype = torch.get_default_dtype()
    model, memory = actor_critic_small().to(dtype), memory_small("vqr_small").to(dtype).eval()
    music, codes = torch.from_numpy(g["music"]), codes_of(g, "codes_up", "codes_down")
    mask, beats = torch.from_numpy(g["mask"]), torch.from_numpy(g["beat60"])
    actions = Codes(codes.upper[:, 1:-1], codes.lower[:, 1:-1])
    with torch.no_grad():
        pose = memory.decode(actions)
        features = model.gpt.base(music[:, 1:], Codes(codes.upper[:, :-1], codes.lower[:, :-1]))
    rewards = reward(pose, beats[:, 8:232], 8, RewardConfig())["reward"]
    found |= {"pose_decoded_sample": sample(pose.numpy(), OUTPUTS), "rewards": rewards.numpy()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=betas)
    for step in range(4):
        prefix = f"{idle}_s{step}"
        optimizer.zero_grad(set_to_none=idle == "none")
        with disturbance.step(model):
            values = model.values(features)
            error = td_error(rewards, values, discount)
            logits = model.policy(first_steps(features, 28))
            upper, lower = code_losses(logits, actions)
            policy_turn = str(g[f"{prefix}_kind"]) == "actor"
            loss = policy_loss(upper + lower, error, mask) if policy_turn else value_loss(error)
            loss.backward()
        parts = {"values": values, "td": error, "nll": upper + lower, "entropy": policy_entropy(logits)}
        found |= {f"{prefix}_{k}": v.detach().numpy() for k, v in {**parts, "loss": loss}.items()}
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step()
        moved = {"base": 0.0, "head": 0.0, "value": 0.0}
        for name, parameter in model.named_parameters():
            part = "value" if name.startswith("value") else name.split(".")[1]
            moved[part] += (parameter.detach() - before[name]).square().sum().item()
        found[f"{prefix}_group_change"] = np.sqrt(list(moved.values()))
    state = to_theirs(gpt_table(GPT_SMALL, NUM_CODES, 438, 1), model.state_dict())
    return found | {f"after_{key}": sample(value.numpy(), WEIGHTS) for key, value in state.items()}


@lru_cache
def actor_critic_bounds(idle):
    return Bounds(lambda disturbance: actor_critic_run(idle, disturbance))


@pytest.mark.parametrize("idle", ["none", "zero"])
def test_actor_critic_updates(idle):
    """TD errors, losses, what each of four steps moves; the idle half at rest and drifting on momentum."""
    g = golden("ac_update_vectors.npz")
    recorded = {k: v for k, v in g.items() if k.startswith(f"{idle}_") and not k.endswith("_kind")}
    assert len(recorded) == 4 * 6
    recorded |= {key: g[key] for key in ("rewards", "pose_decoded_sample")}
    bounds = actor_critic_bounds(idle)
    np.testing.assert_array_equal(bounds.exact["rewards"], g["rewards"])
    if idle == "none":
        after = golden("ac_update_weights_after4.npz")
        # A key's bias has no effect on attention: its gradient is rounding alone, which Adam magnifies.
        recorded |= {f"after_{k}": v for k, v in after.items() if not k.endswith("attn.key.bias")}
        assert len(recorded) > 4 * 6 + 2 + 40
    bounds.check(recorded)
    own = actor_critic_run(idle, Disturbance())
    bounds.check({k: v for k, v in own.items() if not k.endswith("attn.key.bias")})


@pytest.mark.parametrize(
    "mistake", [{"idle": "zero"}, {"betas": (0.9, 0.999)}, {"discount": 0.999}], ids=lambda m: next(iter(m))
)
def test_a_mistake_of_actor_critic_is_further_off(mistake):
    """Also momentum that moves the idle half."""
    found = actor_critic_run(**{"idle": "none", "disturbance": Disturbance(), **mistake})
    found = {key.replace("zero_", "none_"): value for key, value in found.items()}
    with pytest.raises(AssertionError, match="rounding allows"):
        actor_critic_bounds("none").check(found)
