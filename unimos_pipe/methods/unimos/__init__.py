"""UniMoS: heads, layers, losses, step, schedules, pseudo-labels, draws, trainer (METHOD.md)."""
