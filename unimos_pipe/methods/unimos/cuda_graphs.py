"""Training steps as CUDA graphs: one call launches the hundreds of kernels of a step."""

from collections import Counter
from collections.abc import Callable

import torch

from unimos_pipe.methods.unimos.step_inputs import StepInputs

WARM_UP = 2  # eager steps before a capture: libraries load and allocate on first use


class CudaGraphSteps:
    """Runs the steps of a block at a fixed memory address, with one graph per number of active runs.

    Capturing computes nothing, so every step runs exactly once: eagerly during warm-up, then by replay.
    """

    def __init__(self, block: StepInputs, step: Callable[[int, StepInputs], None]):
        """``step(active, inputs)`` runs one step of the first ``active`` runs without synchronising with the device."""
        self.block, self.step = block, step
        self.position = torch.zeros(1, dtype=torch.int64, device=block.rows.device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.step_counts: Counter[int] = Counter()

    def __call__(self, active: int, position: int) -> None:
        """Run the step at a position of the block."""
        self.step_counts[active] += 1
        if self.step_counts[active] <= WARM_UP:
            side_stream = torch.cuda.Stream()
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                self.step(active, self.block.step(position))
            torch.cuda.current_stream().wait_stream(side_stream)
            return
        self.position.fill_(position)
        if active not in self.graphs:
            self.graphs[active] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[active], pool=self.pool):
                self.step(active, self.block.step_at(self.position))
        self.graphs[active].replay()
