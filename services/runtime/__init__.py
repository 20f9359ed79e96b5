"""What every process shares: settings, server, interceptors, errors, logs, metrics."""
