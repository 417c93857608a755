"""The first signal is remembered, the second ends the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from clipa_jax.runtime.interrupt import Interrupt, Stopped

# Says when it is ready, so that the test need not guess, then waits for signals.
CHILD = """
import time
from clipa_jax.runtime.interrupt import Interrupt
with Interrupt() as interrupt:
    print("ready", flush=True)
    while interrupt.signal is None:
        time.sleep(0.01)
    print(interrupt.signal.name, flush=True)
    try:
        time.sleep(30)
    finally:
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_recorded(number):
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while interrupt.signal is None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert interrupt.signal is number


def test_a_single_process_returns_the_signal_at_once():
    interrupt = Interrupt()
    interrupt.check()  # before it is entered there is nothing to hear of
    with interrupt:
        interrupt.check()
        assert interrupt.read() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.read() is signal.SIGTERM
        with pytest.raises(Stopped):
            interrupt.check()


@pytest.mark.parametrize("fails", [False, True])
def test_signal_handlers_are_restored(fails):
    def mine(number, frame):
        raise AssertionError

    before = {number: signal.signal(number, mine) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            with Interrupt():
                assert signal.getsignal(signal.SIGINT) is not mine
                assert signal.getsignal(signal.SIGTERM) is not mine
                if fails:
                    raise RuntimeError
        except RuntimeError:
            assert fails
        assert signal.getsignal(signal.SIGINT) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(signal.SIGINT, signal.SIGINT, 130), (signal.SIGINT, signal.SIGTERM, 143)],
)
def test_the_second_signal_ends_the_process_at_once(first, second, status):
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline() == "ready\n"
            run.send_signal(first)
            assert run.stdout.readline() == f"{first.name}\n"
            run.send_signal(second)
            assert run.wait(timeout=20) == status
            assert run.stdout.read() == ""
        finally:
            run.kill()
