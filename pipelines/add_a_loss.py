"""UniMoS with one more loss, from outside the package: the entropy of the vision branch's answers to the target.

    python pipelines/add_a_loss.py [WEIGHT...]

A loss sees what a step's modules gave (unimos_pipe/methods/unimos/loss_terms.py: Outputs) and returns one mean per
stacked run; gradients follow by themselves. It is logged with an existing term. adapt_task writes no run folder, so
that no finished run is taken for one of another loss; to keep a loss, give it an option (METHOD.md, section 9).
"""

import sys

from torch import Tensor

import unimos_pipe
from unimos_pipe.methods.unimos.loss_terms import LOSSES, LossTerm, Outputs
from unimos_pipe.methods.unimos.losses import entropy


def vision_entropy(outputs: Outputs) -> Tensor:
    """(R,) mean entropy of softmax(y_vac) over the target's rows."""
    return entropy(outputs.y_vac[:, outputs.half :].softmax(-1)).mean(-1)


def main(weights: list[float], epochs: int = 20) -> dict[float, float]:
    """Train line -> sketch of the icons with each weight; returns the last epoch's accuracies."""
    features = unimos_pipe.extract_features("icons").features
    task = unimos_pipe.make_task(features, "line", "sketch")
    found = {}
    for weight in weights:
        LOSSES["vision_entropy"] = LossTerm("im", lambda spec, weight=weight: weight, vision_entropy)
        model = unimos_pipe.adapt_task(task, settings={"train.epochs": epochs})
        found[weight] = model.settings["about"]["accuracy"]["last"]
        print(f"weight {weight}: accuracy {100 * found[weight]:.1f} %")
    del LOSSES["vision_entropy"]
    return found


if __name__ == "__main__":
    main([float(text) for text in sys.argv[1:]] or [0.0, 0.1, 1.0])
