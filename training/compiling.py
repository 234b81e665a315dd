"""torch.compile for a stage's networks: their names in checkpoints and bundles stay as they are."""

import os
import shutil
import sys

import torch
from torch import nn

from manifests.errors import UserError


def compiler() -> str | None:
    """Return the C++ compiler that torch.compile would call, or None where there is none."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def compile_network(network: nn.Module) -> None:
    """Compile a network in place; it happens when it is first called, and takes minutes.

    What was compiled for earlier stages of this process is forgotten: torch compiles one class a few times only,
    and stages have other sizes, modes and outputs of the same classes.

    Raises:
        UserError: when there is no C++ compiler.
    """
    if compiler() is None:
        raise UserError(
            "optimisation.compile: needs a C++ compiler, and there is none here (the environment variable CXX "
            "names one); set optimisation.compile=false"
        )
    torch.compiler.reset()
    network.compile()
