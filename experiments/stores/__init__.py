"""What the two stores, Optuna's and MLflow's, have in common: waiting for them, and SQLite.

Knows nothing of studies, trials or runs.
"""
