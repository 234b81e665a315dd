"""How fast the exported chain runs hop by hop: processing time over duration, one core.

    python benchmarks/streaming.py [--presets tiny,small,paper] [--hops 200] [--rounds 5]

Builds both networks of each preset with fresh weights (what is computed does not depend on them), exports the
chain as `ssiforge export` does, and pushes hops of 10 ms of a noisy voice through onnxruntime with one thread. Of
each round the median hop counts, and of the rounds the best one, since other work on the machine can only slow
them down. Beside the chain, the repairing network alone and the 32-bit weights that each hop reads. The latency is
found as the challenge finds it: by two signals with equal first halves.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from datagen.environment import pin_threads

pin_threads()

import torch  # noqa: E402

from pipelines.onnx_export.chain import streaming_model  # noqa: E402
from pipelines.onnx_export.export import noisy_voice  # noqa: E402
from pipelines.onnx_export.streaming import StreamingModel  # noqa: E402
from training.models.chain import Chain  # noqa: E402
from training.models.presets import build_denoiser, build_repair  # noqa: E402

HOP_SAMPLES = 480
HOP_S = 0.01
TARGET = 0.5


def real_time_factor(model: StreamingModel, hops: NDArray[np.float32], rounds: int) -> float:
    medians = []
    stream = model.stream()
    for _ in range(rounds):
        seconds = []
        for hop in hops:
            began = time.perf_counter()
            stream.push(hop)
            seconds.append(time.perf_counter() - began)
        medians.append(float(np.median(seconds)))
    return min(medians) / HOP_S


def latency_samples(model: StreamingModel) -> int:
    """Return how many samples before the midpoint outputs differ of two signals that differ from there on, at most."""
    drawn = np.random.default_rng(0).standard_normal((2, 9_600)).astype(np.float32) * np.float32(0.1)
    worst = 0
    for midpoint in (4_800, 4_801, 5_023, 5_279):
        other = np.concatenate((drawn[0, :midpoint], drawn[1, midpoint:]))
        outputs = [np.concatenate(list(model.enhanced([signal]))) for signal in (drawn[0], other)]
        worst = max(worst, midpoint - int(np.flatnonzero(outputs[0] != outputs[1])[0]))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="tiny,small,paper")
    parser.add_argument("--hops", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    hops = noisy_voice(arguments.hops * HOP_S).reshape(-1, 1, HOP_SAMPLES)
    torch.manual_seed(0)
    for preset in arguments.presets.split(","):
        repair, denoiser = build_repair(preset, causal=True), build_denoiser(preset)
        networks = {"repair alone": repair, "chain": Chain(repair, denoiser)}
        factors, latency, megabytes = {}, 0, 0.0
        for name, network in networks.items():
            content = streaming_model(network.eval(), {}).SerializeToString()
            model = StreamingModel(content)
            factors[name] = real_time_factor(model, hops, arguments.rounds)
            latency, megabytes = latency_samples(model), len(content) / 1e6
        print(
            f"{preset}: repair alone {factors['repair alone']:.3f}, weights and DFTs of the chain {megabytes:.1f} MB, "
            f"latency {latency / 48:.1f} ms"
        )
        print(f"{preset}: {factors['chain']:.2f} real-time factor, 1 core (target {TARGET})", flush=True)


if __name__ == "__main__":
    main()
