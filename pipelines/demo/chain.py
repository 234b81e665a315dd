"""The demo: voices, noises and rooms are made, and every job of ssiforge runs on them, each with its real command."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from manifests.sample import SampleRecord
from pipelines.built_in.noises import write_noises
from pipelines.built_in.voices import write_voices

SAMPLES = 260
SEED = 7
RERENDERED = 8
SHOWN = 12
STAGES = ("teacher", "student", "denoiser", "joint")
CAVEAT = (
    "Synthetic voices and a few minutes of training make a demonstration, not a product: the scores show that the\n"
    "chain works from end to end, and say nothing about real speech. See the README for a first real corpus."
)


def demo(out: Path, say: Callable[[str], None]) -> None:
    """Run the chain in `out`; running again goes on where it was interrupted.

    Args:
        out: folder for everything, MLflow's store included (unless `MLFLOW_TRACKING_URI` names another).
        say: receives lines for people.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(out / 'mlflow.db').resolve()}")
    say(CAVEAT)
    catalogue = _material(out, say)
    corpus = _corpus(out, catalogue, say)
    _step(
        say,
        f"train: {', '.join(STAGES)} of experiment 'tiny'",
        "ssiforge train tiny --corpus CORPUS --resume",
    )
    from pipelines.trainer.train import train

    run = out / "run"
    models = train("tiny", corpus, resume=True, out=run, device="cpu", say=say)
    references = [str(run / stage / "model") for stage in STAGES]
    _step(
        say,
        "evaluate: held-out talker, noises and rooms",
        "ssiforge evaluate --model MODEL ... --corpus CORPUS",
    )
    from pipelines.evaluation.evaluate import evaluate
    from pipelines.evaluation.table import print_evaluation

    evaluation = evaluate(references, out / "evaluation", corpus=corpus, say=say)
    enhanced = _enhance(out, corpus, references[-1], say)
    _step(say, "lineage: from the joint model back to its sources", "ssiforge lineage MODEL")
    from pipelines.lineage.answer import lineage
    from pipelines.lineage.tree import print_lineage

    print_lineage(lineage(references[-1], corpora=[corpus]))
    print_evaluation(evaluation, by_condition=False)
    print(f"done in {(time.monotonic() - began) / 60.0:.1f} minutes; open:")
    from pipelines.report.corpus_report import REPORT_FILE

    for what, path in {
        "corpus": corpus,
        "page of the corpus": corpus / REPORT_FILE,
        "one row a sample": corpus / "samples.parquet",
        "models": run,
        "scores in full": out / "evaluation",
        "before and after": enhanced,
        "pages and runs": f"MLFLOW_TRACKING_URI={os.environ['MLFLOW_TRACKING_URI']} ssiforge ui",
    }.items():
        print(f"  {what:<20}{path}")
    print(f"  {'joint model':<20}{models['joint'].id if 'joint' in models else references[-1]}")
    print(CAVEAT)


def _step(say: Callable[[str], None], title: str, command: str) -> None:
    say(f"\n== {title}\n   $ {command}")


def _material(out: Path, say: Callable[[str], None]) -> Path:
    _step(
        say,
        "scan: voices of eSpeak NG and generated noises",
        "ssiforge scan --speech DIR --noise DIR --out CATALOGUE",
    )
    list(write_voices(out / "speech"))
    list(write_noises(out / "noise"))
    from pipelines.scanning.scan import scan
    from pipelines.scanning.summary import print_summary

    roots = {"speech": [str(out / "speech")], "noise": [str(out / "noise")]}
    print_summary(scan(roots, out / "sources.parquet", licence="CC0-1.0 (synthetic)"))  # type: ignore[arg-type]
    return out / "sources.parquet"


def _corpus(out: Path, catalogue: Path, say: Callable[[str], None]) -> Path:
    _step(
        say,
        f"generate: {SAMPLES} samples of recipe 'demo'",
        f"ssiforge generate demo --sources CATALOGUE --out CORPUS --samples {SAMPLES} --seed {SEED}",
    )
    from pipelines.generation.generate import generate
    from pipelines.generation.local_processes import LocalProcesses
    from pipelines.verify import verify

    corpus = out / "corpus"
    done = generate("demo", catalogue, corpus, LocalProcesses(2), samples=SAMPLES, seed=SEED, say=say)
    say(f"corpus {done.manifest.id}: {done.manifest.hours:.2f} h in {done.seconds:.0f} s")
    _step(
        say, "verify: hash, look for leaks, render again", f"ssiforge verify CORPUS --rerender {RERENDERED}"
    )
    found = verify(corpus, RERENDERED, say=say)
    for problem in found.problems:
        say(problem)
    _step(say, "report: what is in it, to see and to hear", f"ssiforge report CORPUS --samples {SHOWN}")
    from pipelines.report.corpus_report import write_report

    write_report(str(corpus), None, None, SHOWN, say)
    return corpus


def _enhance(out: Path, corpus: Path, model: str, say: Callable[[str], None]) -> Path:
    from manifests.corpus import open_corpus
    from pipelines.enhancement.enhance import enhance

    _step(say, "enhance: the worst held-out sample", "ssiforge enhance INPUT OUTPUT --model MODEL")
    folder = out / "listen"
    folder.mkdir(exist_ok=True)
    opened = open_corpus(corpus)
    samples = [(shard, sample.members) for shard in opened.of("test") for sample in shard.samples]
    shard, members = max(samples, key=lambda each: _severity(opened.read(each[0], each[1]["json"])))
    for name in ("degraded.flac", "target.flac"):
        (folder / name).write_bytes(opened.read(shard, members[name]))
    enhance(folder / "degraded.flac", folder / "enhanced.wav", model, say=say)
    return folder


def _severity(described: bytes) -> float:
    """How bad a sample is on all axes together, 0 to 5."""
    return sum(SampleRecord.model_validate_json(described).severity.values())
