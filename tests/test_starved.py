"""A call that ends by what came from outside: no memory, no stderr."""

from __future__ import annotations

import os
import signal
from collections import defaultdict

import pytest
from script_runner import run


@pytest.fixture(params=["memory", "spool"])
def spool(request, tmp_path):
    """Return the settings of a client."""
    return {"spool": tmp_path / "spool"} if request.param == "spool" else {}


def check_arrived(events, returned):
    """Check that these arrived, and none under two ids."""
    ids = defaultdict(set)
    for event in events:
        ids[event["properties"]["n"]].add(event["messageId"])
    assert not returned - ids.keys()
    assert all(len(some) == 1 for some in ids.values())


class TestNoMemory:
    def test_at_any_allocation(self, tmp_path, collector, spool):
        """A `track` that ends by MemoryError leaves all sound; others are delivered."""
        pytest.importorskip("_testcapi")
        # SystemError: CPython's json and sqlite3 make one of a MemoryError.
        script = """
            import sys
            import _testcapi
            # orjson 3.13 ends the process when an allocation in `dumps` fails.
            sys.modules["orjson"] = None
            from htlogging.htevents import Client
            settings = {"spool": sys.argv[2]} if sys.argv[2:] else {}
            # The sending thread rests meanwhile.
            settings |= {"upload_interval": 60, "upload_size": 1000}
            client = Client("KEY", host=sys.argv[1], **settings)
            client.track("user", "e", {"n": 0})
            assert client.flush(60)
            raised = False
            # Nothing between the hooks may allocate but the call.
            errors = (MemoryError, SystemError)
            fail, go_on = _testcapi.set_nomemory, _testcapi.remove_mem_hooks
            for n in range(1, 800):
                properties = {"n": n}
                done = False
                # One that fails; then thirty: where one fails, a call may do without.
                # (CPython 3.10 may end the process when a hundred do.)
                first, end = (n, n + 1) if n < 400 else (n - 399, n - 369)
                fail(first, end)
                try:
                    done = client.track("user", "e", properties)[0]
                except errors:
                    raised = True
                finally:
                    go_on()
                if done:
                    print(n)
            assert raised
            assert client.flush(60)
            stats = client.stats
            assert not stats.queued and not stats.failed, stats
            client.join()
        """
        # Coverage would have to allocate, too.
        alone = {"COVERAGE_PROCESS_CONFIG": None, "COVERAGE_PROCESS_START": None}
        spools = map(str, spool.values())
        ended = run(tmp_path, script, collector.url, *spools, **alone)
        if ended.status == -signal.SIGSEGV or "Cannot recover from Mem" in ended.err:
            # Seen on 3.11 to 3.13, between two lines of plain Python; on 3.10.
            pytest.skip("CPython itself has crashed for want of memory")
        assert ended.status == 0, ended.err
        check_arrived(collector.events, set(map(int, ended.out.split())))


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
class TestNoStderr:
    @pytest.mark.parametrize(
        "how",
        [
            "sys.stderr = None",
            "sys.stderr.close()",
            "os.close(2)",
            "r, w = os.pipe(); os.dup2(w, 2); os.close(r)",
        ],
    )
    def test_nothing_is_raised(self, tmp_path, how):
        """Lines that cannot be written end no call, and no exit."""
        script = f"""
            import logging, os, sys
            from htlogging import HtEventsHandler
            from htlogging.htevents import Client
            {how}
            nowhere = {{"host": "http://127.0.0.1:9", "max_retries": 0}}
            client = Client("KEY", shutdown_timeout=1, **nowhere)
            handler = HtEventsHandler(write_key="KEY", shutdown_timeout=1, **nowhere)
            log = logging.getLogger("shop")
            log.setLevel("INFO")
            log.addHandler(handler)
            log.info("invalid", extra={{"ht_user_id": ""}})
            log.info("misspelt", extra={{"ht_user_id": "u", "ht_proprties": 1}})
            assert client.track("user", "e")[0]
            assert client.flush(60)
            assert client.stats.failed == 1
            assert handler.stats.rejected == 1
            client.track("user", "at the exit")
            print("done")
        """
        ended = run(tmp_path, script)
        assert (ended.status, ended.out) == (0, "done\n")
