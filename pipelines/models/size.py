"""How large a finished model is, as pages show it and evaluations remember it."""

from pydantic import BaseModel, ConfigDict

from training.bundle import WEIGHTS_FILE, Bundle


class ModelSize(BaseModel):
    """Of one model."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    preset: str
    weights: int
    """Number of its weights."""
    bytes: int
    """Of the file that holds them."""
    causal: bool


def size_of(bundle: Bundle) -> ModelSize:
    """Measure a bundle."""
    return ModelSize(
        preset=bundle.info.preset,
        weights=sum(weight.numel() for weight in bundle.model.parameters()),
        bytes=(bundle.path / WEIGHTS_FILE).stat().st_size,
        causal=bundle.info.causal,
    )
