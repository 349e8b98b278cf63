"""Waiting until nothing of this process spins."""

from __future__ import annotations

import threading
import time

from tledge.measurement import at_rest


def spin_until(stop: threading.Event, seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end and not stop.is_set():
        pass
    stop.set()


def test_it_waits_for_a_thread_that_spins():
    over = threading.Event()
    thread = threading.Thread(target=spin_until, args=(over, 0.3))
    thread.start()
    at_rest.wait(60, 0.1)
    assert over.is_set()
    thread.join()


def test_it_goes_on_beside_a_thread_that_never_rests():
    stop = threading.Event()
    thread = threading.Thread(target=spin_until, args=(stop, 60))
    thread.start()
    at_rest.wait(0.1, 0.02)
    assert not stop.is_set()
    stop.set()
    thread.join()
