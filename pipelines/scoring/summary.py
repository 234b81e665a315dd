"""What `ssiforge score` prints."""

from manifests.store import Place
from pipelines.scoring.score import Scores
from pipelines.scoring.table import SCORES_FILE


def print_scores(place: Place, scores: Scores) -> None:
    """Print what was done, how the scores are spread, and what is null and why."""
    print(f"{place}: {scores.samples} samples of corpus {scores.corpus_id} are scored in {SCORES_FILE}")
    print(f"  {scores.scored_shards} shards scored, {scores.kept_shards} kept")
    for name, (low, middle, high) in scores.columns.items():
        print(f"  {name:20} median {middle:8.3f}, 5 % below {low:8.3f}, 5 % above {high:8.3f}")
    for failure, count in scores.failures.items():
        print(f"  null {count} times - {failure}")
