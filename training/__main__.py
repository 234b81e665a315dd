"""Train from a plain Python: `python -m training EXPERIMENT --corpus DIR --out RUN_DIR`.

Needs no more than this package does, so that it runs on a bare GPU machine; what it reports goes to files
in RUN_DIR. `torchrun --nproc-per-node N -m training ...` trains with N processes that share each batch.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from manifests.errors import JobError, UserError
from manifests.experiment import STAGES, chosen_stages, load_experiment
from manifests.selection import read_selection

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, 1 for a failed job, 2 for a user's mistake, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        experiment = load_experiment(options.experiment, options.settings)
        stages = chosen_stages(options.stage)
        # torch takes seconds to import: mistakes above are answered at once.
        from training.named_parents import named_parents
        from training.run import train
        from training.tracker import LineTracker

        train(
            experiment,
            options.corpus,
            options.out,
            stages,
            options.resume,
            options.device,
            [LineTracker(lambda line: print(line, flush=True))],
            read_selection(options.selection) if options.selection else None,
            named_parents(options.parents, experiment, stages),
        )
    except (UserError, JobError) as error:
        if options.debug:
            raise
        print(f"{_whose_error()}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except Exception as error:  # out of memory, disk full: --debug shows where
        if options.debug:
            raise
        print(f"{_whose_error()}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def _whose_error() -> str:
    rank = os.environ.get("RANK", "0")
    return "error" if rank == "0" else f"error on rank {rank}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train RaD-Net 2 on a corpus.")
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="a shipped name (tiny, small, paper) or a file"
    )
    parser.add_argument("--corpus", required=True, metavar="PLACE", help="folder or URI of a finished corpus")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN_DIR", help="where the run is kept")
    parser.add_argument(
        "--stage", default="all", help=f"{', '.join(STAGES)}, or all of them in order (default)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto (default)")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="A.B=C",
        help="override a field of the experiment, e.g. stages.teacher.steps=100",
    )
    parser.add_argument(
        "--selection",
        type=Path,
        metavar="FILE",
        help="use these samples alone: a file of 'ssiforge score CORPUS --keep EXPR --out FILE'",
    )
    parser.add_argument(
        "--from",
        dest="parents",
        action="append",
        default=[],
        metavar="ROLE=FOLDER",
        help="build on this model (a folder with model.json), e.g. teacher=runs/small/teacher/model; with the "
        "stage's own name begin with its weights; repeatable",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
