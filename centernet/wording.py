"""What a field may hold and what came instead, in words for an error; knows types, not fields."""

import json
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

LONGEST = 60  # characters of what came, in an error
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
SHORT = {2**53: "2^53", -(2**53): "-2^53", 2**32: "2^32", 1e15: "1e15", -1e15: "-1e15"}


def allowed(field: FieldInfo) -> str:
    """What a field may hold, in words: `a whole number from 1 to 1000`."""
    return field.description or words(field.annotation, field.metadata)


def words(kind: Any, rules: list[Any]) -> str:
    """A type and its bounds in words."""
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Literal:
        return " or ".join(map(str, parts))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"`key: value` with keys of {', '.join(kind.model_fields)}"
    if get_origin(kind) is list:
        return f"a list of {words(parts[0], [])}"
    if get_origin(kind) is dict:
        return f"`key: value`, each key {words(parts[0], [])}, each value {words(parts[1], [])}"
    if get_origin(kind) is Annotated:
        inner = [rule.metadata if isinstance(rule, FieldInfo) else [rule] for rule in parts[1:]]
        return words(parts[0], sum(inner, rules))
    if parts:
        return " or ".join(words(part, rules) for part in parts)
    bounds = {name: getattr(rule, name) for rule in rules for name in BOUNDS if hasattr(rule, name)}
    text = [
        f"{word} {SHORT.get(bounds[n], bounds[n])}" for n, word in BOUNDS.items() if n in bounds
    ]
    between = " " if {"ge", "le"} <= bounds.keys() else " and "
    told = f"{WORDS.get(kind, 'text')} {between.join(text)}".strip()
    steps = [rule.multiple_of for rule in rules if hasattr(rule, "multiple_of")]
    return f"{told}, a multiple of {steps[0]}" if steps else told


BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


def brief(value: Any) -> str:
    """What came, in few characters."""
    try:
        text = written(value) if isinstance(value, bool | None) else repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def written(value: Any) -> str:
    """A value as YAML has it: true, null, 0.5, or the text itself."""
    return json.dumps(value) if isinstance(value, bool | None) else str(value)
