"""Temporal convolution modules on (B, D, T): gated in the repairing net, plain in the denoiser."""

from torch import Tensor, nn

from training.models.layers import TimeContext, gate
from training.models.prelu import PReLU

DILATIONS_FRAMES = (1, 2, 5, 9)


class GTCM(nn.Module):
    """Gated temporal convolution module (TEA-PSE): squeeze, dilated gated convolution, expand, residual.

    Args:
        features: D.
        hidden: width h of the dilated convolution.
        dilation: in frames.
        causal: as in :class:`~training.models.layers.TimeContext`.
        kernel: taps of the dilated convolution.
    """

    def __init__(self, features: int, hidden: int, dilation: int, causal: bool, kernel: int = 5) -> None:
        super().__init__()
        self.body_in = nn.Sequential(
            nn.Conv1d(features, hidden, 1),
            PReLU(),
            nn.BatchNorm1d(hidden),
            TimeContext((kernel - 1) * dilation, causal),
            nn.Conv1d(hidden, 2 * hidden, kernel, dilation=dilation),
        )
        self.body_out = nn.Sequential(
            PReLU(),
            nn.BatchNorm1d(hidden),
            nn.Conv1d(hidden, features, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, T) to the same shape."""
        out: Tensor = x + self.body_out(gate(self.body_in(x)))
        return out


def gtcm_group(features: int, hidden: int, causal: bool) -> nn.Sequential:
    """Return one stacked group (S-GTCM): four GTCM with dilations 1, 2, 5, 9."""
    return nn.Sequential(*(GTCM(features, hidden, dilation, causal) for dilation in DILATIONS_FRAMES))


class TCM(nn.Module):
    """Squeezed temporal convolution module of the denoiser's bottlenecks: causal, ungated, batch norm.

    Args:
        features: D.
        hidden: width h of the dilated convolution.
        dilation: in frames.
        kernel: taps of the dilated convolution.
    """

    def __init__(self, features: int, hidden: int, dilation: int, kernel: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(features, hidden, 1),
            PReLU(),
            nn.BatchNorm1d(hidden),
            TimeContext((kernel - 1) * dilation, causal=True),
            nn.Conv1d(hidden, hidden, kernel, dilation=dilation),
            PReLU(),
            nn.BatchNorm1d(hidden),
            nn.Conv1d(hidden, features, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, T) to the same shape."""
        out: Tensor = x + self.body(x)
        return out


def tcm_group(features: int, hidden: int) -> nn.Sequential:
    """Return one stacked group (S-TCM): four TCM with dilations 1, 2, 5, 9."""
    return nn.Sequential(*(TCM(features, hidden, dilation) for dilation in DILATIONS_FRAMES))
