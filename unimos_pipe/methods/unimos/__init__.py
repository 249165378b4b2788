"""UniMoS: heads, losses, training step, schedules, pseudo-labels, random streams and trainer (METHOD.md)."""
