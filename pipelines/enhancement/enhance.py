"""`ssiforge enhance`: files or folders through a model; any rate and number of channels in, 48 kHz out.

Each channel is enhanced alone. Audio is decoded, resampled, enhanced and written block by block, so an
hour needs no more memory than a minute. A file is written under a temporary name and renamed when it is
whole.
"""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, tee
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from datagen.audio import AudioError, check_complete, check_values, decoded_blocks
from datagen.folders import audio_files
from manifests.errors import JobError, UserError
from manifests.files import temporary_beside
from manifests.interrupts import terminable
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.models.reference import ModelRef, resolve_model
from pipelines.models.stale_mark import stale_reasons, warn_if_stale
from pipelines.onnx_export.record import ONNX_SUFFIX
from pipelines.progress import JobProgress
from training.enhance import enhance_blocks
from training.shipped_models import SHIPPED

OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
SUBTYPE = "PCM_16"
FLAC_CHANNELS = 8
FULL_DISK_BYTES = 2**20
"""A disk with less room than this after a file could not be written is full."""

Frames = NDArray[np.float32]
"""Shape (frames, channels)."""
Channel = NDArray[np.float32]
"""Shape (frames,)."""
Enhancer = Callable[[Iterable[Channel]], Iterator[Channel]]
"""Enhances one channel that comes in blocks."""


@dataclass(frozen=True)
class Enhanced:
    """What was written, and what could not be."""

    written: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...] = ()
    """Input and reason."""


