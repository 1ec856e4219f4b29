"""Motion GPT, generation, actor-critic, rewards and rollouts against the published system's numbers."""

import numpy as np
import pytest
import torch

from datasets.rollouts import cut_windows
from models.actor_critic import first_steps, policy_entropy, policy_loss, td_error, value_loss
from models.generation import GenerationConfig, generate, window_length
from models.gpt import code_losses
from models.official import gpt_from_published
from models.reward import RewardConfig, beat_reward, motion_beats, per_code, reward, smooth
from models.vqvae import Codes
from tests.helpers import golden
from tests.models.golden_models import actor_critic_small, gpt_small, memory_small, tensors
from utils.motion import difference


def close(ours, theirs, rtol=1e-5, atol=None):
    """Equal to 1e-5 of the size of the numbers: sums of large terms may cancel to a small one."""
    atol = rtol * np.abs(theirs).max() if atol is None else atol
    np.testing.assert_allclose(np.asarray(ours.detach()), np.asarray(theirs), rtol=rtol, atol=atol)


def codes_of(g, up, down):
    return Codes(torch.from_numpy(g[up]), torch.from_numpy(g[down]))


SETS = {"gpt_small": gpt_small, "gptac_small": lambda: actor_critic_small().gpt}


@pytest.mark.parametrize("name", SETS)
def test_logits_and_loss(name):
    gpt, g = SETS[name](), golden(f"{name}_vectors.npz")
    music, codes = torch.from_numpy(g["music"]), codes_of(g, "idx_up", "idx_down")
    features = gpt.base(music, codes)
    close(features, g["base_feat"])
    logits = gpt.head(features)
    close(logits.upper, g["logits_up"])
    close(logits.lower, g["logits_down"])
    upper, lower = code_losses(logits, codes_of(g, "target_up", "target_down"))
    ours = upper.mean() + lower.mean() if g["loss"].ndim == 0 else (upper + lower).flatten()
    close(ours, g["loss"])
    short = gpt(music[:, :13], Codes(codes.upper[:, :13], codes.lower[:, :13]))
    close(short.upper, g["logits13_up"])
    close(short.lower, g["logits13_down"])


def test_float64():
    g, shared = golden("float64_vectors.npz"), golden("gptac_small_vectors.npz")
    model = actor_critic_small().double()
    codes = codes_of(shared, "idx_up", "idx_down")
    features = model.gpt.base(torch.from_numpy(shared["music"]).double(), codes)
    logits = model.policy(features)
    close(logits.upper, g["gptac_small_logits_up"], rtol=0, atol=1e-9)
    close(logits.lower, g["gptac_small_logits_down"], rtol=0, atol=1e-9)
    upper, lower = model.value(features)
    close(upper + lower, g["gptac_small_critic_values"], rtol=0, atol=1e-9)


def test_first_gradients_and_adam():
    gpt, g = gpt_small(), golden("gpt_small_vectors.npz")
    lr, *betas = g["opt"]
    optimizer = torch.optim.Adam(gpt.parameters(), lr=float(lr), betas=tuple(map(float, betas)))
    music, codes, targets = torch.from_numpy(g["music"]), codes_of(g, "idx_up", "idx_down"), None
    targets = codes_of(g, "target_up", "target_down")
    for step in range(4):
        upper, lower = code_losses(gpt(music, codes), targets)
        loss = upper.mean() + lower.mean()
        close(loss, g["adam_losses"][step])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            check_gradients(gpt, g)
        optimizer.step()


