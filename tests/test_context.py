from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

import htlogging
from htlogging import context, htevents
from htlogging._event import bindings, builder


@pytest.fixture(autouse=True)
def _in_a_context_of_its_own():
    context.clear()
    yield
    context.clear()


class TestBind:
    def test_adds_and_replaces(self):
        """A later value of a name wins, the other names stay."""
        context.bind(ht_user_id="a", plan="free")
        context.bind(plan="pro")
        assert context.get() == {"ht_user_id": "a", "plan": "pro"}

    def test_any_name(self):
        """Names are those of `extra`; none is taken by the functions themselves."""
        context.bind(self=1, fields=2, name=3)
        assert context.get() == {"self": 1, "fields": 2, "name": 3}

    def test_unbind(self):
        """The names go, what is not bound is passed over."""
        context.unbind("nothing")
        context.bind(a=1, b=2, c=3)
        context.unbind("a", "c", "x")
        assert context.get() == {"b": 2}

    def test_clear(self):
        """Everything goes."""
        context.bind(a=1)
        context.clear()
        assert context.get() == {}


class TestGet:
    def test_is_a_copy(self):
        """Changing it does not change what is bound."""
        context.bind(a=1)
        context.get()["a"] = 2
        assert context.get() == {"a": 1}


class TestBound:
    def test_ends_with_the_block(self):
        """All is as before, whatever was bound inside, an error included."""
        context.bind(a=1, b=1)
        with context.bound(b=2, c=2):
            assert context.get() == {"a": 1, "b": 2, "c": 2}
            context.bind(d=3)
        assert context.get() == {"a": 1, "b": 1}
        with pytest.raises(RuntimeError), context.bound(b=2):
            raise RuntimeError
        assert context.get() == {"a": 1, "b": 1}

    def test_nests(self):
        """An inner block adds to the outer one."""
        with context.bound(a=1):
            with context.bound(b=2):
                assert context.get() == {"a": 1, "b": 2}
            assert context.get() == {"a": 1}
        assert context.get() == {}

    def test_as_a_decorator(self):
        """It binds for each call, a recursive one too."""

        @context.bound(a=1)
        def depth(n):
            assert context.get() == {"a": 1}
            return 1 + depth(n - 1) if n else 0

        assert depth(2) == 2
        assert context.get() == {}

    def test_closed_in_another_context(self):
        """A generator closed elsewhere than it was begun does no harm there."""

        def dependency():
            with context.bound(a=1):
                yield

        generator = dependency()
        contextvars.copy_context().run(next, generator)
        context.bind(b=2)
        generator.close()
        assert context.get() == {"b": 2}


class TestIsolation:
    def test_tasks(self):
        """A task inherits a copy; what it binds stays its own."""

        async def child(name):
            assert context.get() == {"shared": 1}
            context.bind(name=name)
            await asyncio.sleep(0)
            return context.get()

        async def main():
            context.bind(shared=1)
            results = await asyncio.gather(child("a"), child("b"))
            assert context.get() == {"shared": 1}
            return results

        a, b = asyncio.run(main())
        assert (a["name"], b["name"]) == ("a", "b")
        assert context.get() == {}

    def test_threads(self):
        """A thread starts with nothing bound, and leaves nothing."""
        context.bind(a=1)
        seen = []

        def run():
            seen.append(context.get())
            context.bind(b=2)

        # 3.14 may let threads inherit; here an empty context is what is meant.
        thread = threading.Thread(target=contextvars.Context().run, args=(run,))
        thread.start()
        thread.join()
        assert seen == [{}]
        assert context.get() == {"a": 1}

    def test_a_copied_context_is_a_snapshot(self):
        """Later bindings do not show in a context copied before."""
        context.bind(a=1)
        copied = contextvars.copy_context()
        context.bind(a=2)
        assert copied.run(context.get) == {"a": 1}


