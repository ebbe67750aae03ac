"""Tests on sockets of this machine, with programs of Debian where they need them."""
