"""Figures → text in the OpenMetrics format, which Prometheus reads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The content type of the text, for Prometheus.
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Family:
    """
    A metric, with the samples of one moment.

    Args:
        name: Its name, without the `_total` of a counter.
        kind: `counter`, `gauge` or `histogram`.
        says: What it counts or measures, a sentence.
        unit: `seconds` or `bytes`, with which the name ends; or nothing.
    """

    def __init__(self, name: str, kind: str, says: str, unit: str = "") -> None:
        self.name = name
        self.kind = kind
        self.says = says
        self.unit = unit
        self.samples: list[str] = []

    def add(
        self,
        value: float,
        labels: Mapping[str, str] | None = None,
        suffix: str | None = None,
    ) -> Family:
        """Add a sample; by default its name is the family's, of a counter with `_total`."""
        if suffix is None:
            suffix = "_total" if self.kind == "counter" else ""
        pairs = ",".join(f'{k}="{_escaped(v)}"' for k, v in (labels or {}).items())
        braces = f"{{{pairs}}}" if pairs else ""
        self.samples.append(f"{self.name}{suffix}{braces} {value}")
        return self

    def lines(self) -> list[str]:
        """Return its part of the text."""
        unit = [f"# UNIT {self.name} {self.unit}"] if self.unit else []
        return [
            f"# TYPE {self.name} {self.kind}",
            *unit,
            f"# HELP {self.name} {_escaped(self.says)}",
            *self.samples,
        ]


def text(families: Iterable[Family]) -> str:
    """Return the whole text, its last line included."""
    lines = [line for family in families for line in family.lines()]
    return "\n".join([*lines, "# EOF", ""])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
