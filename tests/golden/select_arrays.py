"""Select and pack the golden arrays that the tests read, from the full recordings.

    python -m tests.golden.select_arrays FOLDER            # writes tests/golden/*.npz
    python -m tests.golden.select_arrays FOLDER --check    # compares them with the full recordings

Nothing is computed here: a file holds arrays of the recordings as they are, or values or rows of them whose
key says so (`_sample`: `tests.packing.sample`; `_rows`: every 16th frame at 60 fps, every 4th at 7.5). Only
outputs are
sampled, whose values a test compares one by one.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.helpers import golden
from tests.packing import Arrays, pack, sample, write

HERE = Path(__file__).resolve().parent
OUTPUTS, CODEBOOK, WEIGHTS = 2048, 1024, 64  # values kept of each array
EVERY_WINDOW = 4  # of those a hop of 8 apart
POSE_INPUTS, MUSIC_INPUTS = "vq_small_eval.npz", "gptac_small_vectors.npz"
FRAME_INPUTS = "pp_gptmwac_small_vectors.npz"
CLIPS = 6  # of eight
PFC_JOINTS = [0, 7, 8, 10, 11]
MODELS = (
    "SepVQVAE", "SepVQVAER", "CrossCondGPT2", "CrossCondGPT2AC", "CrossCondGPT2AC_demo",
    "pp_SepVQVAERmix", "pp_SepVQVAERmix_acrotmat",
    "pp_CrossCondGPT2MW", "pp_CrossCondGPT2MWAC", "pp_CrossCondGPT2MWAC_rotmat",
)  # fmt: skip
UPPER = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)  # joints of the upper half
LOSSES = "(recons_loss|velocity_loss|acceleration_loss|commit_loss)$"

Full = Callable[[str], Arrays]
Selected = tuple[Arrays, dict[str, str]]


def keep(arrays: Mapping[str, np.ndarray], *patterns: str) -> Arrays:
    """Arrays whose name matches one of the patterns from its start, in their order."""
    return {k: v for k, v in arrays.items() if any(re.match(p, k) for p in patterns)}


def sampled(arrays: Mapping[str, np.ndarray], number: int, *patterns: str) -> Arrays:
    """Samples of such arrays, named KEY_sample."""
    return {f"{k}_sample": sample(v, number) for k, v in keep(arrays, *patterns).items()}


def same_keys(arrays: Arrays, file: str, *patterns: str) -> dict[str, str]:
    """Another file's arrays of the same names as bases."""
    return {key: f"{file}:{key}" for key in keep(arrays, *(patterns or (".",)))}


def weights(full: Full, name: str) -> Selected:
    arrays = full(name)
    larger = {"vq_small": "vqr_small", "gpt_small": "gptac_small", "pp_gptmw_small": "pp_gptmwac_small"}.get(
        name.removesuffix("_weights.npz")
    )
    return arrays, same_keys(arrays, f"{larger}_weights.npz") if larger else {}


