"""Threads that put while another claims: what every queue is to stand."""

import threading

from script_runner import HANG

from htlogging._settings import MAX_BODY_BYTES


def claimed_by_thread(queue, each):
    """
    Put this many events from each of four threads, and claim them on a fifth.

    Returns:
        For each of the four, the numbers of its events in the order of the claims.
    """
    found, over = [], threading.Event()

    def put(name):
        for n in range(each):
            assert queue.put(b"%d %d" % (name, n))

    def claim():
        while not over.is_set() or queue.backlog():
            batch = queue.claim(7, MAX_BODY_BYTES)
            if batch:
                found.extend(batch.events)
                queue.ack(batch)

    putting = [threading.Thread(target=put, args=(n,)) for n in range(4)]
    claiming = threading.Thread(target=claim)
    for thread in (*putting, claiming):
        thread.start()
    for thread in putting:
        thread.join(HANG)
    over.set()
    claiming.join(HANG)
    pairs = [tuple(map(int, event.split())) for event in found]
    return [[n for who, n in pairs if who == name] for name in range(4)]
