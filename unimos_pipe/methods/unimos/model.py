"""Trained heads as a model that predicts new rows, as in the last epoch's evaluation."""

from dataclasses import dataclass

from torch import Tensor

from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.pseudo_labels import build_branches
from unimos_pipe.methods.unimos.schedules import inference_weight


@dataclass(frozen=True)
class UniMoSModel:
    """Trained heads (R = 1, in evaluation mode) and the (K, D) text features they were trained with."""

    heads: Heads
    text: Tensor
    options: MethodSpec

    def logits(self, features: Tensor) -> Tensor:
        """(n, D) unit-norm rows -> (n, K) ensemble logits."""
        return self.all_logits(features)[0]

    def all_logits(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, D) unit-norm rows -> (n, K) logits of ensemble, VAC and LAC."""
        epoch = self.options.train.epochs - 1
        vac, lac, _ = build_branches(self.heads, self.text, epoch, self.options.eval)(features)
        weight = inference_weight(epoch, self.options.eval)
        return weight * vac + (1 - weight) * lac, vac, lac

    def state_dict(self) -> dict[str, Tensor]:
        """Return the heads' tensors, on the CPU."""
        return self.heads.run_state(0)
