"""L-BFGS with a line search for the strong Wolfe conditions, on tensors of any device.

Algorithms 7.4, 7.5, 3.5 and 3.6 of Nocedal and Wright, Numerical Optimization (2006), with cubic steps. Constants and
safeguards are those of ``torch.optim.LBFGS``, whose first use imports torch._dynamo, which takes a second.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10  # pairs of steps and changes of the gradient
EVALUATIONS = 1.25  # most per iteration, over all iterations
TRIALS = 25  # most of one line search
DECREASE, CURVATURE = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions
LEAST_CURVATURE = 1e-10  # of a step that enters the history
LONGEST, SHORTEST = 10.0, 0.01  # of a step beyond the last one, relative to it and to the distance from the one before
EDGE = 0.1  # share of a bracket at both ends; no two steps in a row are tried there

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Trial:
    """A point of a line search: its step, the loss, the derivative along the line, and the flat gradient."""

    step: float
    loss: float
    slope: float
    gradient: Tensor


@torch.no_grad()
def minimise(
    evaluate: Evaluate, start: Tensor, *, iterations: int, tolerance: float, least_change: float = 0.0
) -> Tensor:
    """Return where a function of ``start``'s shape has its minimum, as far as the iterations lead.

    Args:
        evaluate: returns loss and gradient at a point.
        start: the first point, in the dtype of the arithmetic.
        iterations: their largest number; 1.25 times as many evaluations end the search, too.
        tolerance: the search ends where the largest entry of the gradient is no larger.
        least_change: the search ends after a step or a change of the loss that is no larger.
    """

    def evaluate_flat(point: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = evaluate(point.view_as(start))
        return loss, gradient.flatten()

    point = start.flatten().clone()
    loss, gradient = evaluate_flat(point)
    loss, evaluations = float(loss), 1
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=HISTORY)
    for iteration in range(iterations):
        if not gradient.abs().max() > tolerance or evaluations >= EVALUATIONS * iterations:
            break
        direction = _descent_direction(gradient, pairs)
        origin = _Trial(0.0, loss, float(gradient.dot(direction)), gradient)
        if not origin.slope < -least_change:
            break
        first = 1.0 if iteration else min(1.0, 1 / float(gradient.abs().sum()))
        narrowest = least_change / float(direction.abs().max())
        best, trials = _search_step(evaluate_flat, point, direction, origin, first, narrowest)
        evaluations += trials
        step, change = best.step * direction, best.gradient - gradient
        if (product := float(change.dot(step))) > LEAST_CURVATURE:
            pairs.append((step, change, product))
        point = torch.add(point, direction, alpha=best.step)
        gradient, previous, loss = best.gradient, loss, best.loss
        if not step.abs().max() > least_change or abs(loss - previous) < least_change:
            break
    return point.view_as(start)


def _descent_direction(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Return minus the inverse curvature times the gradient, from (step, change of the gradient, their product)."""
    direction, factors = -gradient, []
    for step, change, product in reversed(pairs):
        factors.append(float(step.dot(direction)) * (1 / product))
        direction.add_(change, alpha=-factors[-1])
    if pairs:
        _, change, product = pairs[-1]
        direction.mul_(product / float(change.dot(change)))
    for (step, change, product), factor in zip(pairs, reversed(factors), strict=True):
        direction.add_(step, alpha=factor - float(change.dot(direction)) * (1 / product))
    return direction


def _search_step(
    evaluate: Evaluate, point: Tensor, direction: Tensor, origin: _Trial, step: float, narrowest: float
) -> tuple[_Trial, int]:
    """Return a trial that meets the strong Wolfe conditions, or the best of 25; and the number of evaluations.

    The best so far, ``low``, has decreased enough. With ``high`` it encloses a step that meets the conditions; until
    there is one, steps grow. The search ends where a bracket is no wider than ``narrowest``.
    """
    low, high, near_edge = origin, None, False
    for trials in range(1, TRIALS + 1):
        loss, gradient = evaluate(torch.add(point, direction, alpha=step))
        trial = _Trial(step, *torch.stack([loss, gradient.dot(direction)]).tolist(), gradient)
        bound = float(loss.new_tensor(origin.loss + DECREASE * step * origin.slope))  # no finer than losses are
        if not trial.loss <= bound or (trials > 1 and trial.loss >= low.loss):
            high = trial
        elif abs(trial.slope) <= -CURVATURE * origin.slope:
            return trial, trials
        else:
            ahead = trial.slope * (1.0 if high is None else high.step - low.step) < 0
            low, before = trial, low
            if not ahead:
                high = before
            elif high is None:
                bounds = low.step + SHORTEST * (low.step - before.step), LONGEST * low.step
                step = _cubic_minimum(before, low, *bounds)
                continue
        left, right = sorted((low.step, high.step))
        if right - left <= narrowest:
            return low, trials
        step = _cubic_minimum(low, high, left, right)
        edge = EDGE * (right - left)
        close = min(right - step, step - left) < edge
        if close and (near_edge or not left < step < right):
            step = right - edge if abs(step - right) < abs(step - left) else left + edge
            close = False
        near_edge = close
    return low, TRIALS


def _cubic_minimum(first: _Trial, second: _Trial, least: float, most: float) -> float:
    """Return the step at which the cubic through both trials has its minimum, within bounds; or their middle."""
    left, right = sorted((first, second), key=lambda trial: trial.step)
    width = right.step - left.step
    bend = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.step - right.step)
    square = bend * bend - left.slope * right.slope
    root = math.sqrt(square) if square >= 0 else 0.0
    scale = right.slope - left.slope + 2 * root
    if not (square >= 0 and scale):
        return (least + most) / 2
    return min(max(right.step - width * ((right.slope + root - bend) / scale), least), most)
