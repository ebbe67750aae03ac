"""servicekit: the common base of the estate's services (settings, logs, metrics, problems, health, registration, serving)."""
