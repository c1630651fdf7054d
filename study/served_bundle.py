"""A bundle as an MLflow model: this file is its code, which MLflow copies beside the bundle and runs.

It imports only rooms that travel with it, see `study.registered_model`.

A request is a table with the column `image`, in each row the base64 of an image file; the answer has a
row an image, with the columns that `radtune predict` writes but for the image's name.
"""

from __future__ import annotations

import base64
import binascii

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from cohort.errors import InputError
from vlm.bundle import Bundle


class ServedBundle(PythonModel):
    """Answers requests with a bundle's predictions."""

    def load_context(self, context: PythonModelContext) -> None:
        self._bundle = Bundle.load(context.artifacts["bundle"])

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        """One row per image; MlflowException, a server's status 400, where one is unreadable."""
        try:
            images = [_decoded(text, i) for i, text in enumerate(model_input["image"])]
            table = self._bundle.predict(images)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return (
            table.drop_columns("image")
            .to_pandas()
            .astype({name: "int64" for name in table.column_names if name.startswith("decision.")})
        )


def _decoded(text: str, place: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image {place}: must be the base64 of an image file ({error})") from None


set_model(ServedBundle())
