"""Evaluation: temporal split, baselines, report."""
