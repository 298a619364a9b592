"""Process lives: whatever way a process ends or forks, accepted events arrive once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter

import pytest
from script_runner import HANG

from htlogging.collector import Reply

# Seconds after which a script is taken to hang.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def run(collector, tmp_path):
    """Return what runs a script to its end and returns its events' names and stderr."""

    def run_script(script, *arguments, status=0, signal_at=None, **environ):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(script))
        with subprocess.Popen(
            [sys.executable, path, *arguments],
            env={
                **os.environ,
                "HTEVENTS_HOST": collector.url,
                "HTEVENTS_WRITE_KEY": "WRITE_KEY",
                "PYTHONWARNINGS": "error",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                if signal_at is not None:
                    assert process.stdout.readline() == "ready\n"
                    process.send_signal(signal_at)
                _, errors = process.communicate(timeout=HANG)
            finally:
                process.kill()
        assert process.returncode == status, errors
        return Counter(event["event"] for event in collector.events), errors

    return run_script


def names(count, prefix="e"):
    """Return the names of this many events, each once."""
    return Counter(f"{prefix}{n}" for n in range(count))


class TestEnd:
    def test_plain_end_of_script(self, run):
        """A thousand events and no flush: all arrive."""
        script = """
            from htlogging import htevents
            for n in range(1000):
                assert htevents.track("user", f"e{n}")[0]
        """
        assert run(script) == (names(1000), "")

    def test_uncaught_exception(self, run):
        """The traceback and the exit status stay as they are; events arrive."""
        script = """
            from htlogging import htevents
            htevents.track("user", "e0")
            raise LookupError("the application's own")
        """
        arrived, errors = run(script, status=1)
        assert arrived == names(1)
        assert errors.endswith("LookupError: the application's own\n")
        assert errors.count("Traceback") == 1

    def test_sys_exit(self, run):
        """`sys.exit(3)` exits with 3, events delivered."""
        script = """
            import sys
            from htlogging import htevents
            htevents.track("user", "e0")
            sys.exit(3)
        """
        assert run(script, status=3) == (names(1), "")

    def test_sys_exit_with_other_threads_alive(self, run):
        """Threads that go on after main ended are waited for, and their events too."""
        script = """
            import sys, threading
            from htlogging import htevents
            main = threading.current_thread()
            def work(n):
                main.join()
                htevents.track("user", f"e{n}")
            for n in range(4):
                threading.Thread(target=work, args=(n,)).start()
            sys.exit(0)
        """
        assert run(script) == (names(4), "")

    def test_keyboard_interrupt(self, run):
        """Ctrl+C ends as it does without us, events delivered."""
        script = """
            import signal, threading
            from htlogging import htevents
            # As at a terminal: what nohup or a shell's & starts ignores it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            htevents.track("user", "e0")
            htevents.flush()  # so that all imports are done
            htevents.track("user", "e1")
            print("ready", flush=True)
            while True:  # 3.13t may miss a signal just before a wait
                threading.Event().wait(1)
        """
        status = -signal.SIGINT
        arrived, errors = run(script, status=status, signal_at=signal.SIGINT)
        assert arrived == names(2)
        assert errors.endswith("KeyboardInterrupt\n")

    def test_sigterm_turned_into_system_exit(self, run):
        """The usual handler in containers: `SystemExit` from SIGTERM."""
        script = """
            import signal, sys, threading
            from htlogging import htevents
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
            htevents.track("user", "e0")
            print("ready", flush=True)
            while True:  # 3.13t may miss a signal just before a wait
                threading.Event().wait(1)
        """
        assert run(script, status=7, signal_at=signal.SIGTERM) == (
            names(1),
            "",
        )

    def test_default_sigterm_after_flush(self, run):
        """Default SIGTERM runs no Python code: what was flushed has arrived."""
        script = """
            import threading
            from htlogging import htevents
            htevents.track("user", "e0")
            assert htevents.flush()
            print("ready", flush=True)
            threading.Event().wait()
        """
        status = -signal.SIGTERM
        assert run(script, status=status, signal_at=signal.SIGTERM) == (
            names(1),
            "",
        )

    @pytest.mark.parametrize("spool", [False, True])
    def test_sigterm_that_flushes_during_the_exit(
        self, run, collector, tmp_path, spool
    ):
        """A handler's `flush` waits, also when it comes into the flush at the exit."""
        script = """
            import atexit, os, signal, sys, threading
            from htlogging.htevents import Client
            settings = {"spool": sys.argv[1]} if sys.argv[1:] else {}
            client = Client(None, upload_interval=60, shutdown_timeout=50, **settings)

            def end(*_):
                assert client.flush(50)
                sys.exit(0)

            signal.signal(signal.SIGTERM, end)
            for n in range(100):
                client.track("user", f"e{n}")

            def twice():
                for _ in range(2):
                    threading.Event().wait(0.3)
                    os.kill(os.getpid(), signal.SIGTERM)

            @atexit.register
            def at_exit():
                threading.Thread(target=twice, daemon=True).start()
        """
        collector.always(Reply(delay=1))
        arrived, errors = run(script, *[tmp_path / "spool"] * spool)
        assert arrived == names(100)
        assert "AssertionError" not in errors

    def test_os_exit_after_flush(self, run):
        """`os._exit` runs nothing: what was flushed has arrived."""
        script = """
            import os
            from htlogging import htevents
            htevents.track("user", "e0")
            assert htevents.flush()
            os._exit(5)
        """
        assert run(script, status=5) == (names(1), "")

    def test_daemon_thread_tracks_while_main_ends(self, run):
        """What a daemon thread was told is queued has arrived, up to the very end."""
        script = """
            import os, threading
            from htlogging import htevents
            begun = threading.Event()
            def work():
                n = 0
                while True:
                    queued, _ = htevents.track("user", f"e{n}")
                    # Straight to the descriptor: no buffer to lose at the end.
                    if queued:
                        os.write(2, b"q")
                    n += 1
                    if n > 200:
                        begun.set()
            threading.Thread(target=work, daemon=True).start()
            begun.wait()
        """
        arrived, errors = run(script)
        assert errors.count("q") >= 200
        # The thread may be stopped between the delivery and its note of it.
        assert sum(arrived.values()) - errors.count("q") in (0, 1)
        assert set(arrived.values()) == {1}

    def test_event_in_an_atexit_hook(self, run):
        """Hooks registered before and after ours, the first event of all included."""
        script = """
            import atexit
            @atexit.register
            def late():
                htevents.track("user", "e0")
            from htlogging import htevents
            @atexit.register
            def early():
                htevents.track("user", "e1")
        """
        assert run(script) == (names(2), "")

    def test_first_import_in_an_atexit_hook(self, run):
        """A hook that imports the package and tracks is in time."""
        script = """
            import atexit, logging
            @atexit.register
            def late():
                from htlogging import htevents
                htevents.track("user", "e0")
        """
        assert run(script) == (names(1), "")

    def test_event_after_logging_shutdown(self, run):
        """A hook registered before logging was imported runs after its shutdown."""
        script = """
            import atexit
            @atexit.register
            def last():
                htevents.track("user", "e1")
            import logging
            from htlogging import htevents
            htevents.track("user", "e0")
        """
        assert run(script) == (names(2), "")

    def test_asyncio_run(self, run):
        """Events from coroutines, the loop closed and the script ended at once."""
        script = """
            import asyncio
            from htlogging import htevents
            async def one(n):
                await asyncio.sleep(0)
                htevents.track("user", f"e{n}")
            async def main():
                await asyncio.gather(*(one(n) for n in range(50)))
            asyncio.run(main())
        """
        assert run(script) == (names(50), "")

    def test_no_threads_to_be_had(self, run):
        """Where threads are refused, events leave at `flush` and at exit; a line says so."""
        script = """
            import threading
            from htlogging import htevents
            def refuse(*args, **kwargs):
                raise RuntimeError("can't start new thread")
            threading.Thread.start = refuse
            htevents.track("user", "e0")
            assert htevents.flush()
            assert htevents.default_client.stats.delivered == 1
            for n in range(1, 400):
                htevents.track("user", f"e{n}")
        """
        arrived, errors = run(script)
        assert arrived == names(400)
        (line,) = errors.splitlines()
        assert line.startswith("no thread can be started; events for http://127.0.0.1:")

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="not before 3.12")
    @pytest.mark.parametrize("flush", ["c.flush()", "pass"])
    def test_isolated_subinterpreter(self, run, flush):
        """Without daemon threads too; it delivers at `flush`, and when it ends."""
        script = """
            import os, sys
            code = f'''if True:
                import _thread, sys, warnings
                warnings.simplefilter("ignore")
                sys.path[:] = {sys.path!r}
                started = []
                def start(*args, real=_thread.start_new_thread):
                    started.append(args)
                    return real(*args)
                _thread.start_new_thread = start
                from htlogging.htevents import Client
                c = Client()
                for n in range(10):
                    c.track("user", "e" + str(n))
                assert not started or _thread.daemon_threads_allowed()
                {sys.argv[1]}
            '''
            if sys.version_info >= (3, 13):
                import _interpreters as interpreters
                one = interpreters.create("isolated")
                assert interpreters.exec(one, code) is None
            else:
                import _xxsubinterpreters as interpreters
                one = interpreters.create(isolated=True)
                interpreters.run_string(one, code)
            interpreters.destroy(one)
            # At its own end 3.12 frees twice what ssl has in two interpreters.
            os._exit(0)
        """
        arrived, errors = run(script, flush)
        assert arrived == names(10)
        lines = [line for line in errors.splitlines() if "htlogging" in line]
        # From 3.15 on such an interpreter may start one: then they leave by themselves.
        if lines or sys.version_info < (3, 15):
            assert lines[0].startswith("no thread can be started; events for ")


@needs_fork
class TestFork:
    @pytest.mark.parametrize("end", ["sys.exit(0)", "htevents.flush(); os._exit(0)"])
    def test_fork_with_events_queued(self, run, end):
        """The parent's events are delivered by the parent, the child's by the child."""
        script = f"""
            import os, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from htlogging import htevents
            htevents.upload_interval = 60
            for n in range(50):
                htevents.track("parent", f"e{{n}}")
            pid = os.fork()
            if pid == 0:
                for n in range(50, 100):
                    assert htevents.track("child", f"e{{n}}")[0]
                assert htevents.default_client.stats.accepted == 50
                {end}
            assert os.waitpid(pid, 0)[1] == 0
            for n in range(100, 150):
                htevents.track("parent", f"e{{n}}")
        """
        assert run(script) == (names(150), "")

    @pytest.mark.slow
    def test_fork_from_many_threads_under_load(self, run):
        """Forks at any moment, whatever lock some thread holds: no child hangs."""
        script = """
            import os, sys, threading, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from htlogging import htevents
            htevents.max_queue_size = 100
            stop = threading.Event()
            def load():
                while not stop.is_set():
                    htevents.track("parent", "load")
                    htevents.default_client.stats
            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for n in range(40):
                pid = os.fork()
                if pid == 0:
                    htevents.track("child", f"e{n}")
                    done = htevents.flush(30)
                    os._exit(0 if done else 9)
                status = os.waitpid(pid, 0)[1]
                if status:
                    break
            stop.set()
            sys.exit(1 if status else 0)
        """
        arrived, _ = run(script, PYTHONWARNINGS="ignore")
        del arrived["load"]
        assert arrived == names(40)

    def test_no_fork_warning_before_the_first_event(self, run):
        """A server that imports and configures before it forks sees no warning."""
        script = """
            import os, sys
            import logging.config
            logging.config.dictConfig({
                "version": 1,
                "handlers": {"ht": {"()": "htlogging.HtEventsHandler"}},
                "loggers": {"htevents": {"handlers": ["ht"], "level": "INFO"}},
            })
            from htlogging import htevents
            htevents.flush()
            pid = os.fork()
            if pid == 0:
                htevents.track("child", "e0")
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        """
        assert run(script) == (names(1), "")

    def test_grandchildren(self, run):
        """A child's child delivers its own."""
        script = """
            import os, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from htlogging import htevents
            htevents.track("user", "e0")
            if os.fork() == 0:
                htevents.track("user", "e1")
                if os.fork() == 0:
                    htevents.track("user", "e2")
                    sys.exit()
                os.wait()
                sys.exit()
            os.wait()
        """
        assert run(script) == (names(3), "")


class TestMultiprocessing:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_process(self, run, method):
        """A Process's events arrive without a flush, however it was started."""
        script = """
            import multiprocessing, sys
            from htlogging import htevents
            def work(n):
                for k in range(10):
                    htevents.track("child", f"e{n * 10 + k}")
            if __name__ == "__main__":
                context = multiprocessing.get_context(sys.argv[1])
                htevents.track("parent", "e30")
                jobs = [context.Process(target=work, args=(n,)) for n in range(3)]
                for job in jobs:
                    job.start()
                for job in jobs:
                    job.join()
                    assert job.exitcode == 0
        """
        # From 3.12 on a fork warns of our thread, which has sent something.
        assert run(script, method, PYTHONWARNINGS="ignore") == (names(31), "")

    @pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_pools(self, run, kind, method):
        """Workers of a pool that is closed and joined deliver without a flush."""
        script = """
            import multiprocessing, sys
            from concurrent.futures import ProcessPoolExecutor
            from htlogging import htevents
            def work(n):
                htevents.track("child", f"e{n}")
            if __name__ == "__main__":
                context = multiprocessing.get_context(sys.argv[1])
                htevents.track("parent", "e40")
                if sys.argv[2] == "Pool":
                    pool = context.Pool(2)
                    pool.map(work, range(40))
                    pool.close()
                    pool.join()
                else:
                    with ProcessPoolExecutor(2, mp_context=context) as pool:
                        list(pool.map(work, range(40)))
        """
        assert run(script, method, kind, PYTHONWARNINGS="ignore") == (names(41), "")