class TestScope:
    def test_is_empty_at_first(self):
        """Nothing of outside is seen, and all is there again afterwards."""
        context.bind(a=1)
        with context.scope(b=2):
            assert context.get() == {"b": 2}
            context.bind(c=3)
        assert context.get() == {"a": 1}

    def test_bind_is_seen_by_who_has_the_context(self):
        """A thread, a task and a copied context see it, and what they bind is seen."""
        seen = []

        def in_thread():
            seen.append(context.get())
            context.bind(thread=1)

        async def in_task():
            context.bind(task=1)

        with context.scope(a=1):
            copied = contextvars.copy_context()
            context.bind(b=2)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(copied.run, in_thread).result()
            asyncio.run(in_task())
            assert seen == [{"a": 1, "b": 2}]
            assert context.get() == {"a": 1, "b": 2, "thread": 1, "task": 1}

    def test_ended_it_is_empty_for_who_kept_it(self):
        """A pooled thread that has the context sees and adds nothing there."""
        with context.scope(a=1):
            copied = contextvars.copy_context()
            with context.bound(b=1):
                above = contextvars.copy_context()
        for kept in (copied, above):
            assert kept.run(context.get) == {}
            kept.run(context.bind, c=3)
            assert kept.run(context.get) == {"c": 3}
        assert contextvars.copy_context().run(context.get) == {}

    def test_the_innermost_takes(self):
        """`bind` writes into it alone, and the outer one is back at its end."""
        with context.scope(a=1):
            with context.scope():
                assert context.get() == {}
                context.bind(a=2)
            assert context.get() == {"a": 1}

    def test_bound_lies_above(self):
        """In a block its fields win; what `bind` binds meanwhile stays in the scope."""
        with context.scope(a=1):
            with context.bound(a=2, b=2):
                with context.bound(c=3):
                    context.bind(a=4, d=4)
                    assert context.get() == {"a": 2, "b": 2, "c": 3, "d": 4}
                assert context.get() == {"a": 2, "b": 2, "d": 4}
            assert context.get() == {"a": 4, "d": 4}

    def test_unbind_and_clear(self):
        """They take out what the scope has and what lies above, until its block ends."""
        with context.scope(a=1, b=1):
            with context.bound(a=2, c=2):
                context.unbind("a", "nothing")
                assert context.get() == {"b": 1, "c": 2}
                context.clear()
                assert context.get() == {}
                context.bind(d=4)
            assert context.get() == {"d": 4}
        assert context.get() == {}

    def test_closed_in_another_context(self):
        """A dependency with `yield` that ends elsewhere ends its scope all the same."""

        def dependency():
            with context.scope(a=1):
                yield contextvars.copy_context()

        generator = dependency()
        kept = contextvars.copy_context().run(next, generator)
        assert kept.run(context.get) == {"a": 1}
        generator.close()
        assert kept.run(context.get) == {}

    def test_many_threads_bind_at_once(self):
        """Nothing of what they bind is lost."""
        with context.scope():
            contexts = [contextvars.copy_context() for _ in range(8)]

            def work(number):
                for n in range(200):
                    contexts[number].run(
                        context.bind, **{f"k{number}_{n}": n}, ht_context={f"c{n}": n}
                    )
                    contexts[number].run(context.get)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(work, range(8)))
            bound = context.get()
            assert len(bound) == 1 + 8 * 200
            assert len(bound["ht_context"]) == 200

    def test_one_block_twice(self):
        """One after another is fine; at once is a TypeError, not a leak."""
        block = context.scope(a=1)
        for _ in range(2):
            with block:
                assert context.get() == {"a": 1}
                context.bind(b=2)
        with block, pytest.raises(TypeError, match="in use"), block:
            pass
        assert context.get() == {}


class TestLazy:
    def test_is_asked_at_each_event_only(self):
        """What is dear is not found out before; what is bound wins, dicts are merged."""
        calls = []

        def lazy():
            calls.append(1)
            return {"ht_user_id": "late", "ht_context": {"ip": "::1", "locale": "de"}}

        with bindings.ScopeBlock({"a": 1}, lazy):
            context.bind(ht_context={"locale": "en"}, b=2)
            assert calls == []
            assert context.get() == {
                "ht_user_id": "late",
                "ht_context": {"ip": "::1", "locale": "en"},
                "a": 1,
                "b": 2,
            }
            assert calls == [1]
            context.bind(ht_user_id=None)
            assert context.get()["ht_user_id"] is None
            context.unbind("ht_user_id", "ht_context")
            assert context.get() == {"a": 1, "b": 2}
            context.clear()
            assert context.get() == {}


