"""The write path as jobs: import, preprocess, refresh, status."""
