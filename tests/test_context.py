from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from htlogging import context


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
