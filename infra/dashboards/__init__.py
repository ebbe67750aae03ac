"""Dashboards as data, which Grafana and the page of `estate dashboard` both draw."""
