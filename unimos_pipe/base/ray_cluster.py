"""Independent jobs on a Ray cluster, which schedules them and retries lost ones."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unimos_pipe.base.errors import ExecutionError, InputError, UnimosPipeError
from unimos_pipe.base.optional_deps import require_extra

START_HINT = "Start one with ray start (README, on Ray)"
TOKEN_HINT = "If it wants a token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from its first machine"
MAX_RETRIES = 8  # of a job whose worker or machine was lost; a job that raises is not repeated


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """A Ray cluster and the resources of a job."""

    address: str | None = None  # of a running cluster; None starts one on this machine
    cpus: float = 1.0  # per job
    gpus: float = 0.0  # per job

    def for_device(self, device: str) -> "RayOptions":
        """Return the options for jobs on a device type; a job on CUDA gets one GPU."""
        return replace(self, gpus=1.0 if device == "cuda" else 0.0)


@dataclass(frozen=True)
class ComputeConfig:
    """A device of this machine, or of the machines of a Ray cluster."""

    device: str = "auto"  # or cpu, cuda, mps
    ray: RayOptions | None = None


@contextlib.contextmanager
def run_ray_jobs(options: RayOptions) -> Iterator[Callable[..., Iterator[tuple[Any, Any]]]]:
    """Connect to Ray, and yield ``run(function, jobs, *shared)``.

    ``run`` calls ``function(job, *shared)`` for each job, anywhere on the cluster, and yields (job, its result) as they
    finish. Worker processes are reused, so what a function caches (an encoder) is created once per process. Functions
    must be deterministic, because a lost job is run again.

    Raises:
        InputError: Ray is not installed, no cluster answers at the address, or it is too small for a job.
        ExecutionError: a job was lost more than 8 times. A UnimosPipeError of a job is raised unchanged.
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
        resources = ray.cluster_resources()
        if resources.get("CPU", 0) < options.cpus or resources.get("GPU", 0) < options.gpus:
            raise InputError(
                "the Ray cluster is too small for one job",
                expected=f"{options.cpus:g} CPU(s), {options.gpus:g} GPU(s)",
                got=f"{resources.get('CPU', 0):g} CPU(s), {resources.get('GPU', 0):g} GPU(s)",
            )
        yield lambda function, jobs, *shared: _run_jobs(ray, options, function, jobs, shared)
    finally:
        if started:
            ray.shutdown()


def _is_reachable(address: str | None) -> bool:
    """Return True if the address is a HOST:PORT that accepts a connection.

    Raises OSError if it does not: Ray itself would retry for minutes.
    """
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return False
    socket.create_connection((host, int(port)), timeout=10).close()
    return True


def _run_jobs(ray, options: RayOptions, function: Callable, jobs: Sequence, shared: tuple) -> Iterator[tuple[Any, Any]]:
    # max_calls=0: a process with a GPU is reused, too
    task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=MAX_RETRIES, max_calls=0)(function)
    handles = [ray.put(value) for value in shared]
    pending = {task.remote(job, *handles): job for job in jobs}
    try:
        while pending:
            (finished,), _ = ray.wait(list(pending), num_returns=1)
            yield pending[finished], ray.get(finished)
            del pending[finished]
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
