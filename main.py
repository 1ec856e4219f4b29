"""Trains, evaluates and looks at every stage of the method, as one YAML config says.

    python main.py --config configs/sep_vqvae.yaml --train
    python main.py --config configs/actor_critic.yaml --eval
    python main.py --config configs/sample/cc_motion_gpt.yaml --train training.lr=1e-4 seed=1
    python main.py --config configs/actor_critic.yaml --dance SONG [SONG ...] [--out DIR]

`key.sub=value` after the flags overrides the config; docs/CONFIG.md explains every key. Exit codes: 0; 1 if
--dance could not make some dance or file; 2 if the command, the config or a file must be corrected first; 130
or 75 if it was stopped.

Often used with --dance, anywhere after the flags:

  dance.formats=[mp4,html]        files beside the .npz: bvh, glb, smpl, mp4, html (all)
  dance.video_height=1080         height of the video in pixels (540)
  dance.variants=3                dances to each song; needs a temperature above 0
  dance.temperature=0             take the most probable codes, as published, which may stand still
  generation.top_p=0.9            draw from the codes that hold 90 % of the probability
  generation.seed=1               other draws
  generation.window=hop           about a fifth of the work of the default window
  generation.precision=bf16       faster on most processors
  generation.compile=true         faster after half a minute: for long songs, and many
  dance.start=beat                stand still until the first beat of the song
  dance.opening=FILE.npz          start from a motion, or from codes: dance.opening=[[3,14],[15,9]]
  dance.lock_lower=FILE.npz       take the legs from another dance; likewise dance.lock_upper
  dance.footlock=true             hold planted feet in place
  dance.bpm=160                   the tempo of the song, if another one was found
  dance.beats=FILE                beats of the song: mir_eval, Audacity or JSON
  device=cpu                      cpu, cuda, cuda:1

The tempo found in a song (in BPM; unsteady if it varies) is printed, and is on the card and the page of each
dance and in its .npz. Dances are composed in batches of eight; finished ones are in the folder and in its
index.html while the rest is made.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.stages.base import RunConfig

MODES = {
    "train": "train the config's stage, going on from its newest checkpoint",
    "eval": "metrics, motions and videos of the trained stage",
    "visgt": "videos of the real dances",
    "anl": "usage and pictures of the memory's codes",
    "sample": "a video of given or random codes",
    "dance": "generate dances to songs: sound files, or folders of them; unreadable ones are left out",
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


def run(config: "RunConfig", mode: str) -> None:
    """Builds the stage and does what the mode says."""
    from models.stages.registry import STAGES
    from utils.training import distributed
    from utils.training.trainer import seed_everything

    seed_everything(config.seed)
    device = distributed.device(config.device)
    if mode not in ("train", "eval") and not distributed.is_main():
        return  # one process is enough to look
    if mode == "visgt":
        from models.evaluation.videos import show_real

        show_real(config)
        return
    stage = STAGES[config.stage](config, device)
    if mode == "train":
        from utils.config import write_yaml
        from utils.training.checkpoints import run_folder
        from utils.training.trainer import Trainer

        made_by = config.made_by(config.checkpoint_path)
        with run_folder(config.folder):
            trainer = Trainer(stage, config.training, config.folder, made_by, config.seed)
            trainer.resume()
            if distributed.is_main():
                write_yaml(config, config.folder / "config.yaml")
            trainer.run()
        return
    epoch = stage.load()
    if mode == "eval":
        stage.evaluate(stage.evaluation_folder(epoch))
        return
    folder = config.folder / mode / f"epoch_{epoch:04d}"
    if mode == "anl":
        from models.evaluation.codebooks import analyse

        analyse(stage.memory, stage.data, "train", folder)
    else:
        from models.evaluation.videos import show_codes

        show_codes(stage, folder)


def dance_to(config: "RunConfig", songs: list[str], out: Path | None) -> int:
    """Generate dances to songs, in one process; returns the exit code."""
    from models.inference.dance import dance
    from utils.training import distributed

    if not distributed.is_main():
        return 0
    return dance(config, songs, distributed.device(config.device), out)


def main(arguments: list[str] | None = None) -> int:
    """Runs; what the user can mend ends with one line and exit code 2."""
    from utils.terminal import tolerant_output

    tolerant_output()
    options = parse_arguments(arguments)
    # Imported here as torch takes a second: --help and a wrong command line need not wait for it.
    from models.stages.registry import read_config
    from utils.training import distributed
    from utils.training.precision import set_up_arithmetic
    from utils.training.preemption import Stopped

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = read_config(options.config, options.overrides)
        distributed.start(config.device)
        set_up_arithmetic()
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
    sys.exit(main())
