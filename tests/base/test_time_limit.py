"""A block that takes too long ends, on the main thread and on any other; one that does not is left alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from unimos_pipe.base.time_limit import time_limit


def endless() -> None:
    while True:
        time.sleep(0.001)


def limited(work, seconds: float):
    with time_limit(seconds, "took too long"):
        return work()


def test_a_block_without_end_is_ended_on_the_main_thread():
    with pytest.raises(TimeoutError, match="took too long"):
        limited(endless, 0.05)


def test_blocks_without_end_are_ended_on_other_threads():
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(limited, endless, 0.05) for _ in range(8)]:
            with pytest.raises(TimeoutError, match="took too long"):
                job.result(30)
        assert pool.submit(limited, lambda: 3, 60).result(30) == 3  # the thread is as good as before


def test_what_ends_in_time_is_never_told(monkeypatch):
    """Also where the timer fires just as the block ends: the exception is taken back."""
    told = []

    def work() -> None:
        for _ in range(300):
            try:
                with time_limit(0.001, "took too long"):
                    time.sleep(0.001)
            except TimeoutError:
                told.append("in time")
        time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert set(told) <= {"in time"}
