"""A small ONNX network with the inputs and outputs of SIGMOS: means of its three features, times `WEIGHTS`."""

from pathlib import Path

import numpy as np
import pytest

WEIGHTS = np.arange(21, dtype=np.float64).reshape(3, 7) / 10.0


def write_network(path: Path, bins: int = 481, outputs: int = 7, frames: int | str = "frames") -> Path:
    onnx = pytest.importorskip("onnx", reason="the network is made with the package onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["heard"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sigmos",
        [helper.make_tensor_value_info("heard", TensorProto.FLOAT, [1, 3, frames, bins])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(WEIGHTS[:, :outputs].astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
