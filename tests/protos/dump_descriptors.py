"""Print, as JSON, what the protobuf modules of this Python's environment define.

Runs inside an environment of the official packages (``python dump_descriptors.py MODULE...``), so it imports
nothing of ours. Per message: fields by name with number, type, label, oneof; per enum: its values; per service:
its methods. Comments, options and the files that things stand in are left out: they are not on the wire.
"""

import importlib
import json
import sys
from typing import Any


def describe_file(file: Any, messages: dict, enums: dict, services: dict) -> None:
    """Add everything that a file and the files it imports define."""
    for dependency in file.dependencies:
        if not dependency.name.startswith("google/protobuf/"):
            describe_file(dependency, messages, enums, services)
    for message in file.message_types_by_name.values():
        describe_message(message, messages, enums)
    for enum in file.enum_types_by_name.values():
        enums[enum.full_name] = describe_enum(enum)
    for service in file.services_by_name.values():
        services[service.full_name] = describe_service(service)


def describe_message(message: Any, messages: dict, enums: dict) -> None:
    """Add a message and those nested in it, map entries included."""
    if message.full_name in messages:
        return
    messages[message.full_name] = {field.name: describe_field(field) for field in message.fields}
    for nested in message.nested_types:
        describe_message(nested, messages, enums)
    for enum in message.enum_types:
        enums[enum.full_name] = describe_enum(enum)


def describe_field(field: Any) -> dict:
    """Return what of a field is on the wire or in its JSON form."""
    of = field.message_type or field.enum_type
    # A oneof made up for `optional` has a leading underscore; it counts, as presence does.
    return {
        "number": field.number,
        "type": field.type,
        "of": of.full_name if of else None,
        "repeated": is_repeated(field),
        "packed": is_packed(field),
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
        "json": field.camelcase_name,
    }


def is_repeated(field: Any) -> bool:
    """Say whether the field repeats; protobuf 7 has no ``label`` any more, 3.20 no ``is_repeated``."""
    known = getattr(field, "is_repeated", None)
    return known if known is not None else field.label == field.LABEL_REPEATED


def is_packed(field: Any) -> bool:
    """Say whether a repeated number is written packed, where an option says so."""
    options = field.GetOptions()
    return options.packed if options.HasField("packed") else is_repeated(field) and field.type not in (9, 10, 11, 12)


def describe_enum(enum: Any) -> dict:
    """Return the numbers by name, aliases included."""
    return {value.name: value.number for value in enum.values}


def describe_service(service: Any) -> dict:
    """Return request, answer and, where the runtime tells, streaming of each method."""
    return {
        method.name: {
            "input": method.input_type.full_name,
            "output": method.output_type.full_name,
            "client_streaming": getattr(method, "client_streaming", None),
            "server_streaming": getattr(method, "server_streaming", None),
        }
        for method in service.methods
    }


def dump(modules: list[str]) -> dict:
    """Return everything that the modules define, and everything that they import."""
    messages: dict = {}
    enums: dict = {}
    services: dict = {}
    for module in modules:
        describe_file(importlib.import_module(module).DESCRIPTOR, messages, enums, services)
    return {"messages": messages, "enums": enums, "services": services}


if __name__ == "__main__":
    json.dump(dump(sys.argv[1:]), sys.stdout, indent=1, sort_keys=True)
