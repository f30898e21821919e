"""The models at hand: found by the hash of their file, which every alert carries."""

import hashlib
from pathlib import Path

from detector.contract.alerts import Alert, ModelReference
from detector.contract.explanations import Explanation
from detector.core.explaining import NotExplainableError, explain
from detector.core.parts import Said, said_of
from detector.core.reasons import window_of
from detector.model.artifact import (
    PACKAGED_MODELS,
    Model,
    UnknownActions,
    load_model,
    packaged_model_path,
)
from detector.model.scorer import GraphError


class ModelMissingError(Exception):
    """A model decided, and its file is not at hand. The message names it."""


class ModelsAtHand:
    """The packaged models and those of a folder. A file is loaded when it is first asked for, and then kept.

    Args:
        folder: of .onnx files; looked through again for each model that is not known yet.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._loaded: dict[str, Model] = {}

    def of(self, reference: ModelReference) -> Model:
        """Return the very model that a reference names.

        Raises:
            ModelMissingError: no file has its hash.
            ModelRefusedError: the file can't be used.
        """
        if reference.sha256 not in self._loaded:
            self._loaded[reference.sha256] = self._load(reference)
        return self._loaded[reference.sha256]

    def explain(self, alert: Alert) -> Explanation:
        """Explain an alert by the model that it names.

        Raises:
            ModelMissingError: that model is not at hand.
            ModelRefusedError: its file can't be used.
            NotExplainableError: the alert lacks what an explanation needs.
        """
        model = self.of(alert.model)
        try:
            return explain(alert, model.encoding, model.score, model.evidence)
        except GraphError as error:
            raise NotExplainableError(
                f"alert {alert.alert_id}: model {alert.model.name} can't score a part of its window: {error}"
            ) from error

    def said(self, alert: Alert) -> list[Said]:
        """Return what each signal says of the last action of an alert's window; nothing where its model reads none.

        Raises:
            ModelMissingError: the model is not at hand.
            ModelRefusedError: its file can't be used.
            NotExplainableError: the alert contradicts its model.
        """
        encoding = self.of(alert.model).encoding
        if not encoding.signals:
            return []
        try:
            return said_of(window_of(alert, encoding)[-encoding.step_bytes :], encoding)
        except ValueError as error:
            raise NotExplainableError(f"alert {alert.alert_id}: {error}") from error

    def _load(self, reference: ModelReference) -> Model:
        files = sorted(self._folder.glob("*.onnx")) if self._folder else []
        for path in (*map(packaged_model_path, PACKAGED_MODELS), *files):
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                continue  # a file that can't be read is none at hand
            if found == reference.sha256:
                model = load_model(path)
                return model.treating(UnknownActions.TOKEN) if model.metadata.unknown_token else model
        where = f"the {len(files)} models in {self._folder}" if self._folder else "the packaged models"
        raise ModelMissingError(
            f"model {reference} is not among {where}: expected the "
            "file of that SHA-256; keep every model that was in service in one folder, and name it with --models"
        )
