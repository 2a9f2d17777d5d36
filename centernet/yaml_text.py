"""YAML text -> values that are what they look like, by a safe loader.

PyYAML follows YAML 1.1, where `off` and `no` are false, `010` is 8, `1_0` is 10, `1:30` is 90 and
`2024-01-01` a date. Here, as in YAML 1.2, truth is `true` and `false`, nothing is `null`, `~` or
empty, and a number is plain and decimal; all else is text as it is typed. A key written twice is
refused, where PyYAML would keep the last in silence.
"""

import re
from typing import Any

import yaml

PREFIX = "tag:yaml.org,2002:"
PLAIN = {  # what an unquoted word may be but text, and the characters that it may begin with
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?((0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # of text that is not YAML


class _AsTyped(yaml.SafeLoader):
    """Safe YAML in which every unquoted word is text, and no key is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read one mapping; ConstructorError names the repeated key and its line."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            seen: set[Any] = set()
            for key_node, _ in node.value:
                name = self.construct_object(key_node)
                if name in seen:
                    where = key_node.start_mark
                    raise yaml.constructor.ConstructorError(
                        problem=f"{name} is given twice", problem_mark=where
                    )
                seen.add(name)
        return mapping


class _Plain(_AsTyped):
    """The same, with the words of PLAIN."""


_AsTyped.yaml_implicit_resolvers = {}
for _name, (_words, _starts) in PLAIN.items():
    _Plain.add_implicit_resolver(PREFIX + _name, re.compile(f"^(?:{_words})$"), _starts)


def parse(text: str) -> Any:
    """The value of a YAML document; one of ERRORS where it is none."""
    return _Plain(text).get_single_data()


def fault(error: Exception) -> tuple[int | None, str]:
    """The line, where it is known, and what is wrong there, of one of ERRORS."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, RecursionError):
        return None, "it is nested too deeply"
    if not isinstance(error, yaml.YAMLError):  # Python's, about its own limit
        return None, "a number in it has too many digits"
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is broken"
    return mark.line + 1 if mark else None, str(reason)


def as_typed(text: str) -> Any:
    """The same with every number, truth and null as the text that was typed."""
    return _AsTyped(text).get_single_data()
