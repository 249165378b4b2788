"""Stage two: stacks of runs, sweeps, scores, validators, checkpoints."""
