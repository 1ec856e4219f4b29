"""Start a command in several processes: torch's launcher, with exit statuses that say how training ended.

    python -m utils.training.launch [options of torch.distributed.run] main.py --config FILE --train

SIGTERM, SIGINT, SIGHUP and SIGUSR1 are handed on to the processes, which save and end. Exit statuses are
those of one process: 130 after Ctrl-C and 75 after another signal, without the launcher's traceback; 2 where
a process names what must be corrected; else 1.
"""

import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, parse_args, run

from utils.training.preemption import AGAIN, INTERRUPTED

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 110  # seconds for saving; Slurm leaves 120 before a time limit


def stop_options(known: Sequence[str]) -> list[str]:
    """Options for signals and patience, of those that the installed launcher knows (torch 2.6 has none)."""
    wanted = {
        "--signals-to-handle": ",".join(number.name for number in HANDED_ON),
        "--shutdown-timeout": str(PATIENCE),
    }
    return [word for option, value in wanted.items() if option in known for word in (option, value)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = stop_options([word for action in get_args_parser()._actions for word in action.option_strings])
    if "--signals-to-handle" not in options:
        signal.signal(signal.SIGUSR1, _stop)  # the launcher itself handles the others
    try:
        run(parse_args([*options, *given]))
    except SignalException as stop:
        return INTERRUPTED if stop.sigval == signal.SIGINT else AGAIN
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode in (2, AGAIN, INTERRUPTED):
            return first.exitcode  # the process has said why
        print(error, file=sys.stderr)
        return 1
    return 0


def _stop(number: int, frame: object) -> None:
    raise SignalException(f"stopped by {signal.Signals(number).name}", sigval=signal.Signals(number))


if __name__ == "__main__":
    sys.exit(main())
