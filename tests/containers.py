"""Images built and containers run without a container engine's service and without a registry.

Buildah and Podman work in namespaces of their own, whose first process ends with the tests: mounts
and containers are gone with it, however the tests end. Files are below one folder.
"""

import ctypes
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installed_servers import installed_program
from tests.repositories import REPOSITORY

PROGRAMS = {"podman": "podman", "buildah": "buildah", "crun": "crun", "catatonit": "catatonit"}
"""What this needs besides Linux and root: each program's name, and Debian's package of it."""

PATIENCE = 120.0
"""Seconds; much longer than anything takes that is waited for, for a machine that is busy."""

USER_LAND = ["base-files", "base-passwd", "coreutils", "dash", "libc-bin", "libc6"]
USER_LAND += ["libgcc-s1", "libstdc++6", "netbase", "passwd"]
"""Debian's packages of the stand-in: those of the base image that the Dockerfile's steps use."""

WITHOUT = {"__pycache__", "EXTERNALLY-MANAGED", "dist-packages", "site-packages", "test"}
"""What the standard library of the stand-in lacks, as that of the base image does."""


class Commands:
    """Runs commands where `prefix` leads."""

    folder: Path
    environment: dict[str, str]

    def prefix(self, folder: Path) -> list[str]:
        """What stands before a command that runs in `folder`."""
        raise NotImplementedError

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Run a command to its end, which has to be a good one; what it writes to stdout."""
        done = self.outcome(*command, folder=folder)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr}"
        return done.stdout

    def outcome(
        self, *command: str, folder: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command likewise, however it ends."""
        return subprocess.run(
            [*self.prefix(folder or self.folder), *command],
            env=os.environ | self.environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )


