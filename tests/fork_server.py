"""Command lines as processes of their own that start at once: forked from one that has everything imported.

A kill at a random moment then falls into a command's work and not into the seconds of its imports.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PARENT = """
import ctypes, importlib, json, os, pkgutil, resource, subprocess, sys, threading
import torch
import unimos_pipe
for module in pkgutil.walk_packages(unimos_pipe.__path__, "unimos_pipe."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from unimos_pipe.__main__ import main
lock = threading.Lock()

def tell(number, pid, code):
    with lock:
        print(json.dumps([number, pid, code]), flush=True)

def child(job):
    writers = []
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(f"{job['to']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if job["largest"] is None:
            os.dup2(file, stream)
        else:  # what the command prints is no file of limited size
            writers.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file))
            os.dup2(writers[-1].stdin.fileno(), stream)
            writers[-1].stdin.close()
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    torch.set_num_threads(2)  # whatever the tests have: stacks train side by side
    if job["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], resource.RLIM_INFINITY))
    sys.argv = ["unimos-pipe", *job["words"]]
    faults = ctypes.CDLL(None) if job["fault"] else None
    if faults:
        faults.io_faults_arm(os.fsencode(job["folder"]), *job["fault"])
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        if faults:
            with open(f"{job['to']}.calls", "w") as file:
                json.dump([faults.io_faults_count(kind) for kind in range(6)], file)
        if writers:
            os.close(1), os.close(2)
            for writer in writers:
                writer.wait()
        os._exit(code)

def wait(number, pid):
    tell(number, pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        child(job)
    tell(job["number"], pid, None)
    threading.Thread(target=wait, args=(job["number"], pid)).start()
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is minus the signal's number where one ended it."""

    code: int
    out: str
    err: str
    calls: tuple[int, ...] = ()  # where faults were counted: calls of each kind of CALLS, and how many failed


class Zygote:
    """Starts command lines below a folder and waits for them."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        self.process, self.folder, self.count = process, folder, 0
        self.told: dict[int, int] = {}  # number -> exit code

    def start(
        self,
        words: list[str],
        folder: Path,
        *,
        largest: int | None = None,
        fault: "Fault | None" = None,
        **environment: str,
    ) -> "Running":
        """Start ``unimos-pipe WORDS`` in a folder, with files of at most ``largest`` bytes or a call that fails."""
        self.count += 1
        to = self.folder / str(self.count)
        job = {
            "number": self.count, "words": words, "folder": str(folder), "to": str(to), "largest": largest,
            "environment": environment, "fault": fault and fault.armed(),
        }  # fmt: skip
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return Running(self, self.count, self._hear(self.count, began=True), to)

    def run(self, words: list[str], folder: Path, **options) -> Ended:
        """Run a command line to its end."""
        return self.start(words, folder, **options).wait()

    def _hear(self, wanted: int, *, began: bool) -> int:
        while began or wanted not in self.told:
            number, pid, code = json.loads(self.process.stdout.readline())
            if code is not None:
                self.told[number] = code
            elif number == wanted:
                return pid
        return self.told[wanted]


@dataclass(frozen=True)
class Running:
    """A command that was started."""

    zygote: Zygote
    number: int
    pid: int
    to: Path

    def wait(self) -> Ended:
        """How it ended."""
        code = self.zygote._hear(self.number, began=False)
        calls = self._said(self.to.with_suffix(".calls"))
        said = (self._said(self.to.with_suffix(f".{name}")) for name in ("out", "err"))
        return Ended(code, *said, tuple(json.loads(calls)) if calls else ())

    def _said(self, file: Path) -> str:
        return file.read_text("utf-8", "replace") if file.exists() else ""  # killed before its first line


CALLS = ("open", "read", "write", "fsync", "rename")
SHORT = -1  # in the place of an errno: fewer bytes than asked for


@dataclass(frozen=True)
class Fault:
    """The ``at``-th call of a kind on files below a command's folder fails, and with ``lasting`` all after it.

    ``at`` 0 fails none: calls are counted.
    """

    call: str = "open"
    error: int = 0
    at: int = 0
    lasting: bool = False

    def armed(self) -> tuple[int, int, int, int]:
        """The arguments of ``io_faults_arm`` in io_faults.c."""
        return CALLS.index(self.call), self.error, self.at, int(self.lasting)


def fault_library(folder: Path) -> Path | None:
    """io_faults.c as a library, made in a folder; None where there is no compiler, or no Linux."""
    compiler = shutil.which("cc") if sys.platform == "linux" else None
    if compiler is None:
        return None
    library = folder / "io_faults.so"
    source = Path(__file__).with_name("io_faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@contextlib.contextmanager
def zygote(folder: Path, preload: Path | None = None) -> Iterator[Zygote]:
    """A process to start commands from; their output goes to files in ``folder``.

    ``preload`` is :func:`fault_library`, where calls are to fail.
    """
    command = [sys.executable, "-c", _PARENT]
    environment = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Zygote(process, folder)
    finally:
        process.stdin.close()
        process.wait()
