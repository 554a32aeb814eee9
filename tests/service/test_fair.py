from __future__ import annotations

import threading

from service.fair import FairPool


def test_a_client_with_much_to_do_delays_another_by_one_piece_of_work() -> None:
    pool, go, order = FairPool(1, "test"), threading.Event(), []

    def work(name: str) -> str:
        go.wait(60)
        order.append(name)
        return name

    first = [pool.submit("greedy", lambda: work("greedy")) for _ in range(4)]
    other = pool.submit("other", lambda: work("other"))
    go.set()
    assert other.result(60) == "other"
    assert [future.result(60) for future in first] == ["greedy"] * 4
    assert order.index("other") == 1
    pool.shutdown()


def test_no_client_holds_all_threads_while_another_waits() -> None:
    pool, started = FairPool(2, "test"), threading.Semaphore(0)
    go = {"greedy": threading.Event(), "other": threading.Event()}

    def work(name: str) -> None:
        started.release()
        go[name].wait(60)

    greedy = [pool.submit("greedy", lambda: work("greedy")) for _ in range(3)]
    for _ in range(2):
        assert started.acquire(timeout=60)
    other = pool.submit("other", lambda: work("other"))
    go["other"].set()
    go["greedy"].set()
    for future in (*greedy, other):
        future.result(60)
    pool.shutdown()


def test_errors_reach_whoever_asked_and_what_waits_at_the_end_is_cancelled() -> None:
    pool, begun, go = FairPool(1, "test"), threading.Event(), threading.Event()
    failing = pool.submit("a", lambda: 1 // 0)
    assert isinstance(failing.exception(60), ZeroDivisionError)
    running = pool.submit("a", lambda: begun.set() or go.wait(60))
    assert begun.wait(60)
    waiting = pool.submit("b", lambda: None)
    threading.Timer(0.2, go.set).start()
    pool.shutdown()
    assert running.done()
    assert waiting.cancelled()
