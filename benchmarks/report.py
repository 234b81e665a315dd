"""What the page of a large corpus costs: `ssiforge report` of 100,000 samples, in a process of its own.

    python benchmarks/report.py [--rows 100000] [--recipe ssi48k] [--rendered 320]

So many samples of the recipe are rendered from built-in voices; the table is then made long by drawing its rows again
and again, with talkers and measured values moved a little, so that charts and choices see as many different values as
in a corpus of that size. Each row still names the shard that holds its sample. A rendered corpus of that size would
take 100,000 x 0.7 MB; the page reads the table, and the shards of the samples that it shows, and nothing else.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from demo_material import ANY_BANDWIDTH, demo_sources

from manifests.corpus import CORPUS_FILE, SAMPLES_FILE, read_manifest
from pipelines.corpus.table import ROWS_AT_A_TIME
from pipelines.generation.generate import generate
from pipelines.generation.local_processes import LocalProcesses

MB = 1e6
TALKERS = 2_000


def lengthen(corpus: Path, rows: int) -> None:
    """Make the table of a corpus say that it holds so many samples, and its manifest as well."""
    rng = np.random.default_rng(0)
    held = pq.read_table(corpus / SAMPLES_FILE)
    with pq.ParquetWriter(corpus / f"{SAMPLES_FILE}.long", held.schema) as writer:
        for begin in range(0, rows, ROWS_AT_A_TIME):
            some = held.take(rng.integers(0, len(held), min(ROWS_AT_A_TIME, rows - begin)))
            talkers = pa.array([f"talker-{number}" for number in rng.integers(0, TALKERS, len(some))])
            some = some.set_column(some.column_names.index("speaker"), "speaker", talkers)
            for name in some.column_names:
                if name.startswith("measured.") and pa.types.is_floating(some.schema.field(name).type):
                    values = some[name].to_numpy() * rng.uniform(0.9, 1.1, len(some))
                    column = pa.array(values, from_pandas=True)
                    some = some.set_column(some.column_names.index(name), name, column)
            writer.write_table(some)
    (corpus / f"{SAMPLES_FILE}.long").replace(corpus / SAMPLES_FILE)
    manifest = read_manifest(corpus)
    samples = {"train": rows}
    hours = rows * manifest.frames_per_sample / manifest.sample_rate_hz / 3600.0
    longer = manifest.model_copy(update={"samples": samples, "hours": hours}).sealed()
    (corpus / CORPUS_FILE).write_bytes(longer.written())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--recipe", default="ssi48k")
    parser.add_argument("--rendered", type=int, default=320)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = demo_sources(root)
        corpus = root / "corpus"
        generate(given.recipe, sources, corpus, LocalProcesses(2), given.rendered, overrides=ANY_BANDWIDTH)
        lengthen(corpus, given.rows)
        columns = len(pq.read_schema(corpus / SAMPLES_FILE))
        megabytes = (corpus / SAMPLES_FILE).stat().st_size / MB
        print(f"{SAMPLES_FILE}: {given.rows} rows, {columns} columns, {megabytes:.0f} MB")
        command = [sys.executable, "-m", "pipelines.cli", "report", str(corpus)]
        began = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - began
        size = (corpus / "report" / "index.html").stat().st_size
    print(f"report of {given.rows:,} samples: {seconds:.1f} s, {size / MB:.1f} MB")


if __name__ == "__main__":
    main()
