"""Running an exported model hop by hop in onnxruntime, on one core."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from pipelines.onnx_export.chain import HOP_IN, HOP_OUT
from pipelines.onnx_export.graph import NEXT
from training.models.stft import HOP_SAMPLES

Audio = NDArray[np.float32]

_KINDS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


class StreamingModel:
    """An exported model, loaded once; any number of streams may run through it.

    Args:
        model: an ONNX file, or its bytes.
        source: what to call it in messages.

    Raises:
        UserError: when it is not an ONNX model, or not one of `ssiforge export`.
    """

    def __init__(self, model: Path | bytes, source: str = "the model") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # States of digital silence decay to denormal numbers, which processors are slow at.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        content = str(model) if isinstance(model, Path) else model
        if isinstance(model, Path) and not model.exists():
            raise UserError(f"{source}: no such file")
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"{source}: not a model that onnxruntime can load") from error
        inputs = {value.name: value for value in self.session.get_inputs()}
        outputs = {value.name for value in self.session.get_outputs()}
        if outputs != {HOP_OUT} | {NEXT + name for name in inputs if name != HOP_IN} or HOP_IN not in inputs:
            raise UserError(f"{source}: not a streaming model of 'ssiforge export'")
        self._states = {
            name: (value.shape, _KINDS[value.type]) for name, value in inputs.items() if name != HOP_IN
        }

    def stream(self, batch: int = 1) -> "Stream":
        """Begin a stream of `batch` signals."""
        return Stream(self, batch)

    def states(self, batch: int) -> dict[str, NDArray[np.generic]]:
        """Return the states at the beginning of `batch` signals."""
        return {
            name: np.zeros([batch if isinstance(size, str) else size for size in shape], kind)
            for name, (shape, kind) in self._states.items()
        }

    def enhanced(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """Enhance one channel that comes in blocks; what comes out is aligned with it and equally long.

        Args:
            blocks: stretches of any lengths, shape (n,), 48 kHz, in order.

        Yields:
            Enhanced stretches in order.
        """
        stream = self.stream()
        held = np.zeros(0, np.float32)
        taken = given = -HOP_SAMPLES  # the first hop out lies before the beginning
        for block in blocks:
            taken += len(block)
            held = np.concatenate((held, np.asarray(block, np.float32)))
            whole = len(held) - len(held) % HOP_SAMPLES
            if whole:
                out = np.concatenate(
                    [stream.push(hop[None])[0] for hop in held[:whole].reshape(-1, HOP_SAMPLES)]
                )
                held = held[whole:]
                yield out[max(0, -given) :]
                given += whole
        if taken > -HOP_SAMPLES:
            rest = np.pad(held, (0, -len(held) % HOP_SAMPLES + HOP_SAMPLES)).reshape(-1, HOP_SAMPLES)
            out = np.concatenate([stream.push(hop[None])[0] for hop in rest])
            yield out[max(0, -given) : taken + HOP_SAMPLES - given]


class Stream:
    """Signals on their way through a model.

    States are bound once, in two sets that take turns as input and output, so that a hop costs no more than the
    model's own work.
    """

    def __init__(self, model: StreamingModel, batch: int) -> None:
        from onnxruntime import OrtValue

        self._session = model.session
        self._hop = OrtValue.ortvalue_from_numpy(np.zeros((batch, HOP_SAMPLES), np.float32))
        self._enhanced = OrtValue.ortvalue_from_numpy(np.zeros((batch, HOP_SAMPLES), np.float32))
        sets = [
            {name: OrtValue.ortvalue_from_numpy(value) for name, value in model.states(batch).items()}
            for _ in range(2)
        ]
        self._bindings = [self._bound(before, after) for before, after in (sets, sets[::-1])]
        self._sets = sets
        self._turn = 0

    def _bound(self, before: dict[str, "object"], after: dict[str, "object"]) -> "object":
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(HOP_IN, self._hop)
        binding.bind_ortvalue_output(HOP_OUT, self._enhanced)
        for name in before:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(NEXT + name, after[name])
        return binding

    def push(self, hop: Audio) -> Audio:
        """Take the next hop (batch, 480); return the enhanced hop before it, (batch, 480)."""
        self._hop.update_inplace(np.ascontiguousarray(hop, np.float32))
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        enhanced: Audio = self._enhanced.numpy().copy()
        return enhanced

    def states(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the states between two hops."""
        return {name: value.numpy().copy() for name, value in self._sets[self._turn].items()}

    def set_states(self, states: dict[str, NDArray[np.generic]]) -> None:
        """Go on from other states."""
        for name, value in states.items():
            self._sets[self._turn][name].update_inplace(value)
