"""What a forked child inherits, also of libraries, does it no harm."""

from __future__ import annotations

import os
import sys

import pytest
from script_runner import run

from htlogging._process.fork import late_import

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run_script(collector, tmp_path, script, *arguments):
    """Run a script that sends to the collector; it must end well."""
    ended = run(
        tmp_path,
        script,
        *arguments,
        HTEVENTS_HOST=collector.url,
        HTEVENTS_WRITE_KEY="WRITE_KEY",
        PYTHONWARNINGS="error,ignore:This process",  # of forks, from 3.12 on
    )
    assert (ended.status, ended.err) == (0, "")
    return sorted(event["event"] for event in collector.events)


class TestLibraries:
    @pytest.mark.parametrize("end", ["sys.exit()", "gc.collect(); sys.exit()"])
    @pytest.mark.parametrize("sync_mode", ["", "1"])
    def test_locks_that_a_thread_held(self, collector, tmp_path, end, sync_mode):
        """A child ends, though locks of the parent's pools were taken at the fork."""
        script = f"""
            import gc, os, queue, signal, sys
            from htlogging.htevents import Client
            client = Client(sync_mode=bool({sync_mode!r}))
            client.track("user123", "parent")
            client.flush()
            for thing in gc.get_objects():
                # isinstance would ask proxies, too.
                if issubclass(type(thing), queue.Queue):
                    thing.mutex.acquire()
            pid = os.fork()
            if not pid:
                signal.alarm(30)
                client.track("user123", "child")
                client.flush()
                {end}
            status = os.waitpid(pid, 0)[1]
            os.write(2, b"" if not status else b"the child ended by %d" % status)
            os._exit(0)
        """
        assert run_script(collector, tmp_path, script) == ["child", "parent"]

    @pytest.mark.skipif(sys.platform != "linux", reason="sockets are seen by /proc")
    @pytest.mark.parametrize("sync_mode", ["", "1"])
    def test_sockets(self, collector, tmp_path, sync_mode):
        """A child has none of its parent's connections, and opens its own."""
        script = f"""
            import os, sys
            from htlogging.htevents import Client
            def sockets():
                links = []
                for fd in os.listdir("/proc/self/fd"):
                    try:
                        links.append(os.readlink(f"/proc/self/fd/{{fd}}"))
                    except OSError:
                        pass
                return sum(link.startswith("socket:") for link in links)
            before = sockets()
            client = Client(sync_mode=bool({sync_mode!r}))
            client.track("user123", "parent")
            client.flush()
            assert sockets() == before + 1
            pid = os.fork()
            if not pid:
                assert sockets() == before
                client.track("user123", "child")
                client.flush()
                assert sockets() == before + 1
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0
            client.track("user123", "parent")
            client.flush()
        """
        names = run_script(collector, tmp_path, script)
        assert names == ["child", "parent", "parent"]
        connections = [
            (r.connection, e["event"]) for r in collector.requests for e in r.events
        ]
        (child,) = [number for number, name in connections if name == "child"]
        (parent,) = {number for number, name in connections if name == "parent"}
        assert child != parent

    def test_unpacked_ca_bundle(self, collector, tmp_path):
        """A child's exit does not take away what certifi has unpacked for its parent."""
        script = """
            import os, sys
            from htlogging.htevents import Client
            client = Client()
            client.track("user123", "parent")
            client.flush()
            import certifi.core
            class Unpacked:
                def __exit__(self, *_):
                    os.write(2, b"taken away by %d" % os.getpid())
            certifi.core._CACERT_CTX = Unpacked()
            pid = os.fork()
            if not pid:
                client.track("user123", "child")
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0
            os._exit(0)
        """
        assert run_script(collector, tmp_path, script) == ["child", "parent"]

    @pytest.mark.slow
    def test_forks_under_load(self, collector, tmp_path):
        """However busy the threads are, each child delivers and ends."""
        script = """
            import os, signal, sys, threading, time
            from htlogging.htevents import Client
            sys.setswitchinterval(1e-5)
            clients = [Client(upload_interval=0) for _ in range(4)]
            over = threading.Event()
            def work(client):
                while not over.is_set():
                    client.track("user123", "parent")
                    client.flush()
            threads = [threading.Thread(target=work, args=(c,)) for c in clients]
            for thread in threads:
                thread.start()
            for n in range(30):
                pid = os.fork()
                if not pid:
                    signal.alarm(30)
                    clients[n % 4].track("user123", f"child {n:03}")
                    sys.exit()
                status = os.waitpid(pid, 0)[1]
                if status:
                    os.write(2, b"child %d ended by %d" % (n, status))
            over.set()
            for thread in threads:
                thread.join()
        """
        names = run_script(collector, tmp_path, script)
        children = [name for name in names if name != "parent"]
        assert children == [f"child {n:03}" for n in range(30)]


