"""Deployment of a finished run: model, prediction, export, model card, scikit-learn estimator."""
