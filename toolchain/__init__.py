"""Builds the tools and runs the single-machine Kubernetes that the estate needs on a bare machine."""

import signal
import sys

# Python imports this before all else of `python -m toolchain.X`: until run_command takes over, Ctrl-C ends it without a traceback of an import.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