def check_gradients(gpt, g):
    """The squared norms of query, key and value add up to that of our joint map."""
    theirs = dict(zip(g["gradnorm_names"].tolist(), g["gradnorm"], strict=True))
    joint: dict[str, float] = {}
    for key, value in theirs.items():
        fake = {key: torch.zeros(3, 1) if key.endswith("pos_emb") else torch.zeros(1)}
        for other in ("query", "key", "value"):  # complete the triple so that the name can be mapped
            parts = key.split(".")
            if parts[-2] in ("query", "key", "value"):
                fake[".".join([*parts[:-2], other, parts[-1]])] = torch.zeros(1)
        (ours,) = gpt_from_published(fake)
        joint[ours] = joint.get(ours, 0.0) + float(value) ** 2
    norms = {n: p.grad.norm().item() ** 2 for n, p in gpt.named_parameters()}
    assert joint.keys() == norms.keys()
    np.testing.assert_allclose([norms[k] for k in joint], list(joint.values()), rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("prefix", ["s", "b"])
def test_greedy_codes(name, prefix):
    gpt, g = SETS[name](), golden(f"{name}_vectors.npz")
    music = torch.from_numpy(g[f"{prefix}_cond"])
    music = torch.cat(
        [music[:, :1] * 0, music], dim=1
    )  # the published call is given the music from step 1 on
    made = generate(gpt, music, codes_of(g, f"{prefix}_x0_up", f"{prefix}_x0_down"))
    np.testing.assert_array_equal(made.upper, g[f"{prefix}_codes_up"])
    np.testing.assert_array_equal(made.lower, g[f"{prefix}_codes_down"])
    np.testing.assert_array_equal([window_length(k, 28) for k in range(64)], g[f"{prefix}_win_tokens"])


@pytest.mark.parametrize(("hop", "shortest"), [(15, 14), (9, 20)])
def test_hop_window(hop, shortest):
    """The released system's optional saw-tooth window: down to `shortest` and up again."""
    gpt, g = gpt_small(), golden("gpt_small_vectors.npz")
    music = torch.from_numpy(g["s_cond"])
    music = torch.cat([music[:, :1] * 0, music], dim=1)
    how = GenerationConfig(window="hop", hop=hop)
    made = generate(gpt, music, codes_of(g, "s_x0_up", "s_x0_down"), how)
    lengths = [window_length(k, 28, hop) for k in range(64)]
    np.testing.assert_array_equal(lengths, g[f"s_shift{shortest}_win_tokens"])
    np.testing.assert_array_equal(made.upper, g[f"s_shift{shortest}_codes_up"])
    np.testing.assert_array_equal(made.lower, g[f"s_shift{shortest}_codes_down"])


def test_values_and_entropy():
    model, g = actor_critic_small(), golden("gptac_small_vectors.npz")
    codes, music = codes_of(g, "idx_up", "idx_down"), torch.from_numpy(g["music"])
    features = model.gpt.base(music, codes)
    close(model.values(features), g["critic_values"][..., 0])
    logits = model.policy(first_steps(features, 28))
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
    np.testing.assert_array_equal(beat_reward(pose, beats, 8, "released"), g["ba_reward_released"])
    np.testing.assert_array_equal(beat_reward(pose, beats, 8, "paper"), g["ba_reward_paper"])
    for form in ("released", "paper"):
        for rate in (0, 1):
            config = RewardConfig(beats=form, consistency=rate, lower_sign="upper")
            close(reward(pose, beats, 8, config)["reward"], g[f"reward_{form}_rate{rate}"])


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


@pytest.mark.parametrize("idle", ["none", "zero"])
def test_actor_critic_updates(idle):
    """TD errors, losses, what each of four steps moves; the idle half at rest and drifting on momentum."""
    g = golden("ac_update_vectors.npz")
    model, memory = actor_critic_small(), memory_small("vqr_small").eval()
    music, codes = torch.from_numpy(g["music"]), codes_of(g, "codes_up", "codes_down")
    mask, beats = torch.from_numpy(g["mask"]), torch.from_numpy(g["beat60"])
    with torch.no_grad():
        pose = memory.decode(Codes(codes.upper[:, 1:-1], codes.lower[:, 1:-1]))
        close(pose, g["pose_decoded"])
    rewards = reward(pose, beats[:, 8:232], 8, RewardConfig())["reward"]
    np.testing.assert_array_equal(rewards, g["rewards"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999))
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        features = model.gpt.base(music[:, 1:], Codes(codes.upper[:, :-1], codes.lower[:, :-1]))
    actions = Codes(codes.upper[:, 1:-1], codes.lower[:, 1:-1])
    for step in range(4):
        prefix = f"{idle}_s{step}"
        values = model.values(features)
        error = td_error(rewards, values)
        close(values, g[f"{prefix}_values"])
        close(error, g[f"{prefix}_td"])
        logits = model.policy(first_steps(features, 28))
        upper, lower = code_losses(logits, actions)
        close(upper + lower, g[f"{prefix}_nll"])
        close(policy_entropy(logits), g[f"{prefix}_entropy"])
        policy_turn = str(g[f"{prefix}_kind"]) == "actor"
        loss = policy_loss(upper + lower, error, mask) if policy_turn else value_loss(error)
        close(loss, g[f"{prefix}_loss"])
        optimizer.zero_grad(set_to_none=idle == "none")
        loss.backward()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step()
        moved = {"base": 0.0, "head": 0.0, "value": 0.0}
        for name, parameter in model.named_parameters():
            part = "value" if name.startswith("value") else name.split(".")[1]
            moved[part] += (parameter.detach() - before[name]).square().sum().item()
        np.testing.assert_allclose(np.sqrt(list(moved.values())), g[f"{prefix}_group_change"], rtol=2e-3)
    if idle == "none":
        after = tensors("ac_update_weights_after4.npz")
        base = {k: v for k, v in tensors("gptac_small_weights.npz").items() if k not in after}
        for key, value in gpt_from_published({**base, **after}).items():
            difference_ = (model.state_dict()[key] - value).abs()
            if key.endswith(
                "qkv.bias"
            ):  # a key's bias has no effect: its gradient is rounding, which Adam magnifies
                query, _, values = difference_.chunk(3)
                difference_ = torch.cat([query, values])
            assert difference_.max() < 1e-4  # of 4 steps of 1e-4
            assert difference_.quantile(0.99) < 2e-6
        assert any(not torch.equal(start[n], p) for n, p in model.named_parameters())
