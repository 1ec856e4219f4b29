"""Names, speeds and tables in TensorBoard; logging changes no loss and synchronises with no device."""

import traceback

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.stages import synthetic
from utils.training.logger import markdown_table

ROWS = {"real": {"FID_k": 0.0, "BAS": 0.25}, "GPT": {"FID_k": 12.5, "joint_error_mm": 3.0, "note": "x"}}


OWN = {"actor_critic": {"reward": {"consistency": 1.0}, "selection": {"by": "reward"}}}
HALVES = ("upper", "lower")
LOSSES = ("reconstruction", "velocity", "acceleration", "commitment")  # as in the YAML
HEALTH = ("used_codes", "dead_codes", "perplexity", "restarted_codes")
TOLD: dict[str, dict[str, set[str]]] = {
    "sep_vqvae": {
        "train": {"loss", "lr", "restarted_codes"}
        | {f"{what}_{half}" for what in (*LOSSES, "used_codes", "perplexity") for half in HALVES},
        "epoch": {f"{what}_{half}" for what in HEALTH for half in HALVES},
    },
    "sep_vqvae_root": {"train": {"loss", "lr", "velocity", "acceleration"}, "epoch": set()},
    "sep_vqvae_root_mix": {
        "train": {"loss", "lr"} | {f"{what}_{half}" for what in LOSSES[:3] for half in HALVES},
        "epoch": set(),
    },
    "motion_gpt": {"train": {"loss", "lr", "cross_entropy_upper", "cross_entropy_lower"}, "epoch": set()},
    "actor_critic": {
        "train": {
            "lr",
            "policy_loss",
            "value_loss",
            "explained_variance",
            "td_error",
            "entropy",
            "kl_to_gpt",
        },
        "epoch": {"judged_reward", "nll", "best_epoch", "reward", "beat_reward", "consistency"}
        | {"recall", "precision", "energy", "spread"},
    },
}


def events(folder):
    found = EventAccumulator(str(folder / "logs"), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    found.Reload()
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """All stages trained with everything on, and their losses."""
    root = tmp_path_factory.mktemp("told")
    synthetic.make_data(root / "data")
    losses = {}
    for name in synthetic.ORDER:
        more: dict = {"log_every": 1, "eval_every": 1}
        trainer, losses[name] = synthetic.make_trainer(
            name, root / "data", root, epochs=2, own=OWN.get(name), **more
        )

        def evaluate(folder):
            torch.rand(3)  # draws in an evaluation do not change the training
            return ROWS

        trainer.stage.evaluate = evaluate
        trainer.run()
    return root, losses


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_everything_has_its_curve(name, told):
    found = events(told[0] / name)
    tags = set(found.Tags()["scalars"])
    expected = {f"speed/{what}_per_second" for what in ("steps", "samples")}
    expected |= {"eval/real/FID_k", "eval/GPT/joint_error_mm"}
    assert expected <= tags, expected - tags
    assert [event.step for event in found.Scalars("eval/real/FID_k")] == [1, 2]  # the last epoch too
    for part in ("train", "epoch"):
        assert {tag for tag in tags if tag.startswith(part)} == {f"{part}/{tag}" for tag in TOLD[name][part]}
    steps, samples = (found.Scalars(f"speed/{what}_per_second")[3].value for what in ("steps", "samples"))
    assert samples == pytest.approx(steps * synthetic.TRAINING[name]["batch_size"])


def test_codes_in_use_have_a_perplexity(told):
    found = events(told[0] / "sep_vqvae")
    for half in HALVES:
        curves = (found.Scalars(f"train/{what}_{half}") for what in ("used_codes", "perplexity"))
        for used, perplexity in zip(*curves, strict=True):
            assert 1 <= perplexity.value <= used.value + 1e-3 <= 24.1


def test_telling_changes_no_loss(told, tmp_path):
    root, losses = told
    for name in synthetic.ORDER:
        more: dict = {"before": root, "epochs": 2, "own": OWN.get(name)}
        trainer, plain = synthetic.make_trainer(name, root / "data", tmp_path, **more)
        trainer.run()
        assert plain == losses[name]


def test_an_evaluation_is_shown(told):
    found = events(told[0] / "motion_gpt")
    table = found.Tensors("eval/table/text_summary")[-1]
    assert table.tensor_proto.string_val[0].decode() == markdown_table(ROWS)
    assert markdown_table(ROWS).splitlines()[2:] == ["| real | 0 | 0.25 |  |", "| GPT | 12.5 |  | 3 |"]


class Fetches(TorchDispatchMode):
    """Notes where a number is fetched from a tensor, which waits for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "masked_select")
        if function.overloadpacket.__name__ in waits:
            lines = [frame.line or "" for frame in traceback.extract_stack()]
            if not any("F.one_hot(" in line for line in lines):  # which looks at its input on processors only
                self.found.append((function, lines[-6:]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_no_step_waits_for_the_device(name, told, tmp_path):
    """Forward and backward fetch nothing; losses and logs stay tensors."""
    root, _ = told
    trainer, _ = synthetic.make_trainer(name, root / "data", tmp_path, before=root, epochs=1, log_every=1000)
    del trainer.stage.loss  # the recording of losses, which fetches them
    plain, fetches, steps = trainer._backward, Fetches(), []

    def watched(part, *more):
        steps.append(part)
        if len(steps) <= 2:  # codebooks check twice whether they are initialised
            return plain(part, *more)
        with fetches:
            loss, metrics = plain(part, *more)
        assert all(isinstance(value, torch.Tensor) for value in (loss, *metrics.values()))
        return loss, metrics

    trainer._backward = watched
    trainer.run()
    assert len(steps) >= 6
    assert not fetches.found


def test_evaluations_while_training_have_the_folders_of_eval(tmp_path):
    """An evaluation of another split has the folder that `--eval` gives it, not that of the default."""
    synthetic.make_data(tmp_path / "data")
    trainer, _ = synthetic.make_trainer("sep_vqvae", tmp_path / "data", tmp_path, epochs=1, eval_every=1)
    stage, folders = trainer.stage, []
    other = stage.config.evaluation.model_copy(update={"split": "train"})
    stage.config = stage.config.model_copy(update={"evaluation": other})
    stage.evaluate = lambda folder: folders.append(folder) or ROWS
    trainer.run()
    assert folders == [stage.evaluation_folder(1)] == [tmp_path / "sep_vqvae" / "eval" / "epoch_0001_train"]