class Engine(Commands):
    """Builds images and runs containers, whose network is this machine's."""

    def __init__(self, folder: Path, first: int) -> None:
        """Use `folder` for all files, inside of the namespaces of the process `first`."""
        self.folder = folder
        self._enter = ["nsenter", f"--target={first}", "--mount", "--pid"]
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage/graph"\n'
            f'runroot = "{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            '[containers]\nnetns = "host"\n[engine]\ncgroup_manager = "cgroupfs"\n'
            f'events_logger = "file"\nruntime = "here"\ntmp_dir = "{folder}/libpod"\n'
            f'[engine.runtimes]\nhere = ["{_runtime_without_limits(folder)}"]\n'
        )
        self.environment = {
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "TMPDIR": f"{folder}/storage",
        }

    def prefix(self, folder: Path) -> list[str]:
        """Into the namespaces."""
        return [*self._enter, f"--wd={folder}", "--"]

    def build(self, project: Path, tag: str, *options: str) -> str:
        """Build the image of a project's Dockerfile; what was said meanwhile."""
        return self.run(*self._build_command(), f"--tag={tag}", *options, str(project))

    def write_docker(self, program: Path, scanner: str) -> None:
        """Write a `docker` that builds, saves and runs here.

        No registry is asked: the scanner that is run is the image `scanner`, whichever was named.
        """
        program.write_text(
            f"#!{sys.executable}\n"
            "import os, sys\n"
            "action, *rest = sys.argv[1:]\n"
            f"rest = [{scanner!r} if '@sha256:' in each else each for each in rest]\n"
            f"command = {self._build_command()!r} if action == 'build' else ['podman', action]\n"
            "rest.remove('--pull') if action == 'build' else None\n"
            f"entered = {self._enter!r} + ['--wdns=' + os.getcwd(), '--', *command, *rest]\n"
            f"os.execvpe('nsenter', entered, {dict(os.environ | self.environment)!r})\n"
        )
        program.chmod(0o755)

    def _build_command(self) -> list[str]:
        """How an image is built, without what it is called and what of.

        Packages come as they do on this machine: certificates, clients' settings and uv's cache
        are mounted, so they are in no layer.
        """
        cache = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True)
        Path(cache.stdout.strip()).mkdir(parents=True, exist_ok=True)
        mounts = {
            cache.stdout.strip(): "/root/.cache/uv",
            **{str(path): f"/etc/{path.name}" for path in _client_settings(self.folder)},
            **{each: each for each in ("/etc/ssl/certs",) if Path(each).exists()},
        }
        return [
            "buildah",
            "build",
            "--format=docker",
            "--isolation=chroot",
            "--pull-never",
            "--layers",
            *(f"--volume={source}:{target}" for source, target in mounts.items()),
        ]

    def inspect(self, name: str, *, kind: str = "image") -> dict[str, object]:
        """What the engine knows of an image or a container."""
        found = json.loads(self.run("podman", "inspect", f"--type={kind}", name))
        assert isinstance(found[0], dict)
        return found[0]

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The files of an image, as `/proc` shows them outside of the namespaces."""
        where = self.run("podman", "image", "mount", image).strip()
        try:
            yield Path(f"/proc/{self._enter[1].partition('=')[2]}/root{where}")
        finally:
            self.run("podman", "image", "unmount", image)


PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

[BASE] = re.findall(
    r"^FROM (\S+) AS base$", (REPOSITORY / "template/Dockerfile").read_text("utf-8"), re.MULTILINE
)
"""The image that the Dockerfile begins with."""


@contextmanager
def container_engine() -> Iterator[Engine]:
    """An engine with the stand-in as its base image; skips where a machine can run none.

    In CI what is missing is a failure.
    """
    for program, package in PROGRAMS.items():
        installed_program(program, package)
    if os.geteuid() != 0:
        impossible("only root can run containers here")
    with tempfile.TemporaryDirectory(prefix="groundwork-image-") as created:
        folder = Path(created)
        (folder / "storage").mkdir()
        with namespaces(folder) as first:
            engine = Engine(folder, first)
            stand_in = make_stand_in(engine.folder / "python")
            image = f"docker.io/library/{BASE}"
            archive = f"{folder}/storage/python.tar"
            engine.run("tar", "-C", str(stand_in), "-cf", archive, ".")
            settings = ["ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ENV LANG=C.UTF-8"]
            changes = [f"--change={each}" for each in [*settings, 'CMD ["python3"]']]
            engine.run("podman", "import", "--quiet", *changes, archive, image)
            engine.run("rm", archive)
            tried = engine.outcome("podman", "run", "--rm", image, "python", "-c", "import ssl")
            if tried.returncode:
                impossible(f"no container runs here: {tried.stderr}")
            yield engine


def _free_memory() -> float:
    """Bytes of memory that programs can still have."""
    [found] = re.findall(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found) * 1024


def impossible(reason: str) -> None:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def namespaces(folder: Path, *more: str) -> Iterator[int]:
    """Namespaces of mounts and processes; the id of the process whose end ends all in them.

    Args:
        folder: whose `storage` is memory there, if there is enough.
        more: of `unshare`'s options, as `--net`.
    """
    # crun before 1.9 refuses a machine that has both versions of cgroups.
    # https://github.com/containers/crun/issues/1247
    begin = (
        "umount /sys/fs/cgroup/unified 2>/dev/null; "
        # Where there is memory enough: what is written there is gone with the namespaces, at once.
        + (f"mount -t tmpfs -o size=4g none {folder}/storage; " if _free_memory() > 8e9 else "")
        + "echo; exec cat"
    )
    own = [
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
        *more,
    ]
    # `cat` ends with its input, which ends with this process, whatever happens to it.
    with subprocess.Popen(
        ["unshare", *own, "catatonit", "--", "sh", "-c", begin],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stderr
        try:
            if process.stdout.readline() != b"\n":
                impossible(f"no namespaces here: {process.stderr.read().decode()}")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield int(children)
        finally:
            process.stdin.close()
            process.wait(60)


@contextmanager
def network_of(process: int) -> Iterator[None]:
    """The network that a process is in, for this thread and for what it starts meanwhile."""
    its_network = Path(f"/proc/{process}/ns/net")
    with Path("/proc/thread-self/ns/net").open() as ours, its_network.open() as its:
        _enter(its.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _enter(network: int) -> None:
    """Move this thread, as `os.setns` does since Python 3.12."""
    if ctypes.CDLL(None, use_errno=True).setns(network, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _runtime_without_limits(folder: Path) -> Path:
    """Crun, which is asked for no resource limits: raising them needs CAP_SYS_RESOURCE."""
    program = folder / "crun-without-limits"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "for option, value in zip(sys.argv, sys.argv[1:]):\n"
        "    path, key = os.path.join(value, 'config.json'), 'process'\n"
        "    if option in ('-p', '--process'):\n"
        "        path, key = value, None\n"
        "    if option in ('-p', '--process', '-b', '--bundle') and os.path.exists(path):\n"
        "        content = json.load(open(path))\n"
        "        (content[key] if key else content).pop('rlimits', None)\n"
        "        json.dump(content, open(path, 'w'))\n"
        "os.execvp('crun', ['crun', *sys.argv[1:]])\n"
    )
    program.chmod(0o755)
    return program


def _client_settings(folder: Path) -> list[Path]:
    """How pip and uv reach the package index on this machine, in files for the build."""
    pip = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and name != "PIP_FIND_LINKS"
    }
    if SYSTEM_CERTIFICATES.exists():
        pip["cert"] = str(SYSTEM_CERTIFICATES)
    (folder / "pip.conf").write_text(
        "[global]\n" + "".join(f"{name} = {value}\n" for name, value in pip.items())
    )
    (folder / "uv").mkdir(exist_ok=True)
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    (folder / "uv" / "uv.toml").write_text(
        "system-certs = true\n"
        + (f"[[index]]\nurl = {json.dumps(index)}\ndefault = true\n" if index else "")
    )
    return [folder / "pip.conf", folder / "uv"]


SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def make_stand_in(folder: Path) -> Path:
    """What stands for the base image `python:slim`: this machine's CPython, shell and tools.

    It differs from the real one in CPython's build, in having one layer, and in holding only the
    packages of Debian that the Dockerfile's steps use.
    """
    for each in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "usr/local/lib"):
        (folder / each).mkdir(parents=True)
    for each in ("bin", "sbin", "lib", "lib64"):
        (folder / each).symlink_to(f"usr/{each}")
    for each in ("dev", "etc", "proc", "root", "run", "srv", "sys", "tmp", "var/log", "var/tmp"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    _copy_all(_files_of(USER_LAND), folder)
    _copy_python(folder / "usr" / "local")
    for name in ("passwd", "group"):
        shutil.copy2(f"/usr/share/base-passwd/{name}.master", folder / "etc" / name)
    (folder / "etc" / "ld.so.conf").write_text("/usr/local/lib\n")
    programs = [path for path in folder.rglob("*") if _is_elf(path)]
    _copy_all(_libraries_of(programs), folder)
    subprocess.run(["chroot", folder, "ldconfig"], check=True)
    _copy_pip(folder)
    return folder


def _files_of(packages: Iterable[str]) -> list[Path]:
    listed = subprocess.run(["dpkg", "-L", *packages], check=True, capture_output=True, text=True)
    left_out = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/lintian/")
    paths = [Path(line) for line in listed.stdout.splitlines() if line.startswith("/")]
    return [
        path
        for path in paths
        if not str(path).startswith(left_out) and (path.is_symlink() or path.is_file())
    ]


def _copy_all(paths: Iterable[Path], root: Path) -> None:
    for path in paths:
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target, follow_symlinks=False)


def _copy_python(prefix: Path) -> None:
    name = f"python{PYTHON_VERSION}"
    program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    shutil.copy2(program, prefix / "bin" / name)
    for link in ("python3", "python"):
        (prefix / "bin" / link).symlink_to(name)
    library = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns(*WITHOUT, "config-*")
    shutil.copytree(library, prefix / "lib" / name, ignore=ignored, symlinks=True)
    for path in Path(str(sysconfig.get_config_var("LIBDIR"))).glob("libpython3*.so*"):
        shutil.copy2(path, prefix / "lib" / path.name, follow_symlinks=False)


def _copy_pip(root: Path) -> None:
    """Put pip where the base image has it; a distribution's Python makes one for environments."""
    asked = ["python", "-c", "import site; print(site.getsitepackages()[0])"]
    found = subprocess.run(["chroot", root, *asked], check=True, capture_output=True, text=True)
    target = root / found.stdout.strip().lstrip("/")
    with tempfile.TemporaryDirectory() as environment:
        python = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([python, "-m", "venv", environment], check=True)
        [packages] = Path(environment).glob("lib/python*/site-packages")
        for path in packages.glob("pip*"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, target / path.name, ignore=ignored)
    script = root / "usr" / "local" / "bin" / "pip"
    script.write_text('#!/bin/sh\nexec /usr/local/bin/python -m pip "$@"\n')
    script.chmod(0o755)


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or not path.stat().st_mode & stat.S_IRUSR:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries_of(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs need, with the loader, at the paths where links lead."""
    asked = subprocess.run(
        ["ldd", *map(str, programs)], check=False, capture_output=True, text=True
    )
    found = {Path(each) for each in re.findall(r"(/\S+\.so[\w.+-]*) \(0x", asked.stdout)}
    found |= set(Path("/lib").glob("*-linux-gnu*/libnss_files.so*"))
    real = {path.parent.resolve() / path.name for path in found}
    return real | {path.resolve() for path in real}
