"""The registered model: MLflow runs this file to load it. Images in, boxes out; no pickle.

Input: a table with the column `image`, each cell encoded bytes (JPEG, PNG; base64 text in JSON)
or an RGB array[H, W, 3] of 0...255. Output: a row for each detection.
"""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from centernet.dataset import images
from centernet.errors import UserError
from centernet.predict import Detector

COLUMNS = ("image", "x1", "y1", "x2", "y2", "score", "label", "class")


class DetectorModel(PythonModel):  # type: ignore[misc]  # MLflow has no types for it
    """`centernet predict` behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights that were logged with the model."""
        device = os.environ.get("CENTERNET_DEVICE") or "cpu"
        self.detector = Detector.load(Path(context.artifacts["weights"]), device=device)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Detections of every image: boxes in its pixels, best first; `image` is its row."""
        rows: list[tuple[Any, ...]] = []
        for index, cell in enumerate(model_input["image"]):
            try:
                found = self.detector(to_array(cell))
            except UserError as error:  # of other errors MLflow sends the traceback
                raise MlflowException.invalid_parameter_value(str(error)) from None
            for box, score, label in zip(
                found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            ):
                rows.append((index, *box, score, label, self.detector.classes[label]))
        return pd.DataFrame(rows, columns=list(COLUMNS))


def to_array(cell: Any) -> NDArray[np.uint8]:
    """RGB[H, W, 3] of encoded bytes, base64 text or an array; UserError for anything else."""
    if isinstance(cell, np.ndarray | list) and len(cell) == 1 and isinstance(cell[0], str | bytes):
        cell = cell[0]  # as {"inputs": {"image": ["..."]}} comes
    if isinstance(cell, str):
        try:
            cell = base64.b64decode(cell, validate=True)
        except ValueError:  # also for letters that are not ASCII
            raise UserError("image: text must be a base64-encoded image file") from None
    if isinstance(cell, bytes | bytearray):
        try:
            return images.read(bytes(cell))
        except images.BROKEN:
            raise UserError("image: not a readable image file") from None
    try:
        array = np.asarray(cell)
    except ValueError:
        raise UserError("image: expected RGB[H, W, 3], got rows of different lengths") from None
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(f"image: expected RGB[H, W, 3], got an array of shape {array.shape}")
    if array.dtype.kind not in "uif" or not np.isin(array, np.arange(256)).all():
        raise UserError("image: the values of an array are whole numbers from 0 to 255")
    return array.astype(np.uint8)


set_model(DetectorModel())
