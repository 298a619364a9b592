"""Hosts that end processes in a way of their own: accepted events arrive all the same."""

from __future__ import annotations

import os
import sys

import pytest
from script_runner import run

from htlogging._process import hosts

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
class TestClearedAtexit:
    @pytest.mark.parametrize("imported", ["before", "in the child"])
    def test_events_arrive(self, collector, tmp_path, imported):
        """A child whose atexit was cleared runs what the first event registered."""
        if imported == "in the child" and sys.platform != "linux":
            pytest.skip("only Linux tells of a fork that came before the import")
        script = """
            import atexit, logging, os, sys
            if sys.argv[1] == "before":
                from htlogging import htevents
            pid = os.fork()
            if not pid:
                atexit._clear()
                from htlogging import htevents
                for n in range(10):
                    htevents.track("user123", f"e{n}")
                atexit._run_exitfuncs()
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        """
        ended = run(
            tmp_path,
            script,
            imported,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="WRITE_KEY",
        )
        assert (ended.status, ended.err) == (0, "")
        assert [e["event"] for e in collector.events] == [f"e{n}" for n in range(10)]

    def test_a_child_that_kept_it(self, collector, tmp_path):
        """In another child the application's hooks come before the end of ours."""
        script = """
            import atexit, os, sys
            from htlogging import htevents
            atexit.register(lambda: htevents.track("user123", "at exit"))
            pid = os.fork()
            if not pid:
                htevents.track("user123", "first")
                sys.exit()
            os.waitpid(pid, 0)
            os._exit(0)
        """
        ended = run(
            tmp_path,
            script,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="WRITE_KEY",
        )
        assert (ended.status, ended.err) == (0, "")
        # In one request: the sender was still at work.
        names = [[e["event"] for e in request.events] for request in collector.requests]
        assert names == [["first", "at exit"]]


class TestWasForked:
    def test_not_here(self):
        """A program that was started is not taken for a fork."""
        assert not hosts._was_forked() or "PYTEST_XDIST_WORKER" in os.environ

    @needs_fork
    @pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")
    def test_in_a_child(self, tmp_path):
        """A forked child is, as long as it runs no other program."""
        script = """
            import os, sys
            from htlogging._process import hosts
            pid = os.fork()
            if not pid:
                os._exit(hosts._was_forked())
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
        assert run(tmp_path, script).status == 1


class TestThreads:
    def test_may_start(self):
        """Outside of uWSGI threads may be started, and signals are left alone."""
        assert hosts.may_start_threads()
        hosts.block_signals()
