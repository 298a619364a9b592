"""Task queues: what is bound where a job is enqueued is bound in the job, and nowhere else."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import subprocess
import sys
import uuid
from collections import Counter
from decimal import Decimal

import pytest
from test_servers import APPLICATIONS, HANG, environ, group, redis_url

import htlogging
from htlogging import htevents
from htlogging.integrations import _propagation

sys.path.append(str(APPLICATIONS))

# The fixtures of the servers' tests.
__all__ = ["environ", "redis_url"]

# Celery and RQ close no file of their own at some ends.
pytestmark = [
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


CROWD = 300


@pytest.fixture(autouse=True)
def _nothing_bound():
    htlogging.clear()
    _propagation._lines = _propagation.Lines()
    yield
    assert htlogging.get() == {}


def check(events, count):
    """Check that each job's event is there, with whom it is of and nothing else bound."""
    assert [e for e in events if e["userId"] != e["properties"]["of"]] == []
    assert [e for e in events if "leaked" in e["properties"]] == []
    assert Counter(e["userId"] for e in events) == Counter(
        f"u{n}" for n in range(count)
    )


@pytest.fixture
def crowd(environ, tmp_path, redis_url):
    """Return what runs a queue's workers on Redis until the crowd's jobs are done."""

    def run_workers(module, package, *command):
        environ["QUEUE_REDIS"] = redis_url
        command = [sys.executable, "-m", package, *command]
        with group(command, tmp_path / "log", env=environ) as workers:
            subprocess.run(
                [sys.executable, f"{module}.py", str(CROWD)],
                cwd=APPLICATIONS,
                env=environ,
                timeout=2 * HANG,
                check=True,
            )
            workers.terminate()
            assert workers.wait(HANG) == 0

    return run_workers


class TestTravel:
    def test_what_is_bound(self):
        """All of it, values keeping their kind, as an event has them."""
        given = {
            "ht_user_id": 42,
            "ht_anonymous_id": uuid.UUID(int=1),
            "ht_context": {"ip": "::1", "page": {"path": "/ä"}},
            "total": Decimal("15.30"),
            "many": {1},
            "nan": float("nan"),
        }
        with htlogging.scope(**given):
            text = _propagation.packed()
        with _propagation.job(text):
            assert htlogging.get() == {
                **given,
                "ht_anonymous_id": str(uuid.UUID(int=1)),
                "total": 15.3,
                "many": [1],
                "nan": None,
            }

    def test_not_what_is_of_one_event(self):
        """A message id and a time are not the job's."""
        with htlogging.scope(ht_message_id="1", a=1):
            assert json.loads(_propagation.packed()) == {"a": 1}
            with _propagation.eager():
                assert htlogging.get() == {"a": 1}
        with htlogging.scope():
            assert _propagation.packed() is None

    def test_what_is_too_large(self, caplog):
        """A broker keeps it with every message: it stays, and the log says so."""
        for value in ("x" * 20_000, [object()] * 20_000):
            with htlogging.scope(a=value), caplog.at_level("WARNING", "htlogging"):
                assert _propagation.packed() is None
        assert caplog.text.count("does not travel") == 1

    def test_lines_have_a_bound(self, caplog):
        """One a minute, with how many jobs it is about; another kind has its own."""
        for _ in range(10):
            with _propagation.job("{"), htlogging.scope(a="x" * 20_000):
                _propagation.packed()
        assert [r.message.partition(":")[0] for r in caplog.records] == [
            "a job's bound fields cannot be read, and are left out [htlogging]",
            "what is bound here does not travel with the job",
        ]
        now = 0.0
        lines = _propagation.Lines(lambda: now)
        for _ in range(10):
            lines.write("left out")
        now = 61.0
        lines.write("left out")
        assert caplog.messages[2:] == [
            "left out [htlogging]",
            "left out (10 jobs) [htlogging]",
        ]

    @pytest.mark.parametrize(
        "text",
        [
            *(None, 5, "", "{", "[]", '"a"', '{"ht_user_id": []}', '{"ht_new": 1}'),
            pytest.param("[" * 200_000, id="deep"),
        ],
    )
    def test_what_is_not_ours(self, text):
        """A header of another's, or of another version, binds nothing."""
        with _propagation.job(text):
            assert htlogging.get() == {}