def ids(collector):
    """Return the ids of what arrived."""
    return {event["messageId"] for event in collector.events}


class TestInterrupted:
    def test_at_any_line(self, collector, tmp_path):
        """What a signal handler raises in a hook leaves no lock held, nor a child without."""
        script = """
            import os, sys, threading
            from htlogging._process import fork
            from htlogging._queue.spool import registry
            from htlogging.htevents import Client

            client = Client(spool=sys.argv[1])
            client.track("user", "parent")
            assert client.flush(60)
            OURS = "fork.py", "locks.py", "registry.py", "connections.py", "_pair.py"
            sys.unraisablehook = lambda _: None  # hooks raise nowhere else

            def strike(number):
                struck = []

                def trace(frame, event, _):
                    nonlocal number
                    if not frame.f_code.co_filename.endswith(OURS):
                        return None
                    number -= event in ("call", "line")
                    if number < 0:
                        sys.settrace(None)
                        struck.append(frame.f_lineno)
                        raise KeyboardInterrupt
                    return trace

                sys.settrace(trace)
                pid = os.fork()
                sys.settrace(None)
                if not pid:
                    client.track("user", "child")
                    os._exit(client.stats.unspooled)
                assert os.waitpid(pid, 0)[1] == 0, struck
                return struck

            def is_free():
                (file,) = registry._files.values()
                for lock in (fork._whole, logging._lock, file.writing, file._reading):
                    with lock:
                        pass
                free.set()

            import logging
            number = 0
            while struck := strike(number):
                number += 1
                free = threading.Event()
                threading.Thread(target=is_free, daemon=True).start()
                assert free.wait(30), struck
            assert number > 50
            assert client.flush(60)
            print(number)
        """
        ended = run(
            tmp_path,
            script,
            str(tmp_path / "spool"),
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="WRITE_KEY",
            PYTHONWARNINGS="error,ignore:This process",
        )
        assert (ended.status, ended.err) == (0, "")
        # One of the parent; of the children, the last one's hooks were not cut short.
        assert len(collector.events) == len(ids(collector)) == int(ended.out) + 2


class TestLateImport:
    def test_is_loaded_once(self):
        """What it returns is kept: later calls take no lock."""
        loaded = []

        def load():
            loaded.append(7)
            return loaded

        imported = late_import(load)
        assert loaded == []
        assert imported() is imported() is loaded
        assert loaded == [7]

    def test_that_fails(self):
        """What it raises comes out, and the next call tries again."""
        results = iter([ImportError("it is gone"), None])

        def load():
            error = next(results)
            if error is not None:
                raise error
            return 7

        imported = late_import(load)
        with pytest.raises(ImportError, match="it is gone"):
            imported()
        assert imported() == 7

    def test_amid_another(self):
        """One may need another one, on the same thread."""
        inner = late_import(lambda: 7)
        assert late_import(inner)() == 7


