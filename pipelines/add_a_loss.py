"""UniMoS with an additional loss from outside the package: entropy of the vision branch on the target.

    python pipelines/add_a_loss.py [WEIGHT...]

A loss gets the outputs of a step's modules (unimos_pipe/methods/unimos/loss_terms.py: Outputs) and returns one mean per
stacked run; autograd computes its gradients. It is logged with an existing term. adapt_task writes no run folder, so
runs with and without the loss are not confused; a permanent loss needs an option (METHOD.md, section 9).
"""

import sys

from torch import Tensor

import unimos_pipe
from unimos_pipe.methods.unimos.loss_terms import LOSSES, LossTerm, Outputs
from unimos_pipe.methods.unimos.losses import entropy


def vision_entropy(outputs: Outputs) -> Tensor:
    """Return the (R,) mean entropy of softmax(y_vac) over the target's rows."""
    return entropy(outputs.y_vac[:, outputs.half :].softmax(-1)).mean(-1)


def main(weights: list[float], epochs: int = 20) -> dict[float, float]:
    """Train line -> sketch of the icons with each weight; return weight -> last epoch's accuracy."""
    features = unimos_pipe.extract_features("icons").features
    task = unimos_pipe.make_task(features, "line", "sketch")
    accuracies = {}
    for weight in weights:
        LOSSES["vision_entropy"] = LossTerm("im", lambda spec, weight=weight: weight, vision_entropy)
        model = unimos_pipe.adapt_task(task, settings={"train.epochs": epochs})
        accuracies[weight] = model.settings["about"]["accuracy"]["last"]
        print(f"weight {weight}: accuracy {100 * accuracies[weight]:.1f} %")
    del LOSSES["vision_entropy"]
    return accuracies


if __name__ == "__main__":
    main([float(text) for text in sys.argv[1:]] or [0.0, 0.1, 1.0])
