"""Networks away from their near-identity start, so that every path shows in the output."""

from typing import TypeVar

import torch
from torch import nn

from training.models.denoiser import Denoiser
from training.models.repair import RepairNet

Net = TypeVar("Net", bound=nn.Module)


def awake(net: Net) -> Net:
    """Wake a fresh net: strong heads, and batch norms that have seen something. Returns it in evaluation mode."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, RepairNet):
                module.head.weight.div_(RepairNet.HEAD_START_SCALE)
                module.head.weight[:2].mul_(0.2)  # of the mask, so that the output is about as loud as speech
            if isinstance(module, Denoiser):
                module.mask.weight_real.mul_(20.0)
                module.mask.weight_imag.mul_(20.0)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.1)
    return net.eval()
