"""Rows that a catalogue may hold: hypothesis draws them, odd texts and missing values among them."""

from hypothesis import strategies as st

from manifests.source import KINDS, Source

texts = st.text(st.characters(codec="utf-8"), max_size=6)
names = st.none() | st.sampled_from(["", "a", "ä", "ann", "ann\x00", "\U0001f600", "z"]) | texts
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**62)
hashes = st.sampled_from(["", "0", "00000000", "000000001", "00000000\x00", "f" * 64, "ü"]) | texts

sources = st.builds(
    Source,
    path=texts,
    kind=st.sampled_from(KINDS),
    sha256=hashes,
    bytes=counts,
    mtime_ns=counts,
    rate_hz=counts,
    channels=counts,
    frames=counts,
    seconds=st.floats(0.0, 1e6),
    bandwidth_hz=numbers,
    active_level_dbfs=numbers,
    clipped_share=numbers,
    dc_offset=numbers,
    silence_share=numbers,
    speaker=names,
    recording=names,
    room=names,
    direct_path_frame=st.none() | counts,
    rt60_s=numbers,
    drr_db=numbers,
    licence=texts,
    split=st.sampled_from([None, "train", "val", "test"]),
    refused=names,
)
