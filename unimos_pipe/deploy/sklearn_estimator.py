"""UniMoS as a scikit-learn classifier of feature arrays, with skada's convention for domains."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.methods.from_arrays import task_from_arrays
from unimos_pipe.methods.task import resolve_train_precision, unit_rows
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run


class UniMoSClassifier(ClassifierMixin, BaseEstimator):
    """UniMoS classifier: trained on labelled source rows, adapted to unlabelled target rows.

    Rows are normalised to unit norm. Computation is in float64 on the CPU and deterministic for a seed.

    Parameters:
        text: (K, D) features of the class prompts, rows in the order of the sorted labels. None takes the means of the
            source's classes, for comparisons on data without text. This is not UniMoS as published, whose two branches
            differ because the text features are independent of the source.
        variant: full, an ablation such as no-im, or the extension fused-teacher.
        settings: changed options by dotted name, such as ``{"train.epochs": 20}``.
        random_state: seed.

    Attributes:
        classes_: (K,) sorted labels of the source.
        heads_: trained heads.
        text_: (K, D) text features of the LAC branch.
    """

    # Metadata routing: meta-estimators and cross-validation pass sample_domain to fit.
    __metadata_request__fit = {"sample_domain": True}  # noqa: RUF012

    def __init__(
        self,
        text: np.ndarray | None = None,
        *,
        variant: str = "full",
        settings: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ):
        self.text = text
        self.variant = variant
        self.settings = settings
        self.random_state = random_state

    def fit(self, X, y, sample_domain=None) -> "UniMoSClassifier":  # noqa: N803 -- scikit-learn's names
        """Train on (n, D) rows.

        Args:
            y: (n,) labels; those of target rows are ignored (skada masks them as -1).
            sample_domain: (n,) numbers, positive for source rows, negative for target rows. None: all rows are both
                source and target.
        Raises:
            ValueError: inconsistent arrays, fewer than two classes, or fewer than two rows of a domain.
            InputError: unknown settings, or text of a wrong shape.
            ExecutionError: training diverged.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)  # noqa: N806
        domain = np.ones(len(X)) if sample_domain is None else np.asarray(sample_domain)
        if domain.shape != (len(X),) or (domain == 0).any():
            raise ValueError(f"sample_domain: expected {len(X)} numbers, none 0, got shape {domain.shape}")
        source, target = domain > 0, domain < 0
        if not target.any():
            target = source
        check_classification_targets(y[source])
        self.classes_ = np.unique(y[source])
        if min(source.sum(), target.sum()) < 2:
            raise ValueError(f"n_samples={len(X)}: 1 sample in a domain is not enough; each needs 2")
        if len(self.classes_) < 2:
            raise ValueError(f"the source has {len(self.classes_)} class; two or more are needed")
        method = method_spec(self.variant, {"train.precision": "fp64", **(self.settings or {})}, "settings")
        method = resolve_train_precision(method, "cpu")
        task = task_from_arrays((X[source], y[source]), X[target], self.text, list(self.classes_), dtype=torch.float64)
        trainer = Trainer([create_run(task, method, self.random_state)])
        for _, records in trainer.train():
            list(records)  # the records must be consumed to finish an epoch
        if trainer.failures:
            raise ExecutionError(trainer.failures[0])
        self.method_ = method
        model = trainer.model_state(0)
        self.text_ = model["text_features"]
        self.heads_ = Heads.from_state(model, method.heads, torch.device("cpu"))
        return self

    @torch.no_grad()
    def predict_proba(self, X) -> np.ndarray:  # noqa: N803
        """Return (n, K) ensemble probabilities of (n, D) rows, columns in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        rows = unit_rows(torch.from_numpy(X), self.text_.dtype, self.text_.device)
        return UniMoSModel(self.heads_, self.text_, self.method_).logits(rows).softmax(-1).numpy()

    def predict(self, X) -> np.ndarray:  # noqa: N803
        """Return (n,) labels of (n, D) rows."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(-1)]
