"""
Build with setuptools, and put the whole project into the sdist.

An sdist carries what its tests need: their helpers, the examples, CHANGELOG.md.
setuptools reads that list from a MANIFEST.in in the root alone; this one is in .ci.
"""

from __future__ import annotations

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.egg_info import manifest_maker

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# An attribute of setuptools without a setting; tests/test_sdist.py watches it.
manifest_maker.template = ".ci/sdist.in"
