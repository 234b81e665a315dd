"""`ATTRIBUTION.tsv`: whose recordings the samples of a corpus hold, under which licence; a row a source.

Sources that no sample holds are not named, nor is where they lie: the hash leads to the path, in `sources.parquet`.
Opens in any spreadsheet; characters that would break a row, steer a terminal or begin a formula there are replaced.
"""

from collections import Counter

from manifests.catalogue import read_catalogue
from manifests.corpus import SAMPLES_FILE, SOURCES_FILE, CorpusManifest
from manifests.licence_names import is_known, spdx_of
from manifests.store import Store
from pipelines.markdown import one_line

ATTRIBUTION_FILE = "ATTRIBUTION.tsv"
COLUMNS = ("kind", "name", "by", "licence", "spdx", "sha256", "samples")
_FORMULA = "=+-@"
"""A cell that begins with one of these is run by spreadsheets."""


def write_attribution(store: Store, manifest: CorpusManifest) -> None:
    """Write the file of a finished corpus, merged ones included."""
    counts = _samples_by_source(store)
    with store.local_copy(SOURCES_FILE) as path:
        rows = {
            (source.kind, spdx_of(source.licence), source.group, source.name, source.licence, source.sha256)
            for source in read_catalogue(path).usable
            if source.sha256 in counts
        }
    lines = [COLUMNS]
    for kind, spdx, group, name, licence, sha256 in sorted(rows):
        known = spdx if is_known(spdx) else ""
        lines.append((kind, name, group, licence, known, sha256, str(counts[sha256])))
    store.write(ATTRIBUTION_FILE, "".join("\t".join(map(_cell, line)) + "\n" for line in lines).encode())


def _cell(value: str) -> str:
    text = one_line(value)
    return f"'{text}" if text[:1] in _FORMULA and text else text


def _samples_by_source(store: Store) -> Counter[str]:
    """Count the samples that hold each source, from the table."""
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    with store.local_copy(SAMPLES_FILE) as path, pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            column = table.read_row_group(group, columns=["source_sha256"])["source_sha256"]
            for hashes in column.to_pylist():
                counts.update(set(hashes))
    return counts
