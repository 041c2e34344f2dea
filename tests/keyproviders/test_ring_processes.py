"""A ring in processes that fork, and in processes that end while a place hangs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(program: str) -> str:
    """The program in a process of its own, with warnings as errors; it must end by itself, and well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import logging; logging.disable()\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "wait",
    [
        "threading.Thread(target=ring.active_sync, daemon=True).start(); until_asked()",
        "asyncio.run(wait_long())",
        "asyncio.run(give_up())",
    ],
    ids=["a thread waits", "the deadline passes", "the waiter is cancelled"],
)
def test_a_process_whose_place_hangs_ends_when_its_program_ends(wait: str) -> None:
    run(f"""
import asyncio, threading, time
from keyproviders import KeyRing, KeyUnavailableError, RetryPolicy
from keyproviders.testing import FakeKeyProvider
place = FakeKeyProvider()
place.slow_down(1e6)
ring = KeyRing(place, retry=RetryPolicy(deadline_s=0.1))
def until_asked():
    while not place.asked:
        time.sleep(0.01)
async def wait_long():
    try:
        await ring.active()
    except KeyUnavailableError:
        pass
async def give_up():
    task = asyncio.ensure_future(ring.active())
    await asyncio.sleep(0.05)
    task.cancel()
{wait}
assert place.asked
""")


def test_a_warm_process_ends_without_closing_its_ring() -> None:
    run("""
from keyproviders import KeyRing
from keyproviders.testing import FakeKeyProvider
KeyRing(FakeKeyProvider()).active_sync()
""")


def test_a_ring_can_be_used_and_closed_when_the_process_is_ending() -> None:
    out = run("""
import atexit
from keyproviders import KeyProviderError, KeyRing
from keyproviders.testing import FakeKeyProvider
class Place(FakeKeyProvider):
    def close(self):
        pass
warm, cold = KeyRing(Place()), KeyRing(Place())
warm.active_sync()
@atexit.register
def at_the_end():
    warm.active_sync()
    try:
        cold.active_sync()
    except KeyProviderError:
        pass
    warm.close()
    cold.close()
    print("closed")
""")
    assert out == "closed\n"


COUNTING = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from keyproviders import KeyRing
from keyproviders.testing import FakeKeyProvider
def ours():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("keyproviders-"))
def until(holds):
    while not holds():
        time.sleep(0.002)
"""


def test_there_are_no_threads_before_the_first_use_and_none_after_close() -> None:
    run(
        COUNTING
        + """
rings = [KeyRing(FakeKeyProvider()) for _ in range(20)]
assert ours() == []
for ring in rings:
    ring.active_sync()
until(lambda: ours() == ["keyproviders-time"])
assert all(thread.daemon for thread in threading.enumerate()[1:])
for ring in rings:
    ring.close()
assert ours() == []
"""
    )


def test_a_thousand_rings_share_a_few_threads() -> None:
    run(
        COUNTING
        + """
places = [FakeKeyProvider() for _ in range(1000)]
rings = [KeyRing(place) for place in places]
with ThreadPoolExecutor(50) as pool:
    list(pool.map(KeyRing.active_sync, rings))
    assert len(ours()) <= 33
assert all(place.asked == ["active"] for place in places)
until(lambda: ours() == ["keyproviders-time"])
for ring in rings:
    ring.close()
assert ours() == []
"""
    )


def test_no_more_than_32_calls_are_made_at_once_by_all_rings_together() -> None:
    run(
        COUNTING
        + """
places = [FakeKeyProvider() for _ in range(50)]
for place in places:
    place.slow_down(60)
rings = [KeyRing(place) for place in places]
with ThreadPoolExecutor(50) as pool:
    found = [pool.submit(ring.active_sync) for ring in rings]
    until(lambda: sum(ring.health().counts["waiting"] for ring in rings) == 50)
    until(lambda: sum(len(place.asked) for place in places) == 32)
    assert ours() == ["keyproviders-call"] * 32
    for place in places:
        place.slow_down(0)
    assert [one.result() for one in found] == [place.key() for place in places]
