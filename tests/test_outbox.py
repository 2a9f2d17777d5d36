"""Writing behind the training's back: in order, once, through an outage."""

import threading
import time

import pytest

from experiments.stores.outbox import Outbox
from experiments.stores.retry import Away, Retry, Waiting


class Gone(Exception):
    """The store does not answer."""


def is_away(error: Exception) -> bool:
    return isinstance(error, Gone)


def test_everything_is_written_once_in_order_and_in_few_batches() -> None:
    written: list[list[int]] = []
    gate = threading.Event()

    def write(batch: list[int]) -> None:
        gate.wait()
        written.append(batch)

    outbox = Outbox(write)
    for number in range(100):
        outbox.put(number)
    gate.set()
    outbox.close()
    assert [number for batch in written for number in batch] == list(range(100))
    assert len(written) <= 3


def test_what_the_writer_raises_reaches_the_one_who_puts() -> None:
    def write(_: list[int]) -> None:
        raise Gone

    outbox = Outbox(write)
    outbox.put(1)
    with pytest.raises(Gone):
        outbox.close()
    with pytest.raises(Gone):
        outbox.put(2)


def test_after_stop_nothing_is_written_any_more() -> None:
    written: list[int] = []
    started, gate = threading.Event(), threading.Event()

    def write(batch: list[int]) -> None:
        started.set()
        gate.wait()
        written.extend(batch)

    outbox = Outbox(write)
    outbox.put(1)
    started.wait()
    outbox.put(2)
    gate.set()
    outbox.stop()
    assert written in ([1], [1, 2]) and not outbox.thread.is_alive()
    outbox.stop()


def test_a_call_is_tried_until_the_store_is_back() -> None:
    calls = []

    def flaky() -> str:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise Gone
        return "answer"

    assert Retry(is_away=is_away, seconds=10)(flaky) == "answer"
    assert len(calls) == 3


def test_another_error_is_raised_at_once_and_a_long_outage_in_the_end() -> None:
    class Store:
        name = "store"
        calls = 0

        def gone(self) -> None:
            self.calls += 1
            raise Gone

        def wrong(self) -> None:
            self.calls += 1
            raise ValueError

    store = Store()
    waiting = Waiting(store, Retry(is_away=is_away, seconds=0.5))
    with pytest.raises(ValueError):
        waiting.wrong()
    assert store.calls == 1 and waiting.name == "store"
    with pytest.raises(Away, match="no answer"):
        waiting.gone()
    assert store.calls > 2