class TestMerge:
    def test_dicts_are_merged(self):
        """What is bound of the context before stays, but for names given again."""
        first, second = {"ip": "::1", "locale": "de"}, {"locale": "en"}
        for begin in (context.clear, context.scope):
            with begin() or context.bound():
                context.bind(ht_context=first, ht_traits={"a": 1})
                context.bind(ht_context=second)
                with context.bound(ht_context={"os": {}}):
                    assert context.get()["ht_context"] == {**first, **second, "os": {}}
                assert context.get()["ht_context"] == {**first, **second}
                assert context.get()["ht_traits"] == {"a": 1}
        assert (first, second) == ({"ip": "::1", "locale": "de"}, {"locale": "en"})

    @pytest.mark.parametrize("empty", [{}, [], (), ""])
    def test_an_empty_value_is_an_empty_dict(self, empty):
        """As in a call: later dicts are merged over it."""
        with htlogging.scope():
            htlogging.bind(ht_context=empty)
            assert htlogging.get() == {"ht_context": {}}
            with htlogging.bound(ht_context={"ip": "::1"}):
                assert htlogging.get() == {"ht_context": {"ip": "::1"}}

    def test_a_copy_is_kept(self):
        """What the caller, or who asked, changes later does not change what is bound."""
        given = {"ip": "::1"}
        with context.scope(ht_context=given):
            given["ip"] = "changed"
            context.get()["ht_context"]["ip"] = "changed"
            assert context.get() == {"ht_context": {"ip": "::1"}}


class TestDecorator:
    """`bound` and `scope` around all that can be called."""

    @pytest.fixture(params=["bound", "scope"])
    def block(self, request):
        """Return what makes a block that binds `a`."""
        return functools.partial(getattr(context, request.param), a=1)

    def test_function(self, block):
        """A call has what is bound, and leaves nothing; recursion is a call, too."""

        @block()
        def depth(n):
            """Say how deep."""
            assert context.get()["a"] == 1
            context.bind(b=n)
            return 1 + depth(n - 1) if n else 0

        assert depth(2) == 2
        assert context.get() == {}
        assert (depth.__name__, depth.__doc__) == ("depth", "Say how deep.")

    def test_coroutine(self, block):
        """So has the coroutine, from its first step to its last."""

        @block()
        async def work(n):
            context.bind(b=n)
            await asyncio.sleep(0)
            return context.get()

        async def main():
            results = await asyncio.gather(work(1), work(2))
            assert context.get() == {}
            assert await work(3) == {"a": 1, "b": 3}
            assert context.get() == {}
            return results

        assert inspect.iscoroutinefunction(work)
        assert asyncio.run(main()) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}]

    def test_generator(self, block):
        """While its own code runs; its caller sees nothing between the steps."""
        ended = []

        @block()
        def numbers(start):
            context.bind(b=2)
            try:
                got = yield start, context.get()
                try:
                    yield got, context.get()
                except KeyError:
                    yield "thrown", context.get()
            finally:
                ended.append(context.get())
            return "done"

        seen = {"a": 1, "b": 2}
        assert inspect.isgeneratorfunction(numbers)
        generator = numbers(0)
        steps = [next(generator), generator.send(1), generator.throw(KeyError())]
        assert context.get() == {}
        assert steps == [(0, seen), (1, seen), ("thrown", seen)]
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == "done"
        generator = numbers(0)
        next(generator)
        generator.close()
        assert ended == [seen, seen]
        assert context.get() == {}

    def test_async_generator(self, block):
        """As a generator, closed by the event loop at its end included."""
        ended = []

        @block()
        async def numbers(start):
            context.bind(b=2)
            try:
                got = yield start, context.get()
                await asyncio.sleep(0)
                try:
                    yield got, context.get()
                except KeyError:
                    yield "thrown", context.get()
            finally:
                await asyncio.sleep(0)
                ended.append(context.get())

        seen = {"a": 1, "b": 2}

        async def main():
            generator = numbers(0)
            steps = [
                await generator.__anext__(),
                await generator.asend(1),
                await generator.athrow(KeyError()),
            ]
            assert context.get() == {}
            assert steps == [(0, seen), (1, seen), ("thrown", seen)]
            with pytest.raises(StopAsyncIteration):
                await generator.__anext__()
            generator = numbers(0)
            await generator.__anext__()
            await generator.aclose()
            left = numbers(0)
            await left.__anext__()
            assert context.get() == {}
            return left

        assert inspect.isasyncgenfunction(numbers)
        asyncio.run(main())
        gc.collect()
        assert ended == [seen, seen, seen]

    def test_error(self, block):
        """What is raised goes through, and nothing stays bound."""

        @block()
        def fail():
            raise KeyError

        @block()
        async def fail_later():
            raise KeyError

        @block()
        def fail_at_once():
            raise KeyError
            yield

        with pytest.raises(KeyError):
            fail()
        with pytest.raises(KeyError):
            asyncio.run(fail_later())
        with pytest.raises(KeyError):
            next(fail_at_once())
        assert context.get() == {}

    def test_a_coroutine_closed_half_way(self, block):
        """Closing it, as the garbage collector does, ends the block."""

        @block()
        async def work():
            await asyncio.Future()

        async def main():
            coroutine = work()
            coroutine.send(None)
            coroutine.close()
            assert context.get() == {}

        asyncio.run(main())

    def test_methods_partials_and_objects(self, block):
        """Whatever can be called, by what its call is."""

        class Thing:
            @block()
            def method(self):
                return context.get()

            async def __call__(self):
                return context.get()

        assert Thing().method() == {"a": 1}
        assert asyncio.run(block()(Thing())()) == {"a": 1}
        assert block()(functools.partial(context.get))() == {"a": 1}

    @pytest.mark.parametrize(
        "wrong", [type("Thing", (), {}), 1, None, staticmethod(len), classmethod(len)]
    )
    def test_of_what_it_cannot_decorate(self, block, wrong):
        """A class and whatever cannot be called is a TypeError at once."""
        with pytest.raises(TypeError, match="decorates functions"):
            block()(wrong)

    def test_without_its_parentheses(self):
        """`@bound` is a TypeError, not a function that is never called."""
        for wrong in (context.bound, context.scope, htevents.flushed):
            with pytest.raises(TypeError):
                wrong(lambda: None)


