"""Independent jobs on a Ray cluster, which schedules them and retries lost ones."""

import contextlib
import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unimos_pipe.base.errors import ExecutionError, InputError, UnimosPipeError
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.plugins import load_plugins, loaded_plugins

START_HINT = "Start one with ray start (README, on Ray)"
TOKEN_HINT = "If it wants a token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from its first machine"
MAX_RETRIES = 8  # of a job whose worker or machine was lost; a job that raises is not repeated
COUNT_EVERY = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """A Ray cluster and the resources of a job."""

    address: str | None = None  # of a running cluster; None starts one on this machine
    cpus: float = 1.0  # per job
    gpus: float | None = None  # per job on CUDA, a whole number or a fraction below one; None: none, on CUDA one

    def __post_init__(self):
        if self.gpus is not None and (self.gpus <= 0 or (self.gpus > 1 and self.gpus % 1)):
            raise InputError("GPUs per job", expected="a whole number, or a fraction below 1", got=f"{self.gpus:g}")

    def for_device(self, device: str) -> "RayOptions":
        """Return the options for jobs on a device type; jobs on CUDA get one GPU unless said otherwise."""
        return replace(self, gpus=(self.gpus or 1.0) if device == "cuda" else None)


@dataclass(frozen=True)
class ComputeConfig:
    """A device of this machine, or of the machines of a Ray cluster."""

    device: str = "auto"  # or cpu, cuda, mps
    ray: RayOptions | None = None


@dataclass(frozen=True)
class RayCluster:
    """A connected cluster. ``concurrent_jobs`` fit on all its machines at once, ``jobs_per_machine`` on the largest."""

    options: RayOptions
    concurrent_jobs: int
    jobs_per_machine: int

    def run(
        self, function: Callable, jobs: Sequence, *shared: Any, on_count: Callable[[int], None] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (job, ``function(job, *shared)``) as jobs finish, anywhere on the cluster.

        Workers import the plugins that this process was given; their files are at the same paths on every machine.
        Worker processes are reused, so what a function caches (an encoder) is created once per process. Functions must
        be deterministic, because a lost job is run again.

        Args:
            on_count: if given, the function is called as ``function(job, *shared, count)``. What jobs pass to
                ``count`` arrives here within about a second, what a repeated job has counted before only once.
        Raises:
            ExecutionError: a job was lost more than 8 times. A UnimosPipeError of a job is raised unchanged.
        """
        import ray

        # max_calls=0: a process with a GPU is reused, too
        resources = {"num_cpus": self.options.cpus, "num_gpus": self.options.gpus or 0.0}
        task = ray.remote(**resources, max_retries=MAX_RETRIES, max_calls=0)(_run_job)
        counts = _Counts(ray, on_count) if on_count else None
        plugins = loaded_plugins()
        handles = [ray.put(value) for value in shared]
        pending = {
            task.remote(plugins, function, job, counts and counts.actor, number, *handles): job
            for number, job in enumerate(jobs)
        }
        try:
            while pending:
                finished, _ = ray.wait(list(pending), num_returns=1, timeout=COUNT_EVERY if counts else None)
                if counts:
                    counts.report()
                for handle in finished:
                    yield pending[handle], ray.get(handle)
                    del pending[handle]
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UnimosPipeError):
                raise error.cause from None
            raise ExecutionError(f"a job failed on Ray: {' '.join(str(error.cause).split())[:300]}") from None
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise ExecutionError(
                f"Ray lost a job {MAX_RETRIES + 1} times ({reason}). Finished work is kept; run it again"
            ) from None
        finally:
            for handle in pending:
                ray.cancel(handle, force=True)


@contextlib.contextmanager
def connect_ray(options: RayOptions) -> Iterator[RayCluster]:
    """Connect to a running cluster, or start one on this machine for the time of the block.

    Raises:
        InputError: Ray is not installed, no cluster answers at the address, or no machine of it is large enough for a
            job.
    """
    require_extra("Ray", "ray")
    import ray

    started = not ray.is_initialized()
    if started:
        reachable = False
        try:
            reachable = _is_reachable(options.address)
            ray.init(address=options.address or "local", log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            what = f"{'cannot join the' if reachable else 'no'} Ray cluster at {options.address}"
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{what}: {reason}", todo=TOKEN_HINT if reachable else START_HINT) from None
    try:
        yield _measure_cluster(options, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    finally:
        if started:
            ray.shutdown()


def _measure_cluster(options: RayOptions, machines: Sequence[Mapping[str, float]]) -> RayCluster:
    """Return a cluster of machines with their resources. Raises InputError if none is large enough for a job."""
    wanted = {name: amount for name, amount in {"CPU": options.cpus, "GPU": options.gpus}.items() if amount}
    fitting = [
        min((math.floor(machine.get(name, 0) / amount) for name, amount in wanted.items()), default=1)
        for machine in machines
    ]
    if not any(fitting):
        largest = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in ("CPU", "GPU")}
        raise InputError(
            "no machine of the Ray cluster is large enough for one job",
            expected=f"{options.cpus:g} CPU(s), {options.gpus or 0:g} GPU(s)",
            got=f"at most {largest['CPU']:g} CPU(s), {largest['GPU']:g} GPU(s)",
        )
    return RayCluster(options, sum(fitting), max(fitting))


def _is_reachable(address: str | None) -> bool:
    """Return True if the address is a HOST:PORT that accepts a connection.

    Raises OSError if it does not: Ray itself would retry for minutes.
    """
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return False
    socket.create_connection((host, int(port)), timeout=10).close()
    return True


class _Totals:
    """The actor that jobs report to: what each has counted so far."""

    def __init__(self):
        self._totals: dict[int, int] = {}

    def set(self, number: int, total: int) -> None:
        """Store the total of a job."""
        self._totals[number] = total

    def all(self) -> dict[int, int]:
        """Return the totals by job."""
        return self._totals


class _Counts:
    """The totals of jobs, in an actor on this machine."""

    def __init__(self, ray, on_count: Callable[[int], None]):
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.actor = ray.remote(num_cpus=0, scheduling_strategy=here)(_Totals).remote()
        self._get, self._on_count, self._reported = ray.get, on_count, {}

    def report(self) -> None:
        """Pass on what has been counted since the last call."""
        for number, total in self._get(self.actor.all.remote()).items():
            if (increase := total - self._reported.get(number, 0)) > 0:
                self._on_count(increase)
                self._reported[number] = total


def _run_job(plugins: Mapping, function: Callable, job: Any, counts: Any, number: int, *shared: Any) -> Any:
    """Run a job in a worker process, which imports the plugins of the caller first."""
    load_plugins(plugins)
    if counts is None:
        return function(job, *shared)
    import ray

    total = 0

    def count(amount: int) -> None:
        nonlocal total
        total += amount
        counts.set.remote(number, total)

    result = function(job, *shared, count)
    ray.get(counts.set.remote(number, total))  # so that the last count is there before the result
    return result
