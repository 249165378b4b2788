"""A finished run taken elsewhere: model, predict, export, card."""
