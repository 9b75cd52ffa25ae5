"""Signals while cleaning up."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from sam_edge.devices.interruption import interruptible, undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_becomes_an_exception(number, code):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.code == code
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_interrupt_the_cleaning_up():
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012 - the block is the matter
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            done.append("cleaned")
    assert done == ["cleaned"]


def test_signals_wait_for_an_undisturbed_block():
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012 - the block is the matter
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            done.append("all of it")
        done.append("never")
    assert done == ["all of it"]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_taken_by_another_thread_interrupts_the_main_thread(number, kind):
    def take() -> None:
        time.sleep(0.3)  # until the other sleeps
        signal.pthread_kill(threading.get_ident(), number)

    thread, begun = threading.Thread(target=take), time.monotonic()
    with pytest.raises(kind), interruptible():  # noqa: PT012 - the block is the matter
        thread.start()
        time.sleep(30)
    assert time.monotonic() - begun < 20
    thread.join()
