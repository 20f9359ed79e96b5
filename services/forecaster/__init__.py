"""The forecaster deployment: trajectories to forecasts; writes forecasts."""
