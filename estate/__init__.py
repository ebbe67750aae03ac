"""Commands that build the tools and run the single-machine Kubernetes that the estate needs on a bare machine."""

import os
import signal
import sys
from pathlib import Path

DIRECT = "localhost,127.0.0.1,127.0.0.0/8,::1,10.213.0.1,10.213.0.0/16"
"""Hosts and networks of this machine and the embedded cluster (cluster.layout.OWN), which are reached without a proxy."""
UV_OPTIONS = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
"""Options of uv, the same as in the Makefile: use the machine's Python and trusted certificate authorities. Pulumi runs uv, too."""
os.environ |= UV_OPTIONS
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
if any(name in os.environ or name.upper() in os.environ for name in PROXIES):
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = given if given.endswith(DIRECT) else f"{given},{DIRECT}".lstrip(",")
    os.environ |= {"no_proxy": direct, "NO_PROXY": direct}  # programs read either the one or the other

# The command imports this package first: until run_command takes over, Ctrl-C exits without a traceback from an import.
if Path(sys.argv[0]).name in ("-m", "estate") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
