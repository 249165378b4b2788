"""UniMoS with an additional loss from outside the package: entropy of the vision branch on the target.

    python pipelines/add_a_loss.py [WEIGHT...]

A loss gets the outputs of a step's modules (unimos_pipe/methods/unimos/loss_terms.py: Outputs) and returns one mean per
stacked run; autograd computes its gradients. It is logged with an existing term, and its weight is an option of UniMoS,
which recipes and grids have, too. pipelines/outside/ has a loss that every command finds by itself.
"""

import sys

from torch import Tensor

import unimos_pipe
from unimos_pipe.methods.unimos.loss_terms import Outputs
from unimos_pipe.methods.unimos.losses import entropy


def vision_entropy(outputs: Outputs) -> Tensor:
    """Return the (R,) mean entropy of softmax(y_vac) over the target's rows."""
    return entropy(outputs.y_vac[:, outputs.half :].softmax(-1)).mean(-1)


def main(weights: list[float], epochs: int = 20) -> dict[float, float]:
    """Train line -> sketch of the icons with each weight; return weight -> last epoch's accuracy."""
    features = unimos_pipe.extract_features("icons").features
    task = unimos_pipe.make_task(features, "line", "sketch")
    unimos_pipe.register_loss("vision_entropy", vision_entropy)
    accuracies = {}
    for weight in weights:
        model = unimos_pipe.adapt_task(task, settings={"train.epochs": epochs, "loss.vision_entropy": weight})
        accuracies[weight] = model.settings["about"]["accuracy"]["last"]
        print(f"weight {weight}: accuracy {100 * accuracies[weight]:.1f} %")
    return accuracies


if __name__ == "__main__":
    main([float(text) for text in sys.argv[1:]] or [0.0, 0.1, 1.0])
