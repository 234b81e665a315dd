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


def why_not_compiled(error: BaseException) -> str | None:
    """Say in a sentence what kept torch from compiling, whose own words are thousands of lines; None for other errors.

    It is seen when a network is first called, or at its first backward pass.
    """
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    first_line = str(error).strip().partition("\n")[0]
    return (
        f"optimisation.compile: torch could not compile the networks ({type(error).__name__}: {first_line}); "
        "set optimisation.compile=false, or see all of it with --debug"
    )


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
