"""Writing an ONNX graph node by node: names, constants, and the states of a network that runs frame by frame.

States are inputs `NAME` and outputs `next_NAME` of the same shape. What looks back over several frames is a
ring: a state of shape (frames, batch, ...) whose place `frame modulo frames` holds the oldest frame and takes
the present one, so that no frame is ever moved. The number of the frame is a state itself.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 10
BATCH = "batch"
FRAME = "frame"
"""State: the number of the present frame, from 0; int64 of shape (1,)."""
NEXT = "next_"

Array = NDArray[Any]
Shape = tuple[int | str, ...]
_TYPES = {"float32": 1, "int64": 7, "float64": 11}


class Graph:
    """An ONNX graph in the making; every method that adds a node returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[Any] = []
        self._outputs: list[tuple[str, str, Shape, str]] = []
        self._ring_places: dict[tuple[int, int], str] = {}
        self.states: dict[str, tuple[str, Shape]] = {}
        """Type and shape of each state; all begin with zeros."""
        frame = self.state(FRAME, (1,), "int64")
        self.keep(FRAME, self.node("Add", frame, self.constant(np.ones(1, np.int64))))
        self.frames_so_far = self.node(
            "Cast", self.node("Add", frame, self.constant(np.ones(1, np.int64))), to=_TYPES["float64"]
        )
        """Number of frames, the present one included, as a double of shape (1,)."""

    def input(self, name: str, shape: Shape, kind: str = "float32") -> str:
        """Declare an input."""
        self._inputs.append(self._value(name, shape, kind))
        return name

    def output(self, name: str, value: str, shape: Shape, kind: str = "float32") -> None:
        """Declare an output."""
        self._outputs.append((name, value, shape, kind))

    def constant(self, value: Array) -> str:
        """Add a constant; equal ones are kept once where they are small."""
        if value.size <= 16:
            for name, other in self._constants.items():
                if (
                    other.dtype == value.dtype
                    and other.shape == value.shape
                    and other.tobytes() == value.tobytes()
                ):
                    return name
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """Add an int64 vector."""
        return self.constant(np.array(values, np.int64))

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one result."""
        return self.nodes(operator, inputs, 1, name, **attributes)[0]

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        results: int,
        name: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several results."""
        from onnx import helper

        number = len(self._nodes)
        names = [name or f"n{number}" if results == 1 else f"n{number}_{i}" for i in range(results)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names

    def state(self, name: str, shape: Shape, kind: str = "float32") -> str:
        """Declare a state and return its present value; :meth:`keep` must give its next one."""
        self.states[name] = (kind, shape)
        return self.input(name, shape, kind)

    def keep(self, name: str, value: str) -> None:
        """Give a state's next value."""
        kind, shape = self.states[name]
        self.output(f"{NEXT}{name}", value, shape, kind)

    def delayed(self, name: str, value: str, shape: Shape, delays: Sequence[int]) -> list[str]:
        """Return a value as it was so many frames ago, for each delay, and remember the present one.

        Args:
            name: of the state.
            value: with shape (batch, ...).
            shape: of the value.
            delays: in frames, at least 1.
        """
        frames = max(delays)
        if frames == 1:
            before = self.state(name, shape)
            self.keep(name, value)
            return [before]
        ring = self.state(name, (frames, *shape))
        past = [
            self.node("Gather", ring, self._place(frames, frames - delay), axis=0)  # (batch, ...)
            for delay in delays
        ]
        at = self._ring_index(frames)
        written = self.node("ScatterND", ring, at, self.node("Unsqueeze", value, self.whole(0)))
        self.keep(name, written)
        return past

    def taps(self, name: str, x: str, width: int, delays: Sequence[int]) -> str:
        """Return a vector (batch, width) as it was so many frames ago, oldest first, side by side.

        Args:
            name: of the state.
            x: the present vector.
            width: its length.
            delays: in frames, in steps of their least, from 0 on.
        """
        frames, step = max(delays), delays[1]
        past = self.state(name, (BATCH, frames * width))
        seen = self.node("Concat", past, x, axis=1)
        self.keep(
            name, self.node("Slice", seen, self.whole(width), self.whole((frames + 1) * width), self.whole(1))
        )
        if step == 1:
            return seen
        apart = self.node("Reshape", seen, self.whole(0, frames + 1, width))
        taken = self.node("Gather", apart, self.whole(*range(0, frames + 1, step)), axis=1)
        return self.node("Reshape", taken, self.whole(0, len(delays) * width))

    def _place(self, frames: int, ahead: int) -> str:
        """Return the place in a ring that lies `ahead` of the present one, as an int64 scalar."""
        key = (frames, ahead % frames)
        if key not in self._ring_places:
            number = self.node("Add", FRAME, self.whole(key[1])) if key[1] else FRAME
            place = self.node("Mod", number, self.whole(frames))
            self._ring_places[key] = self.node("Squeeze", place, self.whole(0))
        return self._ring_places[key]

    def _ring_index(self, frames: int) -> str:
        """Return the present place in a ring as ScatterND wants it, (1, 1)."""
        key = (frames, -1)
        if key not in self._ring_places:
            self._ring_places[key] = self.node("Unsqueeze", self._place(frames, 0), self.whole(0, 1))
        return self._ring_places[key]

    def model(self, metadata: dict[str, str]) -> "onnx.ModelProto":
        """Return the finished model, checked."""
        import onnx
        from onnx import helper, numpy_helper

        self._name_outputs()
        constants = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        outputs = [self._value(name, shape, kind) for name, _, shape, kind in self._outputs]
        graph = helper.make_graph(self._nodes, "ssiforge", self._inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name = "ssiforge"
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model

    def _name_outputs(self) -> None:
        """Let results carry the names of outputs; an input, or what is put out twice, is copied."""
        names = {entry.name for entry in self._inputs}
        renamed: dict[str, str] = {}
        for name, value, _, _ in self._outputs:
            if value in names or value in renamed:
                self.node("Identity", renamed.get(value, value), name=name)
            else:
                renamed[value] = name
        for node in self._nodes:
            node.input[:] = [renamed.get(value, value) for value in node.input]
            node.output[:] = [renamed.get(value, value) for value in node.output]

    @staticmethod
    def _value(name: str, shape: Shape, kind: str) -> Any:
        from onnx import helper

        return helper.make_tensor_value_info(name, _TYPES[kind], list(shape))
