"""Reports on a running stack: status, logs, dashboards."""