"""
    )


FORKING = """
import os, random, signal, sys, threading, time, warnings
from keyproviders import CachePolicy, KeyRing
from keyproviders.testing import FakeKeyProvider
if sys.version_info >= (3, 12):
    # A fork in the middle of a call is what is tested here, and Python says that there are threads.
    warnings.simplefilter("ignore", DeprecationWarning)

def child_of(body):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            body()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""


@needs_fork
def test_a_fork_at_any_moment_of_a_refresh_leaves_parent_and_child_working() -> None:
    out = run(
        FORKING
        + """
signal.alarm(55)
place = FakeKeyProvider()
older = [place.key(), *(place.rotate() for _ in range(4))]
place.slow_down(0.002)
ring = KeyRing(place, cache=CachePolicy(fresh_s=0.003, stale_write_s=60, revalidate_s=0.003))
ring.active_sync()
done = threading.Event()
def use():
    while not done.is_set():
        assert ring.active_sync() is place.key()
        assert ring.get_sync(random.choice(older).kid) in older
        time.sleep(0.0005)
users = [threading.Thread(target=use) for _ in range(2)]
for user in users:
    user.start()
def in_child():
    for key in older:
        assert ring.get_sync(key.kid) is key
    assert ring.active_sync() is place.key()
    place.asked.clear()
    import asyncio
    assert asyncio.run(ring.refresh()) is place.key()
    assert "active" in place.asked
    ring.close()
for number in range(200):
    time.sleep(random.random() * 0.004)
    child_of(in_child)
    assert ring.active_sync() is place.key()
done.set()
for user in users:
    user.join(10)
    assert not user.is_alive()
before = ring.health().counts["calls"]
place.slow_down(0)
while ring.health().counts["calls"] == before:
    ring.active_sync()
ring.close()
print("ok")
"""
    )
    assert out == "ok\n"


@needs_fork
def test_a_fork_while_nothing_is_under_way_finds_one_thread_and_gives_no_warning() -> None:
    out = run(
        FORKING.replace("warnings.simplefilter", "pass  # warnings.simplefilter")
        + """
ring = KeyRing(FakeKeyProvider())
ring.active_sync()
for _ in range(20):
    def in_child():
        assert threading.active_count() == 1
        key = ring.active_sync()
        assert ring.get_sync(key.kid) is key
        assert [thread.name for thread in threading.enumerate()][1:] == ["keyproviders-time"]
    child_of(in_child)
    assert [thread.name for thread in threading.enumerate()][1:] == ["keyproviders-time"]
ring.close()
assert threading.active_count() == 1
print("ok")
"""
    )
    assert out == "ok\n"


@needs_fork
def test_forked_children_refresh_at_times_of_their_own() -> None:
    out = run(
        FORKING
        + """
ring = KeyRing(FakeKeyProvider())
ring.active_sync()
def in_child():
    print(ring._engine.cache._active.ask_at, flush=True)
for _ in range(8):
    child_of(in_child)
"""
    )
    assert len(set(out.split())) == 8


@needs_fork
def test_a_grandchild_works_too_and_a_ring_made_in_a_child() -> None:
    out = run(
        FORKING
        + """
place = FakeKeyProvider()
ring = KeyRing(place)
ring.active_sync()
def grandchild():
    assert ring.active_sync() is place.key()
    other = FakeKeyProvider()
    assert KeyRing(other).active_sync() is other.key()
def in_child():
    KeyRing(FakeKeyProvider()).active_sync()
    child_of(grandchild)
    ring.active_sync()
child_of(in_child)
print("ok")
"""
    )
    assert out == "ok\n"


@needs_fork
def test_multiprocessing_by_fork_inherits_a_working_ring() -> None:
    out = run(
        """
import multiprocessing, sys, warnings
from keyproviders import KeyRing
from keyproviders.testing import FakeKeyProvider
ring = KeyRing(FakeKeyProvider())
key = ring.active_sync()
def work(_):
    return ring.active_sync().kid == key.kid == ring.get_sync(key.kid).kid
if sys.version_info >= (3, 12):
    warnings.simplefilter("ignore", DeprecationWarning)  # the pool has threads of its own
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(pool.map(work, range(20)))
print("ok")
"""
    )
    assert out == "ok\n"
