"""Vectors and forecasts without a running encoder and forecaster: in this process, or by Ray tasks on several."""
