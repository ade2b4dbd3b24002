"""Figures of runs, handed to where others keep theirs: MLflow, TensorBoard."""