def memory_eval(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(g, "x", "codes", "rand_codes", "eval_loss", f"eval_metric_.*{LOSSES}")
    arrays |= sampled(g, OUTPUTS, "emb_", "decode$", "rand_decode", "rand_world")
    return arrays, {} if name == POSE_INPUTS else same_keys(arrays, POSE_INPUTS, "x")


def memory_training(full: Full, name: str) -> Selected:
    g = full(name)
    names = [g[key] for key in g if key.endswith("gradnorm_names")]
    assert all(np.array_equal(other, names[0]) for other in names)
    arrays = keep(g, r"s\d_x", r"s\d_loss", r"s\d_draw", r"s\d_gradnorm$", "opt", "s0_gradnorm_names")
    arrays |= keep(g, rf"s\d_metric_.*{LOSSES}") | sampled(g, OUTPUTS, r"s\d_out")
    if not name.startswith("vqr"):
        arrays |= keep(g, r"s\d_k_", r"s\d_kelem", r"s\d_restarted") | sampled(g, CODEBOOK, r"s\d_ksum")
    bases = {"s0_x": f"{POSE_INPUTS}:x"}
    if name != "vq_small_train_fresh.npz":
        bases |= {key: f"vq_small_train_fresh.npz:{key}" for key in ("s1_x", "s2_x")}
    return arrays, bases


def rotation_weights(full: Full, name: str) -> Selected:
    """Encoder, codebook and rotation decoder of the upper half; the encoder is that of `vqr_small`."""
    arrays = keep(full(name), r"module\.vqvae_up\.(encoders|bottleneck|decoders_rot)")
    return arrays, same_keys(arrays, "vqr_small_weights.npz", r".*encoders")


def rotation_vectors(full: Full, name: str) -> Selected:
    """Codes and decoded matrices of the upper half; the poses are the first of `vq_small_eval`."""
    g = full(name)
    matrices = g["decode"][..., 3:].reshape(*g["decode"].shape[:2], 24, 9)[..., UPPER, :]
    return keep(g, "codes_up") | {"decode_upper_sample": sample(matrices, OUTPUTS)}, {}


def weights_after(full: Full, name: str) -> Selected:
    return {key: sample(value, WEIGHTS) for key, value in full(name).items()}, {}


def gpt_vectors(full: Full, name: str) -> Selected:
    g, inputs = full(name), FRAME_INPUTS if name.startswith("pp_") else MUSIC_INPUTS
    arrays = keep(g, "b_cond") | keep(
        g, "idx", "target", "music$", "logits", "loss", "._x0", "._codes", "._win_tokens", "b_cond", "s_cond"
    )
    arrays |= sampled(g, OUTPUTS, "base_feat", "music_emb")
    if name == inputs:
        arrays |= keep(g, "critic_values", "actor_logits_up", "actor_nll", "actor_entropy")
        return arrays, {"s_cond": ":b_cond"}
    arrays |= keep(g, r"s_shift\d+_(codes|win_tokens)", "adam_losses", "gradnorm", "nograd", "opt")
    return arrays, same_keys(arrays, inputs, "music", "._cond", "logits", "base_feat_sample")


def actor_critic(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(g, "music", "codes", "beat60", "mask", "rewards")
    arrays |= keep(g, r"(none|zero)_s\d_(kind|loss|td|values|nll|entropy|group_change)$")
    return arrays | sampled(g, OUTPUTS, "pose_decoded"), {}


def float64(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(g, r"vqr?_small_(codes|eval_loss)", "gptac_small_(loss|critic)")
    return arrays | sampled(g, OUTPUTS, r"vqr?_small_decode", "gptac_small_logits"), {}


def loader(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(
        g, r"clip\d_music75", r"(vq_move40|root_move8)_n$", r"vq_move40_(first|last)_pose", "gpt_ext"
    )
    arrays |= {f"{k}_rows": v[::EVERY_WINDOW] for k, v in keep(g, r"root_move8_(first|last)_pose").items()}
    arrays |= keep(g, "test_.*_len")
    for key, poses in keep(
        g, r"clip\d_pose"
    ).items():  # windows start at multiples of 8 and end 239 frames later
        frame = np.arange(len(poses))[:, None]
        arrays[key] = np.where((frame % 8 == 0) | (frame % 8 == 7) | (frame == len(poses) - 1), poses, 0)
    arrays["music60_len"] = np.array([len(g[f"clip{i}_music60"]) for i in range(3)])
    return arrays, {}


def clips(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(
        g, "positions", "kin_", "man_", "ba_motion", "ba_scores", "ba_mean", "fact_", "music_", "pfc"
    )
    read = np.zeros_like(arrays["pfc_positions_zup_30fps"])
    read[:, :, PFC_JOINTS] = arrays["pfc_positions_zup_30fps"][:, :, PFC_JOINTS]
    return arrays | {"pfc_positions_zup_30fps": read}, {}


def distances(full: Full, name: str) -> Selected:
    names = "fid|fid_unnormalised|fid_eig|div_pred|div_gt|norm_pred"
    arrays = keep(full(name), "gt_", "pred_", f"(kinetic|manual)_({names})$")
    return {
        k: v.real for k, v in arrays.items()
    }, {}  # two distances are complex numbers there, of no imaginary part


def rewards(full: Full, name: str) -> Selected:
    return {k: v for k, v in full(name).items() if not k.startswith("trap")}, {}


def windows(full: Full, name: str) -> Selected:
    return full(name), {}


def sounds(full: Full, name: str) -> Selected:
    return keep(full(name), "wav_int16", "mono"), {}


def music(full: Full, name: str) -> Selected:
    g = full(name)
    arrays = keep(g, "beats_(mono|native)")
    for source, every in (("mono_30720", 16), ("mono_3840", 4)):
        arrays[f"feat_{source}_rows"] = g[f"feat_{source}"][::every]
    for source in ("mono_30720", "native_3840"):
        arrays[f"onset_{source}"] = g[f"feat_{source}"][:, 52]
    return arrays, {}


def published_keys(folder: Path) -> Arrays:
    """Names, shapes and kinds of the full-size checkpoints' entries, in their order."""
    arrays: Arrays = {}
    for model in MODELS:
        rows = json.loads((folder / f"{model}_keys.json").read_text())["keys"]
        assert {row["dtype"] for row in rows} == {"float32"}
        arrays[f"{model}_keys"] = np.array([row["key"] for row in rows])
        arrays[f"{model}_shapes"] = np.array([" ".join(map(str, row["shape"])) for row in rows])
        arrays[f"{model}_buffers"] = np.array([row["buffer"] for row in rows])
    return arrays


SELECTION: dict[str, Callable[[Full, str], Selected]] = {  # a base comes before what is based on it
    "vqr_small_weights.npz": weights,
    "vq_small_weights.npz": weights,
    "pp_mix_small_weights.npz": rotation_weights,
    "pp_mix_small_vectors.npz": rotation_vectors,
    "gptac_small_weights.npz": weights,
    "gpt_small_weights.npz": weights,
    "vq_small_eval.npz": memory_eval,
    "vqr_small_eval.npz": memory_eval,
    "vq_small_train_fresh.npz": memory_training,
    "vq_small_train_restored.npz": memory_training,
    "vq_small_n_train_restored_n.npz": memory_training,
    "vqr_small_train_fresh.npz": memory_training,
    "vq_small_train_fresh_weights_after3.npz": weights_after,
    "vq_small_train_restored_weights_after3.npz": weights_after,
    "vq_small_n_train_restored_n_weights_after3.npz": weights_after,
    "vqr_small_train_fresh_weights_after3.npz": weights_after,
    "gptac_small_vectors.npz": gpt_vectors,
    "gpt_small_vectors.npz": gpt_vectors,
    "pp_gptmwac_small_weights.npz": weights,
    "pp_gptmw_small_weights.npz": weights,
    "pp_gptmwac_small_vectors.npz": gpt_vectors,
    "pp_gptmw_small_vectors.npz": gpt_vectors,
    "ac_update_vectors.npz": actor_critic,
    "ac_update_weights_after4.npz": weights_after,
    "float64_vectors.npz": float64,
    "loader_vectors.npz": loader,
    "metrics_clips.npz": clips,
    "metrics_fid.npz": distances,
    "reward_vectors.npz": rewards,
    "rl_windows_vectors.npz": windows,
    "audio_inputs.npz": sounds,
    "audio_features_librosa011.npz": music,
    "audio_features_librosa081.npz": music,
}


def main() -> int:
    """Run the command; return 1 if --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="full recordings")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()

    @lru_cache
    def full(name: str) -> Arrays:
        with np.load(options.folder / name, allow_pickle=False) as file:
            return dict(file)

    wrong = 0
    for name in [*SELECTION, "published_keys.npz"]:
        if name in SELECTION:
            arrays, bases = SELECTION[name](full, name)
        else:
            arrays, bases = published_keys(options.folder), {}
        if not options.check:
            write(HERE / name, pack(arrays, bases, lru_cache(golden)))
            print(f"{(HERE / name).stat().st_size:9,} {name}")
        packed = golden(name)
        for key, value in arrays.items():
            other = packed[key]
            if value.dtype != other.dtype or value.shape != other.shape or value.tobytes() != other.tobytes():
                print(f"{name}: {key} differs")
                wrong += 1
    size = sum(path.stat().st_size for path in HERE.iterdir() if path.is_file())
    print(f"{size:9,} bytes in all; {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