def enhance(
    source: Path,
    output: Path,
    model_reference: str | None = None,
    device: str = "cpu",
    file_format: str = "wav",
    say: Callable[[str], None] = print,
    stream: bool = False,
) -> Enhanced:
    """Enhance a file, or every audio file of a folder into a folder with the same tree.

    Args:
        source: a file or a folder.
        output: for a file, a `.wav` or `.flac` file or a folder; for a folder, a folder.
        model_reference: any form of `pipelines.models.reference`; the shipped model without.
        device: where the model runs.
        file_format: `wav` or `flac`, for outputs whose name is not given.
        say: told of files that cannot be read, and which model it is where none was named.
        stream: run frame by frame in onnxruntime, on one core; the model must be causal.

    Raises:
        UserError: when source or model does not exist, an output would be an input, or the one file is
        not audio. JobError: after everything else is done, when some files of a folder could not be
        enhanced.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if not (source.is_file() or source.is_dir()):
        raise UserError(
            f"{source}: is neither a file nor a folder; through a pipe, raw audio goes with --stream - -"
        )
    suffix = f".{file_format.lower().removeprefix('.')}"
    if suffix not in OUTPUT_FORMATS:
        raise UserError(f"--format {file_format}: must be wav or flac")
    pairs = _folder_pairs(source, output, suffix) if source.is_dir() else [_file_pair(source, output, suffix)]
    _refuse_overwriting(pairs)
    enhancer = enhancer_of(model_reference, device, stream, say)
    with terminable():
        if not source.is_dir():
            try:
                enhance_file(enhancer, *pairs[0])
            except AudioError as error:
                raise UserError(f"{source}: {error}") from error
            return Enhanced((pairs[0][1],))
        done = _enhance_all(enhancer, pairs, say)
    if done.failed:
        raise JobError(
            f"{len(done.failed)} of {len(pairs)} files could not be enhanced; the others are in {output}"
        )
    return done


def enhancer_of(
    model_reference: str | None, device: str, stream: bool, say: Callable[[str], None]
) -> Enhancer:
    """Load a model, through torch or, for `stream`, as its exported graph.

    Raises:
        UserError: when there is no such model, or it cannot run in this way: as a stream what looks ahead, or on
            another device; otherwise what is exported.
    """
    if stream:
        if device != "cpu":
            raise UserError(f"--device {device}: --stream runs on one core of the CPU; give one of both")
        from pipelines.onnx_export.export import exported
        from pipelines.onnx_export.streaming import StreamingModel

        if model_reference is not None and model_reference.endswith(ONNX_SUFFIX):
            warn_if_stale(stale_reasons(Path(model_reference).parent), model_reference, say)
            return StreamingModel(Path(model_reference), model_reference).enhanced
        found = _model(model_reference, say)
        warn_if_stale(found.stale, found.reference, say)
        if not found.info.causal:
            raise UserError(f"--stream: {found.reference} is a {found.info.stage}, which looks ahead")
        return StreamingModel(exported(found.load()).SerializeToString(), found.reference).enhanced
    if model_reference is not None and model_reference.endswith(ONNX_SUFFIX):
        raise UserError(f"--model {model_reference}: an exported model runs with --stream")
    found = _model(model_reference, say)
    warn_if_stale(found.stale, found.reference, say)
    return partial(enhance_blocks, found.load(device))


def _model(reference: str | None, say: Callable[[str], None]) -> ModelRef:
    if reference is not None:
        return resolve_model(reference)
    model = resolve_model(SHIPPED)
    say(f"model: {model.reference} ({model.info.stage}, id {model.info.id}); --model uses another")
    return model


def _enhance_all(
    enhancer: Enhancer, pairs: Sequence[tuple[Path, Path]], say: Callable[[str], None]
) -> Enhanced:
    written: list[Path] = []
    failed: list[tuple[Path, str]] = []
    with JobProgress("enhance", len(pairs), "files") as progress:
        for source, target in pairs:
            try:
                enhance_file(enhancer, source, target)
                written.append(target)
            except AudioError as error:
                failed.append((source, str(error)))
                say(f"{source}: {error}")
            progress.advance(1)
    return Enhanced(tuple(written), tuple(failed))


def enhance_file(enhancer: Enhancer, source: Path, target: Path) -> None:
    """Enhance one file; `target` appears when it is whole.

    Raises:
        AudioError: when `source` is not audio, is empty, stops in the middle, or holds NaN or infinity.
        UserError: when `target` cannot be written.
    """
    check_complete(str(source))
    blocks = _enhanced_blocks(enhancer, source)
    first = next(blocks)  # a file that is no audio leaves no folder behind
    file_format = OUTPUT_FORMATS[target.suffix.lower()]
    if file_format == "FLAC" and first.shape[1] > FLAC_CHANNELS:
        raise AudioError(f"has {first.shape[1]} channels, and FLAC holds {FLAC_CHANNELS}; write it as .wav")
    temporary = temporary_beside(target)
    made: list[Path] = []
    try:
        made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # it says why it cannot; libsndfile does not
        with soundfile.SoundFile(
            temporary,
            "w",
            SAMPLE_RATE_HZ,
            first.shape[1],
            subtype=SUBTYPE,
            format=file_format,
        ) as stream:
            stream.write(np.clip(first, -1.0, 1.0))
            for block in blocks:
                stream.write(np.clip(block, -1.0, 1.0))
        temporary.replace(target)
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"{target}: cannot be written ({_reason(error, target.parent)})") from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be removed
            temporary.unlink(missing_ok=True)
            for folder in made:  # inner ones first; what holds an output stays
                folder.rmdir()


def _reason(error: Exception, folder: Path) -> str:
    """Say why a file cannot be written; libsndfile does not tell a full disk from other failures."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    disk = shutil.disk_usage(folder)
    return os.strerror(errno.ENOSPC) if disk.total and disk.free < FULL_DISK_BYTES else str(error)


def _enhanced_blocks(enhancer: Enhancer, source: Path) -> Iterator[Frames]:
    """Enhance a file block by block, each channel alone; at least one block, (frames, channels) at 48 kHz."""
    blocks = _resampled_blocks(source)
    first = next(blocks)
    copies = tee(chain([first], blocks), first.shape[1])
    # All channels are cut at the same places, so the copies stay together and hold one piece at most.
    channels = [enhancer(_channel(copy, number)) for number, copy in enumerate(copies)]
    for pieces in zip(*channels, strict=True):
        enhanced = np.stack(pieces, axis=1)
        if not np.isfinite(enhanced).all():
            raise AudioError("the model's output is not finite")
        yield enhanced


