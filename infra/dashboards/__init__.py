"""Dashboards as data, which Grafana and the page of `make dashboard` both draw."""
