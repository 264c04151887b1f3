"""SISE within a budget: score the masks that tell most, predict the others, stop in time (docs/budget.md)."""
