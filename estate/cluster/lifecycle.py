"""`estate cluster start`, `estate cluster stop`, `estate cluster reset`."""

import fcntl
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from estate.cluster import addons, cgroups, images, network, pki, preflight, supervision, tools
from estate.cluster.components import components, configurations
from estate.cluster.layout import (
    CONFIG,
    DATA,
    KUBECONFIG,
    LOGS,
    ROOT,
    RUN,
    SERVICES_DIR,
    VOLUMES,
)
from estate.core.console import EstateError, confirm, report, say, step
from estate.core.removal import delete_removed, remove
from estate.tools.build import Toolbox, build_missing, toolbox


@contextmanager
def only_one() -> Generator[None]:
    """Hold the cluster's lock, so that starting and stopping never overlap."""
    ROOT.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (ROOT.parent / "cluster.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another command that starts or stops the cluster"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def supervisor_runs() -> bool:
    return any(process_name(pid) == "runsvdir" for pid in cgroups.processes())


def process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_up(box: Toolbox) -> bool:
    """Return whether every process runs as currently defined and everything in the cluster is ready."""
    if not (supervisor_runs() and network.bridge_exists() and KUBECONFIG.exists()):
        return False
    if not (is_defined(box) and pki.is_current() and addons.are_applied(box)):
        return False
    if not all(supervision.is_running(box, component) and component.ready() for component in components()):
        return False
    try:
        return not addons.not_ready(box)
    except EstateError:
        return False


def is_defined(box: Toolbox) -> bool:
    """Return whether the processes' configuration and scripts on disk are the current ones."""
    written = {CONFIG / name: text for name, text in configurations(box).items()}
    return all(path.exists() and path.read_text() == text for path, text in written.items()) and all(
        supervision.is_defined(component) for component in components()
    )


def start() -> None:
    """Start the cluster, from whatever state it is in."""
    preflight.check_rights()
    delete_removed()
    with only_one():
        box = toolbox()
        if box.folder.exists() and is_up(box):
            tools.keep(box)
            say(f"cluster is up: {KUBECONFIG}")
            return
        if not supervisor_runs():
            end("of an earlier run")
        preflight.check(running=supervisor_runs())
        box = build_missing()  # running processes continue meanwhile
        if not is_defined(box):
            end("of another version")
        tools.keep(box)
        with step("network, certificates, configuration"):
            prepare(box)
        if not supervisor_runs():
            supervision.start_supervisor(box)
        for component in components():
            with step(component.name):
                if component.name == "kube-router":  # the only host process without a built-in RBAC role
                    addons.apply_access(box)
                supervision.start(box, component)
        with step("system images"):
            references = images.publish_system(box)
        with step("node, DNS, storage, Ingress, metrics"):
            addons.apply(box, references)
            addons.wait_ready(box)
        say(f"cluster is up: {KUBECONFIG}")


def end(which: str) -> None:
    """Kill the cluster's processes, and report their number."""
    if left := cgroups.kill_all():
        report(f"  ended {left} processes {which}")


def prepare(box: Toolbox) -> None:
    """Set up the network, certificates, configuration and service folders of the processes."""
    for folder in (RUN, LOGS, CONFIG, DATA, VOLUMES, SERVICES_DIR):
        folder.mkdir(parents=True, exist_ok=True)
    network.set_up()
    pki.create(box)
    for name, text in configurations(box).items():
        path = CONFIG / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for component in components():
        supervision.define(component)


def stop() -> None:
    """Stop every process, and undo the changes to the machine's network; the data stays."""
    preflight.check_rights()
    with only_one():
        with step("processes"):
            ended = cgroups.kill_all()
        with step("mounts"):
            unmount_all()
        with step("network"):
            network.tear_down()
        cgroups.remove()
        shutil.rmtree(RUN, ignore_errors=True)
        remove_log_links()
        say(f"cluster is stopped ({ended} processes ended); its data stays in {ROOT}")


def unmount_all() -> None:
    """Unmount the containers' mounts, including the network namespaces of the pods; the latest first."""
    own = (str(ROOT), str(RUN))
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(own):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def remove_log_links() -> None:
    """Remove the kubelet's links to our logs, which are in this fixed folder."""
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and str(link.readlink()).startswith(str(ROOT)):
            link.unlink()


def reset(*, agreed: bool = False) -> None:
    """Stop the cluster and delete all of its data: volumes, images, certificates.

    Raises:
        EstateError: this was not confirmed; nothing has changed.
    """
    what = "This deletes the embedded cluster, and the data of every stack in it."
    confirm(what, "cluster", "estate cluster reset --yes", agreed=agreed)
    stop()
    with only_one():
        remove(ROOT)
    say("all that the cluster held is removed; the disk has its space back in a while")
