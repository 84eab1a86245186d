"""What is lost is counted, whoever loses it."""

from __future__ import annotations

from threading import Thread

from protos import dropped


def test_each_signal_has_its_count_whatever_thread_counts() -> None:
    before = dropped.counts()

    def lose() -> None:
        for _ in range(1000):
            dropped.count("spans")

    threads = [Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dropped.count("audit", 3)
    after = dropped.counts()
    assert after["spans"] - before.get("spans", 0) == 4000
    assert after["audit"] - before.get("audit", 0) == 3