class TestCelery:
    @pytest.fixture
    def app(self):
        """Return an application that runs its tasks where they are called."""
        pytest.importorskip("celery")
        import celery

        from htlogging.integrations import celery as integration

        app = celery.Celery("eager", broker="memory://", backend="cache+memory://")
        app.conf.task_always_eager = True
        app.conf.task_eager_propagates = True
        integration.install(app)
        integration.install(app)
        return app

    @pytest.mark.slow
    @pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
    def test_crowd(self, environ, collector, tmp_path, redis_url, pool):
        """Hundreds of tasks on processes and threads; half bind late; a warm shutdown delivers."""
        pytest.importorskip("celery")
        environ["CELERY_REDIS"] = redis_url.removeprefix("unix://")
        celery = [sys.executable, "-m", "celery", "-A", "celery_identity", "worker"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [*celery, *quiet, "--concurrency", "8", "--pool", pool]
        with group(command, tmp_path / "log", env=environ) as worker:
            subprocess.run(
                [sys.executable, "celery_identity.py", str(CROWD)],
                cwd=APPLICATIONS,
                env=environ,
                timeout=HANG,
                check=True,
            )
            worker.terminate()
            assert worker.wait(HANG) == 0
        check(collector.events, CROWD)
        early = [e for e in collector.events if int(e["userId"][1:]) % 2 == 0]
        assert {e["context"]["ip"] for e in early} == {"::1"}

    def test_eager(self, app, ht_events):
        """What is bound is bound in the job; what the job binds is its own."""

        @app.task
        def work():
            assert htlogging.get()["plan"] == "pro"
            htlogging.bind(ht_user_id="job")
            htevents.track(event="In the job")

        with htlogging.scope(ht_user_id="user123"):
            with htlogging.bound(plan="pro"):
                work.delay()
            htevents.track(event="After it")
        assert [e["userId"] for e in ht_events] == ["job", "user123"]

    def test_eager_ones_that_end_otherwise(self, app):
        """An error, a retry and a job in a job leave what was bound."""
        from celery.exceptions import Retry

        seen = []

        @app.task
        def inner():
            seen.append(htlogging.get())
            htlogging.bind(inner=1)

        @app.task
        def fails():
            htlogging.bind(a=1)
            inner.delay()
            seen.append(htlogging.get())
            raise LookupError

        @app.task(bind=True, max_retries=1)
        def again(self):
            seen.append(htlogging.get())
            htlogging.bind(a=1)
            raise self.retry(countdown=0, exc=LookupError())

        with htlogging.scope(b=2):
            for task in (fails, again):
                with pytest.raises((LookupError, Retry)):
                    task.delay()
                assert htlogging.get() == {"b": 2}
        assert seen[:2] == [{"a": 1, "b": 2}] * 2
        assert seen[2] == {"b": 2}

    def test_a_retry(self, ht_events):
        """It carries what the job came with, and nothing of the try that failed."""
        celery = pytest.importorskip("celery")
        from celery.contrib.testing.worker import start_worker

        from htlogging.integrations import celery as integration

        app = celery.Celery("retries", broker="memory://", backend="cache+memory://")
        integration.install(app)

        @app.task(bind=True, max_retries=1, name="retries.work")
        def work(self):
            htevents.track(event="Tried")
            htlogging.bind(failed=1)
            if not self.request.retries:
                raise self.retry(countdown=0)

        with start_worker(app, pool="solo", perform_ping_check=False):
            with htlogging.scope(ht_user_id="u"):
                result = work.delay()
            result.get(timeout=HANG)
        found = [(e["userId"], e["properties"]) for e in ht_events.named("Tried")]
        assert found == [("u", {}), ("u", {})]

    def test_called_as_a_function(self, app):
        """Then it is one, and runs in its caller's scope."""

        @app.task
        def work():
            htlogging.bind(a=1)

        with htlogging.scope():
            work()
            assert htlogging.get() == {"a": 1}

    def test_of_what_is_no_application(self):
        """A wrong argument is a TypeError that says what is meant."""
        pytest.importorskip("celery")
        from htlogging.integrations import celery as integration

        with pytest.raises(TypeError, match="Celery app, not str"):
            integration.install("shop")


class TestRqJobs:
    @pytest.fixture
    def worker(self, environ, tmp_path, redis_url):
        """Return what enqueues jobs, and has a command of RQ's do them all."""
        pytest.importorskip("rq")

        def run_worker(count, *command):
            subprocess.run(
                [sys.executable, "rq_identity.py", redis_url, str(count)],
                cwd=APPLICATIONS,
                env=environ,
                timeout=HANG,
                check=True,
            )
            command = [sys.executable, "-m", "rq.cli", *command, "--burst"]
            log = tmp_path / "log"
            with group([*command, "--url", redis_url], log, env=environ) as process:
                # A fork a job: minutes on a machine that does much else.
                assert process.wait(5 * HANG) == 0

        return run_worker

    @pytest.mark.slow
    def test_crowd(self, worker, collector):
        """Hundreds of jobs, each with a process that delivers before it ends by `os._exit`."""
        name = "htlogging.integrations.rq.HtEventsWorker"
        worker(CROWD, "worker-pool", "--num-workers", "2", "--worker-class", name)
        check(collector.events, CROWD)

    @pytest.mark.slow
    def test_spawned(self, worker, collector):
        """A job's process that inherits nothing; starting one takes long."""
        worker(12, "worker", "--worker-class", "rq_workers.Worker")
        check(collector.events, 12)

    @pytest.fixture
    def client(self, collector):
        """Give the facade a client that sends to the collector."""
        htevents.default_client = htevents.Client("KEY", host=collector.url)
        yield
        htevents.default_client = None

    @pytest.mark.slow
    @pytest.mark.usefixtures("client")
    def test_other_workers(self, redis_url, collector):
        """A mixin makes one of RQ's others; the caller's `meta` stays as it is."""
        rq = pytest.importorskip("rq")
        import queue_jobs
        import redis

        from htlogging.integrations.rq import HtEventsMixin

        class Worker(HtEventsMixin, rq.SimpleWorker):
            pass

        meta = {"mine": 1}
        with redis.Redis.from_url(redis_url) as connection:
            queue = rq.Queue(connection=connection)
            for n in range(CROWD):
                late = n % 2
                with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
                    queue.enqueue(queue_jobs.work, f"u{n}", late=bool(late), meta=meta)
            Worker([queue], connection=connection).work(burst=True)
        assert meta == {"mine": 1}
        check(collector.events, CROWD)

    def test_what_a_jobs_process_has(self, environ, redis_url, tmp_path):
        """The worker has imported what delivers: a job's process need not."""
        rq = pytest.importorskip("rq")
        import queue_jobs
        import redis

        with redis.Redis.from_url(redis_url) as connection:
            queue = rq.Queue(connection=connection)
            job = queue.enqueue(queue_jobs.loaded, "requests")
            command = [sys.executable, "-m", "rq.cli", "worker", "--burst"]
            options = ["--worker-class", "htlogging.integrations.rq.HtEventsWorker"]
            log = tmp_path / "log"
            with group(
                [*command, *options, "--url", redis_url], log, env=environ
            ) as process:
                assert process.wait(HANG) == 0
            assert job.return_value(refresh=True) is True

    def test_beside_another_tool(self, monkeypatch):
        """Bound fields travel where another tool has wrapped `Job.create` before."""
        pytest.importorskip("rq")
        from rq.job import Job

        from htlogging.integrations import rq as integration

        create = inspect.unwrap(Job.create.__func__)

        @functools.wraps(create)
        def traced(*args, **kwargs):
            return create(*args, **kwargs)

        monkeypatch.setattr(Job, "create", classmethod(traced))
        integration._carry()
        with htlogging.bound(ht_user_id="ada"):
            job = Job.create("os.getcwd", connection=object())
        assert "ada" in job.meta["htevents"]


class TestDramatiq:
    @pytest.fixture
    def broker(self):
        """Return a broker in memory, with the middleware."""
        dramatiq = pytest.importorskip("dramatiq")
        from dramatiq.brokers.stub import StubBroker
        from dramatiq.middleware import AsyncIO

        from htlogging.integrations.dramatiq import HtEventsMiddleware

        broker = StubBroker()
        broker.add_middleware(AsyncIO())
        broker.add_middleware(HtEventsMiddleware())
        broker.emit_after("process_boot")
        dramatiq.set_broker(broker)
        yield broker
        broker.close()

    @pytest.fixture
    def run(self, broker):
        """Return what does all that is enqueued."""
        import dramatiq

        def run_worker(threads=8):
            worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=threads)
            worker.start()
            try:
                broker.join("default", timeout=HANG * 1000)
                worker.join()
            finally:
                worker.stop()

        return run_worker

    @pytest.mark.parametrize("kind", ["work", "work_async"])
    def test_crowd(self, broker, run, ht_events, kind):
        """Hundreds of messages on threads and in an event loop; half bind late."""
        import dramatiq
        import queue_jobs

        actor = dramatiq.actor(
            getattr(queue_jobs, kind),
            broker=broker,
            actor_name=f"{kind}_{uuid.uuid4()}",
        )
        for n in range(CROWD):
            late = n % 2
            with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
                actor.send(f"u{n}", late=bool(late))
        run()
        check(ht_events, CROWD)

    def test_what_follows(self, broker, run, ht_events):
        """A pipeline's next message, and a retry, have what the first had."""
        import dramatiq

        tries = []

        @dramatiq.actor(broker=broker, min_backoff=1, max_backoff=1)
        def first():
            tries.append(htlogging.get())
            if len(tries) == 1:
                raise LookupError
            return 1

        @dramatiq.actor(broker=broker)
        def second(_):
            htevents.track(event="Second")

        with htlogging.bound(ht_user_id="user123"):
            (first.message() | second.message()).run()
        run(threads=1)
        assert tries == [{"ht_user_id": "user123"}] * 2
        assert ht_events.one("Second")["userId"] == "user123"

    def test_the_workers_end_delivers(self, broker, run, collector):
        """What waits is delivered when it has stopped."""
        client = htevents.Client("KEY", host=collector.url, upload_interval=600)
        client.track("u", "e")
        broker.declare_queue("default")
        run()
        assert len(collector.events) == 1

    @pytest.mark.slow
    def test_on_redis(self, crowd, collector):
        """Hundreds of messages in two processes, whose end delivers."""
        pytest.importorskip("dramatiq.brokers.redis")
        options = ["--processes", "2", "--threads", "4", "dramatiq_identity"]
        crowd("dramatiq_identity", "dramatiq", *options)
        check(collector.events, CROWD)


