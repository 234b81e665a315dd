"""`ssiforge report REF`: what REF is, a corpus, a run or an evaluation, decides which page is written."""

import re
from collections.abc import Callable
from pathlib import Path

from manifests.errors import UserError
from manifests.store import is_remote
from pipelines.evaluation.records import is_evaluation
from pipelines.report.corpus_report import write_report
from pipelines.report.run import Sources, report_evaluation, report_of_id, report_run
from pipelines.trainer.run_records import is_run
from training.bundle_info import is_bundle

_RUN_ID = re.compile(r"(runs:/)?[0-9a-f]{32}")


def report_on(
    reference: str,
    out: Path | None,
    against: str | None,
    samples: int,
    more: Sources,
    say: Callable[[str], None],
) -> tuple[str, int]:
    """Write the page of what a reference means; return where it is, and its size in bytes.

    Args:
        reference: folder or URI of a corpus, folder of a run or of an evaluation, or a run's id in MLflow.
        out: folder of the page; the default is beside what it is about.
        against: of a corpus alone: what it is compared with.
        samples: of a corpus alone: how many are shown, at most.
        more: of a run, or of an evaluation: what else belongs to it.
        say: receives lines for people.

    Raises:
        UserError: when the reference is none of these, or is asked for what it has not.
    """
    place = Path(reference)
    local = not is_remote(reference)
    by_id = bool(_RUN_ID.fullmatch(reference)) and not place.exists()
    is_of_run = local and is_run(place)
    is_of_evaluation = local and is_evaluation(place)
    if not (by_id or is_of_run or is_of_evaluation):
        if more != Sources():
            raise UserError(
                f"--evaluation and --export belong to a run or an evaluation, and {reference} is none"
            )
        if local and not place.exists():
            raise UserError(f"{reference}: neither a folder nor the id of a run")
        if local and place.is_file():
            raise UserError(f"{reference}: is a file; give the folder of a corpus, a run or an evaluation")
        if local and is_bundle(place):
            raise UserError(f"{reference}: is a model; give its run: RUN or RUN/STAGE of RUN/STAGE/model")
        return write_report(reference, out, against, samples, say)
    if against is not None:
        raise UserError(f"--against compares a corpus, and {reference} is none")
    if by_id:
        page = report_of_id(reference, out, more)
    else:
        page = report_evaluation(place, out, more) if is_of_evaluation else report_run(place, out, more)
    return str(page), page.stat().st_size
