"""What trained heads say about features, as the last epoch's evaluation does."""

from torch import Tensor

from unimos_pipe.base.config import MethodSpec
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.pseudo_labels import branch_logits
from unimos_pipe.methods.unimos.schedules import inference_weight


def branch_probabilities(heads: Heads, x: Tensor, text: Tensor, method: MethodSpec) -> tuple[Tensor, Tensor, Tensor]:
    """(n, D) unit-norm rows and (K, D) text -> (n, K) probabilities of ensemble, VAC and LAC."""
    epoch = method.train.epochs - 1
    vac, lac, _ = branch_logits(heads, x, text, epoch, method.eval)
    weight = inference_weight(epoch, method.eval)
    return (weight * vac + (1 - weight) * lac).softmax(-1), vac.softmax(-1), lac.softmax(-1)