class TestLocks:
    """No fork waits for ever, whoever holds what; nor does its child."""

    # How a script begins: it has used a spool, and has the object of its file.
    SPOOL = """
            import logging, os, sys, threading
            from htlogging.htevents import Client
            from htlogging._queue.spool import registry

            client = Client(spool=sys.argv[1])
            client.track("user", "parent")
            assert client.flush(60)
            (file,) = registry._files.values()
            began = threading.Event()
    """

    @pytest.mark.parametrize("line", [1, 300, 2_000, 4_000])
    def test_with_logging_s_lock_amid_an_import(self, collector, tmp_path, line):
        """`getLogger` is struck by a handler that forks while `requests` is imported."""
        script = """
            import logging, os, signal, sys, threading
            from htlogging.htevents import Client

            client = Client(upload_interval=0)
            began, forked = threading.Event(), threading.Event()
            left, parent = int(sys.argv[1]), os.getpid()

            def trace(frame, event, _):
                global left
                name = frame.f_globals.get("__name__", "")
                if frame.f_code.co_name != "<module>" or name == "logging":
                    return None
                left -= left > 1 or name.startswith(("requests", "urllib3"))
                if left == 0 and os.getpid() == parent:
                    sys.settrace(None)
                    began.set()
                    forked.wait(60)
                return trace if left > 0 else None

            def fork(*_):
                pid = os.fork()
                if not pid:
                    signal.alarm(40)
                    client.track("user", "child")
                    sent = client.flush(30)
                    import http.client, urllib3.util.retry, requests
                    requests.adapters.HTTPAdapter, requests.packages.urllib3.util
                    os._exit(not sent)
                forked.set()
                assert os.waitpid(pid, 0)[1] == 0

            signal.signal(signal.SIGUSR1, fork)
            threading.settrace(trace)
            client.track("user", "parent")
            assert began.wait(60)
            with logging._lock:
                signal.raise_signal(signal.SIGUSR1)
            assert client.flush(30)
        """
        assert run_script(collector, tmp_path, script, str(line)) == ["child", "parent"]

    def test_of_an_import_that_waits_for_logging(self, collector, tmp_path):
        """An import that wants logging's lock, a fork that has it: neither waits."""
        script = """
            import logging, os, threading
            from htlogging._process import fork
            from htlogging.htevents import Client

            client = Client()
            began = threading.Event()

            def load():
                began.set()
                return logging.getLogger("of.a.library")

            logging._lock.acquire()
            importing = threading.Thread(target=fork.late_import(load))
            importing.start()
            assert began.wait(60)
            assert fork.late_import(lambda: 7)() == 7
            pid = os.fork()
            if not pid:
                client.track("user", "child")
                os._exit(not client.flush(30))
            logging._lock.release()
            assert os.waitpid(pid, 0)[1] == 0
            importing.join()
        """
        assert run_script(collector, tmp_path, script) == ["child"]

    def test_of_a_write_that_waits_for_logging(self, collector, tmp_path):
        """The fork lets it have logging's lock; the child uses the spool."""
        script = (
            self.SPOOL
            + """
            def work(connection):
                began.set()
                while logging._lock.acquire(blocking=False):
                    logging._lock.release()  # the fork does not have it yet
                logging.getLogger("of.the.application")

            writing = threading.Thread(target=file.change, args=(work,))
            writing.start()
            assert began.wait(60)
            pid = os.fork()
            if not pid:
                client.track("user", "child")
                client.join()
                os._exit(client.stats.unspooled)
            assert os.waitpid(pid, 0)[1] == 0
            writing.join()
        """
        )
        spool = str(tmp_path / "spool")
        assert run_script(collector, tmp_path, script, spool) == ["child", "parent"]

    def test_of_a_spool_that_is_written_to(self, collector, tmp_path):
        """A fork goes on; the child keeps off the spool, says so, and delivers."""
        script = (
            self.SPOOL
            + """
            def work(connection):
                began.set()
                logging.getLogger("of.the.application")
                return connection.execute("SELECT 7").fetchone()

            def write():
                assert file.change(work) == (7,)

            logging._lock.acquire()
            writing = threading.Thread(target=write)
            writing.start()
            assert began.wait(60)
            pid = os.fork()
            if not pid:
                logging.getLogger("htlogging").addHandler(logging.StreamHandler())
                client.track("user", "child")
                client.join()
                os._exit(client.stats.unspooled != 1)
            logging._lock.release()
            assert os.waitpid(pid, 0)[1] == 0
            writing.join()
            client.track("user", "parent")
            assert client.flush(60)
        """
        )
        ended = run(
            tmp_path,
            script,
            str(tmp_path / "spool"),
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="WRITE_KEY",
            PYTHONWARNINGS="ignore",
        )
        assert ended.status == 0, ended.err
        assert "forked while another thread used the spool" in ended.err
        names = [event["event"] for event in collector.events]
        assert names == ["parent", "child", "parent"]
