"""Trains, evaluates and looks at every stage of the method, as one YAML config says.

    python main.py --config configs/sep_vqvae.yaml --train
    python main.py --config configs/actor_critic.yaml --eval
    python main.py --config configs/sample/cc_motion_gpt.yaml --train training.lr=1e-4 seed=1
    python main.py --config configs/actor_critic.yaml --dance SONG [SONG ...] [--out DIR]

Modes: --train (goes on where it stopped), --eval (metrics, motions, videos, pages), --visgt (videos of the
real dances), --anl (what the codebooks hold), --sample (a video of given or random codes), --dance (dances to
sound files and folders of them; exit code 1 if some could not be danced to). `key.sub=value` after the flags
overrides the config.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch

from models.stages import STAGES, RunConfig, Stage, read_config
from utils import distributed
from utils.config import write_yaml
from utils.signals import Stopped

MODES = {
    "train": "train the config's stage, going on from its newest checkpoint",
    "eval": "metrics, motions and videos of the trained stage",
    "visgt": "videos of the real dances",
    "anl": "usage and pictures of the memory's codes",
    "sample": "a video of given or random codes",
    "dance": "dance to songs: sound files, or folders of them",
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file in configs/")
    modes = parser.add_mutually_exclusive_group(required=True)
    for mode, text in MODES.items():
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=text)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.add_argument("--out", type=Path, help="of --dance: folder of what is made (<run folder>/dance)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of the config; with --dance also songs"
    )
    options = parser.parse_intermixed_args(arguments)
    options.songs = []
    if options.mode == "dance":
        given = options.overrides
        options.songs = [text for text in given if "=" not in text or Path(text).exists()]
        options.overrides = [text for text in given if text not in options.songs]
    elif options.out is not None:
        parser.error("--out goes with --dance only; elsewhere the key `output` says where runs lie")
    return options


def run(config: RunConfig, mode: str) -> None:
    """Builds the stage and does what the mode says."""
    from models.stages import looking
    from utils.trainer import Trainer, seed_everything

    seed_everything(config.seed)
    device = distributed.device(config.device)
    if mode not in ("train", "eval") and not distributed.is_main():
        return  # one process is enough to look
    if mode == "visgt":
        looking.show_real(config)
        return
    stage: Stage = STAGES[config.stage](config, device)
    if mode == "train":
        trainer = Trainer(stage, config.training, config.folder, config.made_by(config.checkpoint_path))
        trainer.resume()
        if distributed.is_main():
            config.folder.mkdir(parents=True, exist_ok=True)
            write_yaml(config, config.folder / "config.yaml")
        trainer.run()
        return
    epoch = stage.load()
    folder = config.folder / mode / f"epoch_{epoch:04d}"
    if mode == "eval":
        stage.evaluate(folder)
    elif mode == "anl":
        looking.analyse_codes(stage, folder)
    else:
        looking.decode_codes(stage, folder)


def dance_to(config: RunConfig, songs: list[str], out: Path | None) -> int:
    """Dances to songs, in one process; returns the exit code."""
    from models.stages import dancing

    if not distributed.is_main():
        return 0
    return dancing.dance(config, songs, distributed.device(config.device), out)


def main(arguments: list[str] | None = None) -> int:
    """Runs; what the user can mend ends with one line and exit code 2."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = read_config(options.config, options.overrides)
        distributed.start(config.device)
        if not distributed.is_main():
            logging.disable(logging.INFO)
        if options.mode == "dance":
            return dance_to(config, options.songs, options.out)
        run(config, options.mode)
    except (ValueError, FileNotFoundError) as error:
        if options.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        goes_on = "; --train goes on from the last checkpoint" if options.mode == "train" else ""
        print(f"stopped{goes_on}", file=sys.stderr)
        return 130
    finally:
        distributed.stop()
    return 0


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    sys.exit(main())
