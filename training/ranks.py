"""What this process is among several that train together, and what they agree on in every step.

torchrun and Ray Train start one program several times and tell each copy, a rank, in its environment who it is. Each
rank takes its stripe of every step's batch (`training.order.step_slots`), and after the backward pass all take the
mean of their gradients, weighted by how many samples each had: that is the gradient of the whole batch. All ranks
start from the same weights and move them alike, so they stay the same bit for bit and only rank 0 writes.

`DistributedDataParallel` would hide the same sums in hooks of a wrapped module, which must be called as a whole; a
task calls parts of its network, and other networks beside it. What is given up is its overlap of sums and backward
pass: a few megabytes of gradients a step.

Batch norms normalise by the batch of their own rank; their running statistics are the mean over ranks after every step.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from manifests.errors import JobError, UserError
from training.order import step_slots

BUCKET_BYTES = 25 * 2**20
"""Tensors are joined to buckets of about this size: a sum over ranks costs time of its own, however small it is."""
PATIENCE = timedelta(minutes=30)
"""Ranks may be so far apart, for example while one still hashes its share of the corpus."""


class RankLostError(JobError):
    """Another rank is gone, so no sum over all of them can be had."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. Alone, nothing is summed and no value changes."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")
    """Where sums are made: that of the networks."""
    local_rank: int = 0
    """Among those on this machine."""
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> float:
        """Return which share of a step's batch this rank has.

        Raises:
            UserError: when there are more ranks than samples.
        """
        if batch_size < self.count:
            raise UserError(f"batch_size {batch_size}: {self.count} processes cannot share so few samples")
        return len(step_slots(0, batch_size, self.rank, self.count)) / batch_size

    @torch.no_grad()
    def average_gradients(self, weights: Iterable[Tensor], share: float) -> None:
        """Give every weight the mean gradient of all ranks, each counted by its share.

        The same weights must have gradients on all ranks, as they have where all do the same step of the same task.
        """
        if self.count > 1:
            self._average([weight.grad for weight in weights if weight.grad is not None], share)

    @torch.no_grad()
    def average_changes(self, buffers: Sequence[tuple[Tensor, Tensor]], share: float) -> None:
        """Change buffers, such as running statistics, by the mean of what all ranks changed them.

        What no rank changed stays as it is, bit for bit.

        Args:
            buffers: each with its values before the step, which were the same on all ranks.
            share: see `share`.
        """
        if self.count == 1:
            return
        moving = [(buffer, before) for buffer, before in buffers if buffer.is_floating_point()]
        changes = [buffer - before for buffer, before in moving]
        self._average(changes, share)
        for (buffer, before), change in zip(moving, changes, strict=True):
            torch.add(before, change, out=buffer)

    @torch.no_grad()
    def mean(self, values: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return the means of named scalars over all ranks; one that is not finite anywhere is so everywhere."""
        if self.count == 1:
            return values
        stacked = torch.stack([value.detach().float() for value in values.values()]) * share
        return dict(zip(values, self._sum(stacked).unbind(), strict=True))

    def totals(self, *numbers: int) -> list[int]:
        """Return the sum of each number over all ranks; waits for the device."""
        if self.count == 1:
            return list(numbers)
        return [int(total) for total in self._sum(torch.tensor(numbers, device=self.device)).tolist()]

    def from_first(self, values: dict[str, float]) -> dict[str, float]:
        """Return rank 0's numbers for the same names, so that all ranks decide alike what depends on them."""
        if self.count == 1:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        return dict(
            zip(values, self._sum(numbers if self.first else torch.zeros_like(numbers)).tolist(), strict=True)
        )

    def check_same(self, module: nn.Module, step: int) -> None:
        """Make sure that all ranks start from the same step with the same weights and buffers.

        Raises:
            JobError: when they do not.
        """
        if self.count == 1:
            return
        hashed = hashlib.sha256(str(step).encode())
        for value in module.state_dict().values():
            hashed.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        ours = torch.frombuffer(bytearray(hashed.digest()), dtype=torch.uint8).to(self.device, torch.int64)
        lowest, highest = (
            self._sum(ours.clone(), operation) for operation in (dist.ReduceOp.MIN, dist.ReduceOp.MAX)
        )
        if not torch.equal(lowest, highest):
            raise JobError(
                "the ranks do not start from the same weights: all of them must see the same run folder and run the "
                "same version of the program"
            )

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.totals(0)

    def _average(self, tensors: Sequence[Tensor], share: float) -> None:
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket]).mul_(share)
            parts = torch.split(self._sum(flat), [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def _sum(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        try:
            dist.all_reduce(tensor, operation)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise RankLostError(
                f"rank {self.rank} of {self.count}: another rank is gone ({reason})"
            ) from error
        return tensor


ALONE = Ranks()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Join tensors of one kind of number, in their order, which is that of the network on every rank."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        bucket: list[Tensor] = []
        for tensor in (tensor for tensor in tensors if tensor.dtype == dtype):
            if sum(held.nbytes for held in bucket) >= BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def device_of_rank(name: str) -> str:
    """Return the device that `auto` or `cuda` means to this rank: each on a machine has a GPU of its own."""
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    return f"cuda:{local_rank}"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Be one of the ranks that the environment tells of, or alone where it tells of none.

    A GPU that `device` names becomes the process's own: streams and graphs are made on that one.

    Read are the variables that torchrun sets: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and
    MASTER_PORT. A process group that is there already, as Ray Train's, is used and left alone; so a process that
    trains several times joins once, around all of them.

    Args:
        device: of the networks; sums go over NCCL on CUDA, over gloo else.

    Raises:
        UserError: when the variables do not fit together.
        JobError: when the other ranks cannot be reached.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if device.type == "cuda":
        _take(device, alone)
    if alone:
        yield ALONE
        return
    ours = not dist.is_initialized()
    if ours:
        _form_group(device)
    local = [int(os.environ.get(name, lone)) for name, lone in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))]
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device, *local)
    finally:
        if ours:
            dist.destroy_process_group()


def _take(device: torch.device, alone: bool) -> None:
    if device.index is not None:
        torch.cuda.set_device(device)
    elif not alone:
        raise UserError(
            "WORLD_SIZE asks for several processes, and LOCAL_RANK does not say which GPU is this one's; start them "
            "with torchrun"
        )


def _form_group(device: torch.device) -> None:
    shares_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if shares_store and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        # Seen with torch 2.13: the store still holds the addresses of the ranks that died, and all would wait for them.
        raise UserError(
            "torchrun --max-restarts: the ranks can only find each other again with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment; or run the same command with --resume"
        )
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except ValueError as error:
        raise UserError(
            f"WORLD_SIZE asks for several processes, but {error}; start them with torchrun"
        ) from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise JobError(f"the other ranks cannot be reached ({reason})") from error
