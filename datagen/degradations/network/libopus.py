"""The Opus encoder and decoder themselves, packet by packet, through ctypes.

FFmpeg hides what a receiver does when a packet is missing: its decoder wants packets, and no packet is none of them.
The library that it calls has an answer, its concealment. The wheels of PyAV bring that library along.
"""

import ctypes
import importlib.util
import weakref
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.base import CannotApply
from datagen.degradations.codec.settings import OpusApplication
from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ

# Requests and values of include/opus_defines.h.
_APPLICATIONS: dict[OpusApplication, int] = {"voip": 2_048, "audio": 2_049, "lowdelay": 2_051}
_BANDWIDTHS = {4_000: 1_101, 6_000: 1_102, 8_000: 1_103, 12_000: 1_104, 20_000: 1_105}
_SET_BITRATE = 4_002
_SET_MAX_BANDWIDTH = 4_004
_SET_COMPLEXITY = 4_010
_SET_INBAND_FEC = 4_012
_SET_PACKET_LOSS_PERC = 4_014
_SET_DTX = 4_016
_GET_LOOKAHEAD = 4_027

_MAX_PACKET_BYTES = 4_000
"""As the manual of opus_encode recommends."""
_FILE_NAMES = ("av.libs/libopus*.so*", "av/.dylibs/libopus*.dylib", "av.libs/*opus*.dll")
"""Where the wheels for Linux, macOS and Windows put it, from the folder that holds `av`."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Load the libopus in the wheel of PyAV, whose version every corpus records.

    Raises:
        UserError: when PyAV was not installed from a wheel, or brings a libopus older than 1.5.
    """
    found = _bundled()
    if found is None:
        raise UserError(
            "opus_packet_loss needs libopus: install a binary wheel of PyAV, which brings it along"
        )
    lib = ctypes.CDLL(found)
    if not hasattr(lib, "opus_packet_has_lbrr"):
        raise UserError(f"opus_packet_loss needs libopus 1.5 or newer; {found} is older")
    state, number, data = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
    lib.opus_encoder_create.restype = lib.opus_decoder_create.restype = state
    lib.opus_encoder_create.argtypes = [ctypes.c_int32, number, number, ctypes.POINTER(number)]
    lib.opus_decoder_create.argtypes = [ctypes.c_int32, number, ctypes.POINTER(number)]
    # It takes a third argument of varying type, which some platforms pass in another way than the declared ones.
    lib.opus_encoder_ctl.argtypes = [state, number]
    lib.opus_encode_float.argtypes = [state, data, number, data, ctypes.c_int32]
    lib.opus_decode_float.argtypes = [state, data, ctypes.c_int32, data, number, number]
    lib.opus_packet_has_lbrr.argtypes = [data, ctypes.c_int32]
    lib.opus_encoder_destroy.argtypes = lib.opus_decoder_destroy.argtypes = [state]
    lib.opus_encoder_destroy.restype = lib.opus_decoder_destroy.restype = None
    lib.opus_strerror.argtypes = [number]
    lib.opus_strerror.restype = ctypes.c_char_p
    return lib


class OpusEncoder:
    """One talker's encoder at 48 kHz mono; its state is freed with it."""

    def __init__(
        self,
        application: OpusApplication,
        bitrate_kbps: float,
        bandwidth_hz: int,
        complexity: int,
        expected_loss_percent: int,
        fec: bool,
        dtx: bool,
    ) -> None:
        self._lib = library()
        error = ctypes.c_int()
        self._state = ctypes.c_void_p(
            self._lib.opus_encoder_create(SAMPLE_RATE_HZ, 1, _APPLICATIONS[application], error)
        )
        _checked(error.value)
        weakref.finalize(self, self._lib.opus_encoder_destroy, self._state)
        for request, value in (
            (_SET_BITRATE, round(bitrate_kbps * 1_000)),
            (_SET_MAX_BANDWIDTH, _BANDWIDTHS[bandwidth_hz]),
            (_SET_COMPLEXITY, complexity),
            (_SET_PACKET_LOSS_PERC, expected_loss_percent),
            (_SET_INBAND_FEC, int(fec)),
            (_SET_DTX, int(dtx)),
        ):
            _checked(self._lib.opus_encoder_ctl(self._state, request, ctypes.c_int32(value)))

    @property
    def lookahead_samples(self) -> int:
        """By how much the decoded signal comes later, encoder and decoder together."""
        answer = ctypes.c_int32()
        _checked(self._lib.opus_encoder_ctl(self._state, _GET_LOOKAHEAD, ctypes.byref(answer)))
        return answer.value

    def packets(self, audio: NDArray[np.float32], size: int) -> list[bytes]:
        """Encode `audio`, whose length is a multiple of `size`, a packet for each `size` samples."""
        audio = np.ascontiguousarray(audio, np.float32)
        buffer = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
        encoded = []
        for at in range(0, len(audio), size):
            sound = audio.ctypes.data + at * audio.itemsize
            length = self._lib.opus_encode_float(self._state, sound, size, buffer, _MAX_PACKET_BYTES)
            encoded.append(ctypes.string_at(buffer, _checked(length)))
        return encoded


class OpusDecoder:
    """The receiver's decoder at 48 kHz mono; its state is freed with it."""

    def __init__(self) -> None:
        self._lib = library()
        error = ctypes.c_int()
        self._state = ctypes.c_void_p(self._lib.opus_decoder_create(SAMPLE_RATE_HZ, 1, error))
        _checked(error.value)
        weakref.finalize(self, self._lib.opus_decoder_destroy, self._state)

    def decode(self, packet: bytes | None, out: NDArray[np.float32], from_next: bool = False) -> None:
        """Fill `out` with what a packet holds.

        Args:
            packet: None for one that did not arrive: it is concealed.
            out: contiguous; as long as a packet lasts.
            from_next: `packet` is the next one, whose copy of this one at a lower bitrate is to be decoded.
        """
        length = len(packet) if packet else 0
        count = self._lib.opus_decode_float(
            self._state, packet, length, out.ctypes.data, len(out), int(from_next)
        )
        if _checked(count) != len(out):
            raise CannotApply(f"libopus gave {count} samples for a packet of {len(out)}")


def holds_previous(packet: bytes) -> bool:
    """Whether a packet carries a copy of the one before (its low bitrate redundancy, RFC 6716 section 4.2.5)."""
    return bool(_checked(library().opus_packet_has_lbrr(packet, len(packet))))


def _bundled() -> str | None:
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return None
    beside = Path(spec.origin).parents[1]
    return next((str(path) for pattern in _FILE_NAMES for path in sorted(beside.glob(pattern))), None)


def _checked(answer: int) -> int:
    if answer < 0:
        raise CannotApply(f"libopus: {library().opus_strerror(answer).decode()}")
    return int(answer)
