"""Run `make test-fast` on machines that have what the README asks for and nothing else.

Each is a small Debian from debootstrap, kept in the cache. The home with the clone of the current commit is fresh each time, and the user
is an ordinary, careful one (umask 077). From this machine they get only the access to the package registries, and nothing of its environment.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from estate.cluster.preflight import install_packages
from estate.cluster.standins import machine_certificates
from estate.core.console import EstateError, report, run_command, run_logged, step, timed
from estate.core.paths import CACHE, PROJECT
from estate.core.removal import delete_removed, remove
from estate.tools.build import BUILDS, locked

BARE = CACHE / "bare"
RELEASES = ("bookworm", "trixie")
PACKAGES = ("ca-certificates", "git", "make", "python3-venv")
"""Packages that the README asks for and a minimal Debian lacks."""
USER, UID = "tester", 1000
HOME = f"/home/{USER}"
ENVIRONMENT = {"HOME": HOME, "PATH": "/usr/local/bin:/usr/bin:/bin"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
REGISTRIES = (
    *PROXIES, *map(str.lower, PROXIES), "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "UV_DEFAULT_INDEX", "UV_INDEX"
)  # fmt: skip
"""Variables that name the package registries of a machine."""
NAME_SERVERS, AUTHORITIES = "/etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"
CONFIGURATIONS = ("/etc/pip.conf", "/etc/uv/uv.toml", "~/.config/pip/pip.conf", "~/.config/uv/uv.toml")
"""Files that configure the package registries; ~ is the home directory on both sides."""
ENTER = f"""
set -eu
tree=$1 fresh=$2; shift 2
mount --bind "$tree" "$tree"
mount --bind "$fresh/home" "$tree{HOME}"
mount --bind "$fresh/tmp" "$tree/tmp"
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
mount -o remount,bind,ro "$tree"
umask 077
chroot --userspec={USER} "$tree" env --ignore-environment --chdir={HOME}/estate "$@"
exit
"""
"""Script that enters mount and process namespaces of its own, which end with it: nothing stays mounted or running, however it ends.

The shell stays their first process, because a change of user would discard the signal that ends it with its parent (prctl(2), PR_SET_PDEATHSIG).
"""


def tree(release: str) -> Path:
    """Return the root file system of a release, built on first use.

    Raises:
        EstateError: debootstrap failed.
    """
    digest = hashlib.sha256(repr((PACKAGES, USER, UID)).encode()).hexdigest()[:12]
    made = BARE / f"{release}-{digest}"
    if not made.exists():
        install_packages(("debootstrap",))
        unfinished = BARE / f"{release}.unfinished"
        unfinished.mkdir(parents=True)
        strap = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release, str(unfinished)]
        add = ["chroot", str(unfinished), "useradd", "--create-home", f"--uid={UID}", USER]
        with step(f"Debian {release}"):
            run_logged(strap, BUILDS / "logs" / f"bare-{release}.log", "debootstrap")
            run_logged(add, BUILDS / "logs" / f"bare-{release}.log", "useradd")
        unfinished.rename(made)
    return made


def connect_registries(root: Path, home: Path) -> None:
    """Copy this machine's registry configuration into a system, replacing the earlier one."""
    (root / AUTHORITIES).write_bytes(machine_certificates())
    for name in (NAME_SERVERS, *CONFIGURATIONS):
        source = Path(name).expanduser()
        copy = home / name.removeprefix("~/") if name.startswith("~") else root / name.removeprefix("/")
        copy.unlink(missing_ok=True)
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def environment_of(machine: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment on the bare machine: the registry variables of this machine and nothing else of it."""
    return ENVIRONMENT | {name: machine[name] for name in REGISTRIES if name in machine}


def remove_leftovers() -> None:
    """Remove what this run, or one that was killed, has left behind; keep the root file systems."""
    for pattern in ("*.fresh", "*.unfinished"):
        for left in BARE.glob(pattern):
            remove(left)
    delete_removed()


def run_tests(release: str) -> int:
    """Run `make test-fast` on a release, and return its exit code."""
    root, fresh = tree(release), BARE / f"{release}.fresh"
    for folder in ("home", "tmp"):
        (fresh / folder).mkdir(parents=True)
    # The commit alone, as in the checkout of a workflow.
    clone = ["git", "clone", "--quiet", "--depth=1", f"file://{PROJECT}", str(fresh / "home" / "estate")]
    run_logged(clone, BUILDS / "logs" / f"bare-{release}.log", "git clone")
    connect_registries(root, fresh / "home")
    subprocess.run(["chown", "-R", f"{UID}:{UID}", str(fresh)], check=True)
    own = [f"{name}={value}" for name, value in environment_of(os.environ).items()]
    ends_with_us = ["setpriv", "--pdeathsig=KILL"]
    apart = [*ends_with_us, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
    inside = ["sh", "-c", ENTER, "sh", str(root), str(fresh), *own, "make", "test-fast"]
    return subprocess.run([*apart, *inside], check=False).returncode


def main() -> None:
    if os.geteuid() != 0:
        raise EstateError("the bare machines need root (debootstrap, chroot): run it as root")
    with locked("bare"):
        remove_leftovers()
        try:
            for release in RELEASES:
                report(f"Debian {release}, with {', '.join(PACKAGES)}:")
                with timed():
                    if run_tests(release) != 0:
                        raise EstateError(f"make test-fast failed on Debian {release}")
        finally:
            remove_leftovers()


if __name__ == "__main__":
    run_command(main)
