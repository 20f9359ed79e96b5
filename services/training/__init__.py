"""Training loops: item tower, ranker, forecaster."""
