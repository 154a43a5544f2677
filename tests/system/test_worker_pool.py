"""A pool whose own thread ended is an error, not a wait without end."""

import time
from concurrent.futures import BrokenExecutor, Future

import pytest

from g2dbench.system import worker_pool
from g2dbench.system.worker_pool import max_workers, process_pool, result_of

pytestmark = pytest.mark.integration


def test_results_come_as_ever() -> None:
    with process_pool(1) as pool:
        assert result_of(pool.submit(pow, 2, 5), pool) == 32
        with pytest.raises(ZeroDivisionError):
            result_of(pool.submit(divmod, 1, 0), pool)


class _NoThreads:
    """A queue that cannot start its thread, as under `ulimit -v`."""

    def put(self, item: object) -> None:
        raise RuntimeError("can't start new thread")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pool_without_its_thread_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_CHECK_SECONDS", 0.2)
    pool = process_pool(1)
    monkeypatch.setattr(pool._call_queue, "put", _NoThreads().put)
    with pytest.raises(BrokenExecutor, match="thread"):
        result_of(pool.submit(time.sleep, 0), pool)
    pool.shutdown(wait=False)


class _EndsLate(Future[int]):
    """A task that ends between the last look at its result and the look at its state."""

    def result(self, timeout: float | None = None) -> int:
        if not self.done():
            self.set_result(7)
            raise TimeoutError
        return super().result(timeout)


def test_a_task_that_ends_just_after_a_check_is_no_error() -> None:
    with process_pool(1) as pool:
        assert result_of(_EndsLate(), pool) == 7


def test_workers_are_bounded() -> None:
    assert max_workers() >= 4
