"""Errors are told apart by their reasons: each is raised and documented, and no program looks into texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchyard import errors
from batchyard.errors import Reason
from batchyard_gateway.batch.refusals import TEXTS

from . import reasons

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for room in ("client/batchyard", "controller/batchyard_controller")
    for path in sorted((ROOT / room).rglob("*.py"))
    if not path.stem.endswith(("_pb2", "_pb2_grpc")) and "cli" not in path.parts
]
GATEWAY = sorted((ROOT / "gateway").rglob("*.py"))
CLASSES = {name: getattr(errors, name) for name in reasons.DEFAULTS}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Reasons ------------------------------------------------------------------------


def test_every_reason_is_on_the_page_and_no_other() -> None:
    told = [*reasons.DEFAULTS.values(), *reasons.METADATA, *reasons.OF_VIOLATIONS]
    assert sorted(told) == sorted(Reason)


def test_every_reason_is_given_somewhere() -> None:
    given = {
        node.attr
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert set(Reason) - given == set()


def test_classes_have_the_defaults_that_the_page_tells() -> None:
    assert {name: kind.default_reason for name, kind in CLASSES.items()} == reasons.DEFAULTS


def _without_reason(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        has_reason = any(keyword.arg in ("reason", None) for keyword in node.keywords)
        if name == "Violation" and len(node.args) < 3 and not has_reason:
            yield f"line {node.lineno}: {name}"
        # These two are as close as their classes; of fields, violations tell.
        if name in CLASSES and name not in ("InternalError", "DeadlineExceededError"):
            told_by_violations = name == "InvalidArgumentError" and len(node.args) > 1
            if not (has_reason or told_by_violations):
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=page_id)
def test_whatever_is_refused_gets_a_reason(path: Path) -> None:
    """Give it one of `Reason`, or add one there and to docs/errors.md."""
    assert list(_without_reason(path)) == []


# The gateway ----------------------------------------------------------------------


def test_texts_of_the_gateway_use_what_the_metadata_has() -> None:
    for reason, operation in TEXTS:
        names = reasons.METADATA[reason]
        assert TEXTS[reason, operation].format(arn="", **dict.fromkeys(names, "x")), (reason, operation)


SEARCHES = {
    *("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "partition", "rpartition", "split"),
    *("removeprefix", "removesuffix", "match", "fullmatch", "search", "findall", "finditer"),
}


def _error_names(function: ast.AST) -> set[str]:
    """Return the names that stand for errors or violations: what is caught, and arguments of such types."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        if isinstance(node, ast.arg) and node.annotation is not None:
            kind = ast.unparse(node.annotation)
            if "Error" in kind or "Exception" in kind or "Violation" in kind:
                names.add(node.arg)
    return names


def _is_text(node: ast.AST, errors_: set[str], texts: set[str]) -> bool:
    """Say whether an expression is, or is made of, the text of an error."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) if name in texts:
                return True
            case ast.Attribute(value=ast.Name(id=name), attr="message" | "args") if name in errors_:
                return True
            case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=name)]) if name in errors_:
                return True
    return False


def _looks_into_texts(function: ast.AST) -> Iterator[int]:
    found, texts = _error_names(function), set[str]()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _is_text(node.value, found, texts):
            texts |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(function):
        if isinstance(node, ast.Compare):
            looked_at = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            looked_at = [node.func.value, *node.args]
        else:
            continue
        if any(_is_text(part, found, texts) for part in looked_at):
            yield node.lineno


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", GATEWAY, ids=page_id)
def test_gateway_looks_into_no_text_of_an_error(path: Path) -> None:
    """Ask for the error's class or its reason."""
    assert [line for function in _functions(tree_of(path)) for line in _looks_into_texts(function)] == []


@pytest.mark.parametrize(
    "body",
    [
        "try: call()\n    except E as err:\n        if 'ENABLED' in str(err): pass",
        "try: call()\n    except E as err:\n        text = str(err)\n        return text.startswith('job')",
        "try: call()\n    except E as err:\n        return RE.match(f'{err!s}: {str(err)}')",
        "return error.args[0] == 'no'",
        "return violation.message.startswith(TEXTS)",
        "text = str(error)\n    match error:\n        case A() if text.removeprefix('x'): pass",
    ],
)
def test_looking_into_a_text_is_found(body: str) -> None:
    (function,) = _functions(ast.parse(f"def f(error: RequestError, violation: errors.Violation):\n    {body}"))
    assert list(_looks_into_texts(function))