class TestTaskiq:
    @pytest.fixture
    def broker(self):
        """Return a broker in memory, with the middleware."""
        taskiq = pytest.importorskip("taskiq")
        from htlogging.integrations.taskiq import HtEventsMiddleware

        return taskiq.InMemoryBroker().with_middlewares(HtEventsMiddleware())

    @pytest.mark.parametrize("kind", ["work", "work_async"])
    def test_crowd(self, broker, ht_events, kind):
        """Hundreds of tasks on threads and in the event loop; half bind late."""
        import queue_jobs

        task = broker.task(task_name=kind)(getattr(queue_jobs, kind))

        async def main():
            await broker.startup()
            for n in range(CROWD):
                late = n % 2
                with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
                    await task.kiq(f"u{n}", late=bool(late))
            await broker.wait_all()
            assert htlogging.get() == {}
            await broker.shutdown()

        asyncio.run(main())
        check(ht_events, CROWD)

    def test_in_place(self, ht_events):
        """A task that runs where it is sent leaves what was bound there."""
        taskiq = pytest.importorskip("taskiq")
        from htlogging.integrations.taskiq import HtEventsMiddleware

        broker = taskiq.InMemoryBroker(await_inplace=True).with_middlewares(
            HtEventsMiddleware()
        )

        @broker.task
        async def fails():
            htlogging.bind(ht_user_id="job")
            htevents.track(event="In the task")
            raise LookupError

        async def main():
            with htlogging.scope(ht_user_id="user123"):
                await fails.kiq()
                assert htlogging.get() == {"ht_user_id": "user123"}

        asyncio.run(main())
        assert ht_events.one("In the task")["userId"] == "job"

    def test_a_retry(self, ht_events):
        """It carries what the task came with, and nothing of the try that failed."""
        taskiq = pytest.importorskip("taskiq")
        from htlogging.integrations.taskiq import HtEventsMiddleware

        broker = taskiq.InMemoryBroker(await_inplace=True).with_middlewares(
            taskiq.SimpleRetryMiddleware(default_retry_count=2), HtEventsMiddleware()
        )

        @broker.task(retry_on_error=True)
        async def work():
            htevents.track(event="Tried", anonymous_id="a")
            htlogging.bind(failed=1)
            raise LookupError

        async def main():
            await work.kiq()

        asyncio.run(main())
        assert [e["properties"] for e in ht_events.named("Tried")] == [{}, {}]

    def test_an_end_without_a_beginning(self, broker):
        """A middleware before ours raised: there is no scope, and nothing else raises."""
        from taskiq import TaskiqMessage, TaskiqResult

        message = TaskiqMessage(
            task_id="1", task_name="t", labels={}, args=[], kwargs={}
        )
        result = TaskiqResult(is_err=True, return_value=None, execution_time=0)
        with htlogging.scope(a=1):
            broker.middlewares[0].post_execute(message, result)
            assert htlogging.get() == {"a": 1}

    def test_the_brokers_end_delivers(self, broker, collector):
        """What waits is delivered, a sender's too."""
        client = htevents.Client("KEY", host=collector.url, upload_interval=600)
        client.track("u", "e")
        asyncio.run(broker.shutdown())
        assert len(collector.events) == 1

    @pytest.mark.slow
    def test_on_redis(self, crowd, collector):
        """Hundreds of tasks in two processes, whose end delivers."""
        pytest.importorskip("taskiq_redis")
        options = ["--workers", "2", "--no-configure-logging"]
        crowd("taskiq_identity", "taskiq", "worker", *options, "taskiq_identity:broker")
        check(collector.events, CROWD)


