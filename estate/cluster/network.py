"""Machine network of the cluster: one bridge with the node's address, and iptables rules in separate chains."""

import re
import shutil
import subprocess
from pathlib import Path

from estate.cluster.layout import BRIDGE, NODE, OWN, PODS, ROOT, SERVICES
from estate.core.console import EstateError

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARD_BEFORE = ROOT / "ip_forward.before"
CHAINS = {
    ("filter", "FORWARD", "ESTATE-FORWARD"): [["-s", str(PODS), "-j", "ACCEPT"], ["-d", str(PODS), "-j", "ACCEPT"]],
    ("nat", "POSTROUTING", "ESTATE-EGRESS"): [["-s", str(PODS), "!", "-d", str(OWN), "-j", "MASQUERADE"]],
}
NOWHERE = ("unreachable", str(PODS), "metric", "4096")
"""Route of packets to pods that do not exist. Without it, packets to stale endpoints (in kube-proxy's rules from before a restart)
would leave the machine by its default route, and another host's response would be taken for a pod's."""
OWN_PREFIXES = ("KUBE-", "ESTATE-")
OWN_SETS = re.compile(r"KUBE-(?:SRC|DST)-\w+|TMP-[A-Z2-7]{16}")
"""Names of kube-router's address sets; the TMP sets exist only briefly, or remain if it was killed at that moment."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command of iproute2 or iptables, and return its output.

    Raises:
        EstateError: it failed; with its error output.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def bridge_exists() -> bool:
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def set_up() -> None:
    """Create the bridge, the routes and the rules that do not exist yet."""
    if not bridge_exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{NODE}/32", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    # Processes on the machine reach Services through this route, even without a default route.
    run("ip", "route", "replace", str(SERVICES), "dev", BRIDGE, "src", str(NODE))
    run("ip", "route", "replace", *NOWHERE)
    if not FORWARD_BEFORE.exists():
        FORWARD_BEFORE.write_text(IP_FORWARD.read_text())
    if IP_FORWARD.read_text().strip() != "1":
        IP_FORWARD.write_text("1")
    for (table, parent, chain), rules in CHAINS.items():
        fresh = "".join(f"-A {chain} {' '.join(rule)}\n" for rule in rules)
        run("iptables-restore", "--noflush", "-w", stdin=f"*{table}\n:{chain} - [0:0]\n{fresh}COMMIT\n")
        if f"-A {parent} -j {chain}" not in run("iptables", "-w", "-t", table, "-S", parent):
            run("iptables", "-w", "-t", table, "-I", parent, "1", "-j", chain)


def tear_down() -> None:
    """Remove the rules, address sets, bridge and route, and restore the setting of IP forwarding."""
    for family in ("iptables", "ip6tables"):
        remove_own_rules(family)
    if shutil.which("ipset"):
        for name in own_among(run("ipset", "list", "-name").splitlines()):
            run("ipset", "destroy", name)
    if bridge_exists():
        run("ip", "link", "delete", BRIDGE)
    if run("ip", "route", "show", "type", "unreachable", str(PODS)):
        run("ip", "route", "delete", *NOWHERE)
    if FORWARD_BEFORE.exists():
        IP_FORWARD.write_text(FORWARD_BEFORE.read_text())
        FORWARD_BEFORE.unlink()


def remove_own_rules(family: str) -> None:
    """Remove all of the cluster's chains (kube-proxy's and the kubelet's included), and the rules that reference them."""
    rules = run(f"{family}-save").splitlines()
    kept = without_own(rules)
    if kept != rules:
        run(f"{family}-restore", "-w", stdin="\n".join(kept) + "\n")


def without_own(rules: list[str]) -> list[str]:
    """Return the lines of iptables-save that reference none of the cluster's chains."""
    return [
        line
        for line in rules
        if not any(f" {prefix}" in line or line.startswith(f":{prefix}") for prefix in OWN_PREFIXES)
    ]


def own_among(sets: list[str]) -> list[str]:
    """Return the names of the cluster's address sets."""
    return [name for name in sets if OWN_SETS.fullmatch(name)]


def foreign_kubernetes() -> bool:
    """Return whether this machine has the iptables rules of another Kubernetes: two would undo each other's rules."""
    return not bridge_exists() and "KUBE-SERVICES" in run("iptables-save", "-t", "nat")
