"""Reading YAML the way people mean it: duplicate keys refused, and only JSON's scalars.

YAML 1.1 turns `off` into false, `23:00` into 1380 and `010` into 8; here they stay the text that was written.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from config.faults import Findings, show_key

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # the C loader where there is one, else the same in Python
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute, copied on write by it


_SCALARS = (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
    ("tag:yaml.org,2002:float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", "-0123456789"),
    ("tag:yaml.org,2002:timestamp", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "0123456789"),
)
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def read_yaml(path: Path, findings: Findings) -> dict[str, Any] | None:
    """Return the document as a mapping; None after noting why it can't be read."""
    text = _read_text(path, findings)
    if text is None:
        return None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = None if node is None else _construct(loader, node, [], findings)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        findings.refuse(where, f"not YAML: {fault.problem or fault.context}")
        return None
    except (yaml.YAMLError, RecursionError) as fault:
        findings.refuse("", f"not YAML: {fault}")
        return None
    finally:
        loader.dispose()
    if not isinstance(document, dict):
        findings.refuse("", "expected a mapping with the keys site, database, lines, modules, …, got none")
        return None
    return document


def _read_text(path: Path, findings: Findings) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        findings.refuse("", "there is no such file; name one with --config FILE or DORMPOWER_CONFIG")
    except UnicodeDecodeError:
        findings.refuse("", "expected UTF-8 text, got another encoding; save the file as UTF-8")
    except OSError as fault:
        findings.refuse("", f"can't be read: {fault.strerror}")
    return None


def _construct(loader: Any, node: yaml.Node, place: list[str | int], findings: Findings) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in result:
                findings.refuse(
                    show_key([*place, key]), f"the same key again on line {key_node.start_mark.line + 1}"
                )
            result[key] = _construct(loader, value_node, [*place, key], findings)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, [*place, index], findings) for index, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except ValueError:  # the 13th month: left as the text that it is, for its field to refuse
        return node.value
