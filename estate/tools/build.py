"""`estate tools build`: build every missing tool, into a per-user cache keyed by the pins.

A tool is built in a temporary folder and renamed into place, under its own lock: an interrupted build
leaves nothing that looks complete, and two concurrent builds share the work.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from estate.core.console import EstateError, report, run_logged, step
from estate.core.paths import CACHE
from estate.core.removal import delete_removed, remove

HERE = Path(__file__).parent
BUILDS = CACHE / "tools"
GO_CACHE = CACHE / "go"
LAYOUT = "2"
"""Version of the layout of the folder with every program; incremented when `link` changes."""
NEEDED_BYTES = 20 * 2**30
"""Peak size of the modules, build cache and binaries of a cold build together."""


@dataclass(frozen=True)
class Copied:
    """Files that are copied unchanged from a Go module."""

    from_: str
    module: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class GoTool:
    """An entry of tools.toml under [go]."""

    name: str
    version: str
    minutes: float
    binaries: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    """Build constraints (`go help buildconstraint`)."""
    plugin: str | None = None
    copied: Copied | None = None

    @property
    def source(self) -> Path:
        return HERE / self.name

    @cached_property
    def folder(self) -> Path:
        """Return the folder of the built tool; each pin has its own."""
        digest = hashlib.sha256(repr((self.version, self.binaries, self.variables, self.copied, *self.tags)).encode())
        for path in sorted(p for p in self.source.rglob("*") if p.is_file()):
            digest.update(path.relative_to(self.source).as_posix().encode() + b"\0" + path.read_bytes())
        return BUILDS / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Debian:
    """The [debian] table of tools.toml."""

    suite: str
    unpacked: tuple[str, ...]
    installed: tuple[str, ...]

    @cached_property
    def folder(self) -> Path:
        digest = hashlib.sha256(repr((self.suite, self.unpacked)).encode()).hexdigest()[:12]
        return BUILDS / f"debian-{self.suite}-{digest}"


def load() -> tuple[list[GoTool], Debian]:
    """Read tools.toml."""
    data = tomllib.loads((HERE / "tools.toml").read_text())
    tools: list[GoTool] = []
    for name, entry in data["go"].items():
        if copied := entry.pop("copied", None):
            copied = Copied(copied["from"], copied["module"], tuple(copied["files"]))
        tools.append(GoTool(name=name, copied=copied, tags=tuple(entry.pop("tags", ())), **entry))
    debian = data["debian"]
    return tools, Debian(debian["suite"], tuple(debian["unpacked"]), tuple(debian["installed"]))


@dataclass(frozen=True)
class Toolbox:
    """The built tools of one set of pins."""

    folder: Path
    """bin/ with every program, and pulumi/ as the PULUMI_HOME with the plugins."""
    debian: Path
    """Root of the unpacked Debian packages."""

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def pulumi_home(self) -> Path:
        return self.folder / "pulumi"

    @property
    def cni(self) -> Path:
        return self.debian / "usr/lib/cni"

    @property
    def path(self) -> str:
        """Return a PATH with these tools first."""
        own = [self.bin, *(self.debian / part for part in ("usr/bin", "usr/sbin"))]
        return os.pathsep.join([*map(str, own), "/usr/sbin", "/sbin", os.environ.get("PATH", os.defpath)])


def toolbox() -> Toolbox:
    """Return the tools of the current pins, whether built yet or not."""
    tools, debian = load()
    key = hashlib.sha256(
        "".join(sorted([LAYOUT, *(tool.folder.name for tool in tools), debian.folder.name])).encode()
    ).hexdigest()
    return Toolbox(BUILDS / f"all-{key[:12]}", debian.folder)


@contextmanager
def locked(name: str) -> Generator[None]:
    """Hold the lock of one tool; report when another process holds it."""
    BUILDS.mkdir(parents=True, exist_ok=True)
    with (BUILDS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"  {name}: another command builds it; waiting")
            with step(f"{name} (built by the other command)"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_missing() -> Toolbox:
    """Build and link every missing tool.

    Raises:
        EstateError: a requirement is missing, or a build failed.
    """
    tools, debian = load()
    box = toolbox()
    delete_removed()
    if box.folder.exists() and debian.folder.exists():
        remove_go_cache()  # left by a build that was killed at its end
        return box
    missing = [tool for tool in tools if not tool.folder.exists()]
    check_requirements(missing)
    if not debian.folder.exists():
        with locked("debian"), step("Debian packages"):
            unpack_debian(debian)
    started = time.monotonic()
    with (BUILDS / "go.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_SH)
        build_all(missing, tools)
    if missing:
        report(f"  {len(missing)} tools in {(time.monotonic() - started) / 60:.1f} min")
    remove_go_cache()
    with locked("all"):
        link(box, tools)
    return box


def build_all(missing: list[GoTool], tools: list[GoTool]) -> None:
    """Build the missing tools one after another: each build uses every core."""
    for number, tool in enumerate(missing):
        left = sum(later.minutes for later in missing[number:])
        report(
            f"  {tool.name} {tool.version}: {number + 1} of {len(missing)}, "
            f"about {left:.0f} min left in all if nothing is cached"
        )
        with locked(tool.name), step(tool.name):
            build(tool, tools)


def check_requirements(missing: list[GoTool]) -> None:
    """Check that everything that a build needs is there.

    Raises:
        EstateError: names everything that is missing.
    """
    problems: list[str] = []
    if platform.system() != "Linux":
        problems.append(
            "the tools are built on Linux only; elsewhere use your own: estate --target system --context … up"
        )
    release = platform.freedesktop_os_release() if platform.system() == "Linux" else {}
    if "debian" not in f"{release.get('ID')} {release.get('ID_LIKE')}".split():
        problems.append("Debian or a relative of it is needed (apt); elsewhere: estate --target system --context … up")
    if missing and not go_is_new_enough():
        problems.append("Go 1.21 or newer is needed to build the tools: install it and put `go` on PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free
    if missing and free < NEEDED_BYTES:
        problems.append(
            f"{CACHE} has {free / 2**30:.1f} GiB free, building needs {NEEDED_BYTES / 2**30:.0f}: "
            "free some, or set XDG_CACHE_HOME to a larger disk"
        )
    if problems:
        raise EstateError("cannot build the tools:\n" + "\n".join(f"  - {problem}" for problem in problems))


def go_is_new_enough() -> bool:
    """Return whether Go is 1.21 or newer: since then, go fetches the toolchain that a go.mod requires from the module proxy."""
    if not shutil.which("go"):
        return False
    version = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", version)
    return bool(found) and (int(found[1]), int(found[2])) >= (1, 21)


def go_environment() -> dict[str, str]:
    return os.environ | {
        "CGO_ENABLED": "0",  # the binaries also go into images that hold nothing else
        "GOBIN": "",
        "GOCACHE": str(GO_CACHE / "build"),
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -modcacherw",
        "GOMODCACHE": str(GO_CACHE / "mod"),
        "GOTOOLCHAIN": "auto",
        "GOWORK": "off",
    }


def build(tool: GoTool, tools: list[GoTool]) -> None:
    """Build one tool into its folder, unless another process has built it meanwhile."""
    if tool.folder.exists():
        return
    unfinished = BUILDS / f"{tool.name}.unfinished"  # same name for all pins: the next build of the tool removes it
    remove(unfinished)
    unfinished.mkdir(parents=True)
    flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in tool.variables.items())])
    for binary, package in tool.binaries.items():
        run_logged(
            ["go", "build", "-tags", ",".join(tool.tags), "-ldflags", flags, "-o", str(unfinished / binary), package],
            BUILDS / "logs" / f"{tool.name}.log",
            f"building {binary}",
            env=go_environment(),
            cwd=tool.source,
        )
    if tool.copied:
        copy_files(tool.copied, unfinished, tools)
    unfinished.rename(tool.folder)


def copy_files(wanted: Copied, target: Path, tools: list[GoTool]) -> None:
    """Copy files of a module, in the version that the tool `wanted.from_` pins.

    Modules do not keep file modes, and some of the files are scripts: all become executable.
    """
    pinned = next(tool for tool in tools if tool.name == wanted.from_)
    found = subprocess.run(
        ["go", "mod", "download", "-json", wanted.module],
        cwd=pinned.source, env=go_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    folder = json.loads(found.stdout or "{}").get("Dir")
    if not folder:
        raise EstateError(f"the source of {wanted.module} cannot be had: {found.stdout}{found.stderr.strip()}")
    for name in wanted.files:
        copied = target / Path(name).name
        shutil.copyfile(Path(folder) / name, copied)
        copied.chmod(0o755)


def unpack_debian(debian: Debian) -> None:
    """Download the packages with apt (which checks the release's signature), and unpack them side by side."""
    if debian.folder.exists():
        return
    logs = BUILDS / "logs"
    downloads = BUILDS / f"{debian.folder.name}.debs"
    unfinished = BUILDS / f"{debian.folder.name}.unfinished"
    for folder in (downloads, unfinished):
        remove(folder)
        folder.mkdir(parents=True)
    download = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *debian.unpacked]
    try:
        run_logged(download, logs / "debian.log", "downloading Debian packages", cwd=downloads)
    except EstateError:  # no package lists yet, or old ones
        run_logged(["apt-get", "update", "-q"], logs / "apt-update.log", "apt-get update")
        run_logged(download, logs / "debian.log", "downloading Debian packages", cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        run_logged(["dpkg-deb", "-x", str(package), str(unfinished)], logs / "debian.log", f"unpacking {package.name}")
    remove(downloads)
    unfinished.rename(debian.folder)


def link(box: Toolbox, tools: list[GoTool]) -> None:
    """Create one folder with a link to every program, and a PULUMI_HOME with the Pulumi plugins installed."""
    if box.folder.exists():
        return
    unfinished = BUILDS / "all.unfinished"
    remove(unfinished)
    (unfinished / "bin").mkdir(parents=True)
    for tool in tools:
        for program in tool.folder.iterdir():
            if not tool.plugin:  # a plugin on PATH would make Pulumi warn about it
                # A hard link: Pulumi resolves symbolic links to its own binary, and looks for its language host next to the target.
                os.link(program, unfinished / "bin" / program.name)
    environment = os.environ | {
        "PULUMI_HOME": str(unfinished / "pulumi"),
        "PATH": f"{unfinished / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    for tool in tools:
        if tool.plugin:
            install = ["pulumi", "plugin", "install", "resource", tool.plugin, tool.version, "--file", str(tool.folder)]
            log = BUILDS / "logs" / f"plugin-{tool.plugin}.log"
            run_logged(install, log, f"installing the Pulumi plugin {tool.plugin}", env=environment)
    unfinished.rename(box.folder)


def remove_go_cache() -> None:
    """Remove the modules and the build cache (20 GB) after the builds; the binaries are a fraction of that."""
    with (BUILDS / "go.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a build of other pins uses the cache, and removes it at its end
            return
        remove(GO_CACHE)
