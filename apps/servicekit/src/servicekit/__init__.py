"""What every service of the estate shares: settings, logs, metrics, problems, health, registration, serving."""