class TestTypes:
    @pytest.fixture(params=["bind", "bound", "scope"])
    def take(self, request):
        """Return each call that takes fields."""
        return getattr(context, request.param)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *((name, wrong) for name in ("ht_user_id", "ht_anonymous_id", "ht_group_id")
              for wrong in (True, "", [], {}, b"x", float("nan"), object())),
            *((name, wrong) for name in ("ht_context", "ht_traits", "ht_integrations",
                                         "ht_properties")
              for wrong in ([1], "ip", 5, True)),
            ("ht_type", "trak"), ("ht_event", 5), ("ht_event", ""), ("ht_name", 5),
            ("ht_category", 5), ("ht_timestamp", "now"), ("ht_message_id", ()),
        ],
    )  # fmt: skip
    def test_a_wrong_one_raises_there(self, take, field, value):
        """The field is named; it is a TypeError and an InvalidEvent."""
        with pytest.raises(TypeError, match=field) as caught:
            take(**{field: value})
        assert isinstance(caught.value, htlogging.InvalidEvent)
        assert context.get() == {}

    @pytest.mark.parametrize(
        "value", ["u", 0, 42, 1.5, Decimal(7), uuid.UUID(int=7), None], ids=repr
    )
    def test_ids(self, value):
        """All that an event takes as one, and `None` for none."""
        context.bind(ht_user_id=value)
        assert context.get() == {"ht_user_id": value}

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            *[("user_id", "ht_user_id"), ("userId", "ht_user_id")],
            *[("anonymous_id", "ht_anonymous_id"), ("anonymousId", "ht_anonymous_id")],
            *[("group_id", "ht_group_id"), ("context", "ht_context")],
            *[("ht_userid", "ht_user_id"), ("ht_contxt", "ht_context")],
        ],
    )
    def test_did_you_mean(self, take, name, meant):
        """A name that is nearly one of the event's says which is meant."""
        with pytest.raises(TypeError, match=f"did you mean {meant}"):
            take(**{name: {"ip": "::1"}})

    def test_signature(self):
        """Editors show the event's fields, for each of the calls that are typed."""
        for call in (context.bind, context.bound):
            named = set(inspect.signature(call).parameters) - {"properties"}
            assert named == builder.FIELDS

    def test_names(self):
        """`scope` is there for `from htlogging import scope`, and for editors."""
        assert htlogging.scope is context.scope
        assert set(htlogging.__all__) <= set(dir(htlogging))


class TestFork:
    @pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
    def test_a_child_goes_on_in_the_scope(self):
        """It has its own copy; what it binds, its parent does not see."""
        import os

        with context.scope(a=1):
            pid = os.fork()
            if not pid:
                context.bind(b=2)
                os._exit(0 if context.get() == {"a": 1, "b": 2} else 1)
            assert os.waitpid(pid, 0)[1] == 0
            assert context.get() == {"a": 1}