def _channel(blocks: Iterator[Frames], number: int) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        yield block[:, number]


def _resampled_blocks(source: Path) -> Iterator[Frames]:
    """Decode and resample to 48 kHz: (frames, channels), round(N * 48000 / rate) frames in all."""
    import soxr

    resampler: soxr.ResampleStream | None = None
    taken = given = 0
    rate_hz = SAMPLE_RATE_HZ
    channels = 0
    for block, rate_hz in decoded_blocks(str(source)):
        check_values(block)
        if resampler is None:
            channels = block.shape[1]
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, channels, dtype="float32", quality="HQ")
        if block.shape[1] != channels:
            raise AudioError("changes its number of channels")
        taken += len(block)
        output = block if rate_hz == SAMPLE_RATE_HZ else resampler.resample_chunk(block)
        given += len(output)
        yield output
    if resampler is None or not taken:
        raise AudioError("holds no audio")
    missing = max(0, round(taken * SAMPLE_RATE_HZ / rate_hz) - given)
    if missing:
        nothing = np.zeros((0, channels), np.float32)
        rest = resampler.resample_chunk(nothing, last=True)[:missing]
        yield np.pad(rest, ((0, missing - len(rest)), (0, 0)))


def files_below(folder: Path) -> list[Path]:
    """Return the audio files below a folder, sorted; links and hidden files are left out.

    Raises:
        UserError: when there is no such folder, or no audio in it.
    """
    found = [folder / file.relative for file in audio_files(str(folder))]
    if not found:
        raise UserError(f"{folder}: holds no audio files")
    return found


def _folder_pairs(source: Path, output: Path, suffix: str) -> list[tuple[Path, Path]]:
    if output.is_file():
        raise UserError(f"{output}: is a file; a folder is enhanced into a folder")
    if output.resolve() == source.resolve():
        raise UserError(f"{output}: is the input; give another folder")
    inside = [path for path in files_below(source) if not path.resolve().is_relative_to(output.resolve())]
    if not inside:
        raise UserError(f"{source}: holds no audio files besides those in {output}")
    names = _names_of_outputs([path.relative_to(source) for path in inside], suffix)
    return [(path, output / name) for path, name in zip(inside, names, strict=True)]


def _names_of_outputs(inputs: Sequence[Path], suffix: str) -> list[Path]:
    """Return a name of its own for the output of each input: `a.wav` of `a.mp3`, unless another would be called so.

    Of `a.mp3` beside `a.ogg`, both keep their suffix: `a.mp3.wav` and `a.ogg.wav`.
    """
    short = [path.with_suffix(suffix) for path in inputs]
    long = [path.with_name(path.name + suffix) for path in inputs]
    names = short
    while len(taken := Counter(names)) < len(names):
        # Long names differ from one another, so each turn lengthens some.
        names = [whole if taken[name] > 1 else name for name, whole in zip(names, long, strict=True)]
    return names


def _file_pair(source: Path, output: Path, suffix: str) -> tuple[Path, Path]:
    if output.is_dir() or not output.suffix:
        return source, output / f"{source.stem}{suffix}"
    if output.suffix.lower() not in OUTPUT_FORMATS:
        raise UserError(f"{output}: the output is written as .wav or .flac; give it one of these endings")
    return source, output


def _refuse_overwriting(pairs: Sequence[tuple[Path, Path]]) -> None:
    inputs = {_identity(source) for source, _ in pairs}
    for _, target in pairs:
        if target.exists() and _identity(target) in inputs:
            raise UserError(f"{target}: is an input; enhance into another file or folder")


def _identity(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of a file, links of either kind included."""
    status = path.stat()
    return status.st_dev, status.st_ino
