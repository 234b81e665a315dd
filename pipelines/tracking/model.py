"""The script from which MLflow rebuilds a registered model: code and a bundle, whose weights are safetensors.

MLflow copies this file into the model ("models from code") and runs it when the model is loaded. It needs
ssiforge to be installed there. Input and output: float32, shape (batch, samples), mono at 48 kHz, full
scale 1.0, any batch and any length.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel


class BundleModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    """Enhances waves with the bundle that lies beside it."""

    def load_context(self, context: Any) -> None:
        """Load the bundle from the model's artifacts."""
        from training.bundle import load_bundle

        self._bundle = load_bundle(Path(context.artifacts["bundle"]))

    # MLflow reads the hint too, and knows the bare class alone.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        """Enhance waves of shape (batch, samples)."""
        import torch

        waves = torch.from_numpy(np.array(model_input, dtype=np.float32))
        with torch.inference_mode():
            return self._bundle.enhance(waves).numpy()


mlflow.models.set_model(BundleModel())
