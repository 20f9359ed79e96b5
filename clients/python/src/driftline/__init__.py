"""Python client of Driftline."""
