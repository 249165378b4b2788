"""Minima that are known, the path of torch's own L-BFGS, and where the search ends."""

import pytest
import torch

from unimos_pipe.methods.lbfgs import minimise

# float64 throughout; a bound of 1e-6 is the tolerance of the gradient times the least curvature's inverse, with room
pytestmark = pytest.mark.numerical
START = torch.full((5, 2), -1.2, dtype=torch.float64)


def rosenbrock(point: torch.Tensor) -> torch.Tensor:
    flat = point.flatten()
    return (100 * (flat[1:] - flat[:-1] ** 2) ** 2 + (1 - flat[:-1]) ** 2).sum()


class Counted:
    """Loss and gradient of a function, and the points at which they were taken."""

    def __init__(self, function):
        self.function, self.points = function, []

    @torch.enable_grad()
    def __call__(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        point = point.detach().requires_grad_()
        self.points.append(point)
        loss = self.function(point)
        return loss.detach(), torch.autograd.grad(loss, point)[0]


def test_a_bent_valley_is_followed_to_its_end():
    evaluate = Counted(rosenbrock)
    found = minimise(evaluate, START, iterations=1000, tolerance=1e-9)
    assert (found - 1).abs().max() < 1e-6 and not found.requires_grad
    assert len(evaluate.points) < 200


def test_a_far_minimum_is_reached_by_growing_steps():
    """The first step is at most one long, and the minimum 50,000 away."""
    evaluate = Counted(lambda point: (point - 5e4).square().sum() / 1e3)
    assert (minimise(evaluate, START, iterations=100, tolerance=1e-9) - 5e4).abs().max() < 1e-4
    assert len(evaluate.points) < 15


def test_the_path_is_that_of_torch():
    """Both take the same steps; after 20 iterations, rounding of cubic steps has grown to less than 1e-9."""
    parameter = START.clone().requires_grad_()
    settings = {"max_iter": 20, "history_size": 10, "tolerance_grad": 0, "tolerance_change": 0}
    optimiser = torch.optim.LBFGS([parameter], line_search_fn="strong_wolfe", **settings)
    optimiser.step(lambda: (optimiser.zero_grad(), (loss := rosenbrock(parameter)).backward(), loss)[2])
    found = minimise(Counted(rosenbrock), START, iterations=20, tolerance=0)
    assert (found - parameter.detach()).abs().max() < 1e-9
    assert (found - 1).abs().max() > 0.1  # far from the end: it is the path that is compared


def test_the_search_ends_at_its_limits():
    """No iterations, a gradient within the tolerance, a change of the loss within the least, 1.25 evaluations each."""
    for limit in ({"iterations": 0, "tolerance": 0}, {"iterations": 9, "tolerance": 1e4}):
        evaluate = Counted(rosenbrock)
        assert minimise(evaluate, START, **limit).equal(START) and len(evaluate.points) == 1
    evaluate = Counted(rosenbrock)
    minimise(evaluate, START, iterations=9, tolerance=0, least_change=1e4)
    assert len(evaluate.points) < 5
    evaluate = Counted(rosenbrock)
    minimise(evaluate, START, iterations=40, tolerance=0)
    assert len(evaluate.points) <= 50 + 25


def test_a_loss_that_is_not_finite_ahead_is_stepped_back_from():
    evaluate = Counted(lambda point: (-torch.log(1 - point)).sum() - 3 * point.sum())
    found = minimise(evaluate, torch.zeros(3, dtype=torch.float64), iterations=50, tolerance=1e-9)
    assert (found - 2 / 3).abs().max() < 1e-6


def test_a_tolerance_that_rounding_does_not_reach_ends_in_a_narrow_bracket():
    """float32 cannot meet it; the loss no longer falls, and the bracket closes."""
    evaluate = Counted(rosenbrock)
    found = minimise(evaluate, START.float(), iterations=1000, tolerance=0)
    assert (found - 1).abs().max() < 1e-2 and len(evaluate.points) < 1000