class TestByHand:
    """Huey and arq: what the manual says."""

    @pytest.fixture
    def recipe(self):
        """Return the module that has it."""
        pytest.importorskip("huey")
        import by_hand

        handler = htlogging.HtEventsHandler(write_key="KEY")
        by_hand.log.addHandler(handler)
        by_hand.log.setLevel("INFO")
        yield by_hand
        by_hand.log.removeHandler(handler)
        handler.close()

    def test_huey(self, recipe, ht_events):
        """The job has what was bound where it was enqueued."""
        with htlogging.scope(ht_user_id="user123"):
            recipe.buy()
        assert ht_events.one("Receipt mailed", order_id="5012")["userId"] == "user123"

    def test_arq(self, recipe, ht_events):
        """So has arq's."""

        class Pool:
            async def enqueue_job(self, name, *arguments):
                with htlogging.scope():
                    await getattr(recipe, name)({}, *arguments)

        async def main():
            with htlogging.scope(ht_user_id="user123"):
                await recipe.buy_later(Pool())

        asyncio.run(main())
        assert ht_events.one("Receipt mailed")["userId"] == "user123"

    @pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
    # What arq calls, from Python 3.14 on.
    @pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated")
    def test_arq_on_redis(self, recipe, ht_events, redis_url):
        """Arq's own worker runs the job so, and its end delivers."""
        pytest.importorskip("arq")
        from arq.connections import ArqRedis
        from arq.worker import Worker

        async def main():
            pool = ArqRedis.from_url(redis_url)
            with htlogging.scope(ht_user_id="user123"):
                await recipe.buy_later(pool)
            settings = recipe.WorkerSettings
            worker = Worker(
                settings.functions,
                redis_pool=pool,
                on_shutdown=settings.on_shutdown,
                burst=True,
                handle_signals=False,
            )
            await worker.main()
            await worker.close()
            assert htlogging.get() == {}

        asyncio.run(main())
        assert ht_events.one("Receipt mailed")["userId"] == "user123"
