"""A method is a plain function; its signature is the schema.

    def lora(run: Run, model: Model, data: Dataset, *, rank: int = 8) -> Model:

`Run` first, then artifacts (`Model`, `Model | None = None`, `*more: Dataset`), then keyword-only
settings with defaults. YAML keys, JSON Schema, checks and documentation are read from that here;
there is no registry and no second configuration class.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from volant.core.artifact import KINDS, Artifact
from volant.core.errors import SettingError, did_you_mean
from volant.core.outside import Outside, OutsideKind
from volant.core.run import Run

STAGES = (
    "plan", "collect", "pretrain", "prompt", "finetune", "align",
    "evaluate", "compress", "deploy", "deliver", "improve",
)  # fmt: skip

Scorers: typing.TypeAlias = dict[str, dict[str, Any]] | list[str]
"""A setting that names scorers, with settings: `["relevance"]` or `{"relevance": {"embed": "chargram"}}`."""


F = typing.TypeVar("F", bound=Callable[..., Any])
_BY_TEAM = "volant_by_team"


def by_team(function: F) -> F:
    """Mark a method whose training several processes may share; once it is over, `run.rank` 0 goes on alone."""
    setattr(function, _BY_TEAM, True)
    return function


@dataclass(frozen=True)
class Input:
    """One artifact parameter: `data: Dataset`, `reward: Model | None = None`, `guard: Sequence[Dataset] = ()`, or
    `*more: Dataset`.

    Attributes:
        many: any number of them.
        rest: any number, as `*more` takes them.
    """

    name: str
    kind: type[Artifact]
    optional: bool = False
    many: bool = False
    rest: bool = False


@dataclass(frozen=True)
class Bound:
    """A checked call: artifacts by parameter (always lists) and settings with their defaults filled in."""

    inputs: dict[str, list[Any]]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A function read as a method.

    Attributes:
        name: `finetune.lora` for a built-in; `module:function` or the entry point's name for others.
        inputs: its artifact parameters, in order.
        outside: settings that name something outside, with their kind.
        returns: the kind of artifact that it makes.
    """

    name: str
    function: Callable[..., Artifact]
    inputs: tuple[Input, ...]
    fields: dict[str, tuple[Any, FieldInfo]]
    outside: dict[str, OutsideKind]
    returns: type[Artifact]

    @property
    def stage(self) -> str:
        """The folder: the verb before the dot; empty for a plug-in that has none."""
        return self.name.split(".")[0] if "." in self.name and ":" not in self.name else ""

    @property
    def builtin(self) -> bool:
        """Whether the function is one of Volant's own."""
        return self.function.__module__.startswith("volant.")

    @property
    def by_team(self) -> bool:
        """Whether several processes may share its work."""
        return bool(getattr(self.function, _BY_TEAM, False))

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process reads the function itself; the models made of its signature have no name to be found by.
        return method_of, (self.function, self.name)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @cached_property
    def setting_docs(self) -> dict[str, str]:
        """One sentence a setting, read from the `Args:` section of the docstring."""
        return _args_section(inspect.getdoc(self.function) or "")

    @cached_property
    def settings(self) -> type[BaseModel]:
        """A pydantic model of the settings, for checks and JSON Schema."""
        docs = self.setting_docs
        fields: dict[str, Any] = {}
        for name, (annotation, info) in self.fields.items():
            default = ... if info.is_required() else info.default
            fields[name] = (annotation, Field(default=default, description=docs.get(name)))
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
        return create_model(f"{self.name} settings", __config__=config, **fields)

    def bind(self, arguments: Mapping[str, Any], *, where: str = "", places: Mapping[str, str] | None = None) -> Bound:
        """Check named arguments: artifacts (or step names in their place) and settings.

        Args:
            arguments: parameter name to value; an input takes one value or a list of them.
            where: put before every message (`spec.yaml:7 tuned`).
            places: a nearer place for single arguments (`{"rnak": "spec.yaml:8 tuned"}`).

        Raises:
            SettingError: an unknown, missing or ill-typed argument; the message names the nearest known one.
        """
        inputs: dict[str, list[Any]] = {}
        rest, near = dict(arguments), places or {}
        for parameter in self.inputs:
            given = rest.pop(parameter.name, None)
            values = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
            self._check_count(parameter, values, near.get(parameter.name, where))
            inputs[parameter.name] = values
        known = [*self.fields, *(p.name for p in self.inputs)]
        for name in rest:
            if name not in self.fields:
                what = f"{self.name} has no setting {name!r}."
                raise SettingError(what, where=near.get(name, where), fix=did_you_mean(name, known))
        try:
            checked = self.settings.model_validate(rest)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            if first["type"] == "missing":
                what, mend = f"{self.name} needs the setting {place!r}.", self.setting_docs.get(place, "Add it.")
            else:
                what = f"{self.name} does not take {first['input']!r} for {place!r}: {first['msg']}."
                mend = self.setting_docs.get(str(first["loc"][0]), "")
            raise SettingError(what, where=near.get(str(first["loc"][0]), where), fix=mend) from error
        return Bound(inputs, {name: getattr(checked, name) for name in self.fields})

    def _check_count(self, parameter: Input, values: list[Any], where: str) -> None:
        if not values and not parameter.optional:
            fix = f"Name the step that makes it: {parameter.name}: <step>."
            raise SettingError(
                f"{self.name} needs a {parameter.kind.kind} as {parameter.name!r}.", where=where, fix=fix
            )
        if len(values) > 1 and not parameter.many:
            what = f"{self.name} takes one {parameter.kind.kind} as {parameter.name!r}, not {len(values)}."
            raise SettingError(what, where=where, fix="Name one step.")
        for value in values:
            if value is None or (isinstance(value, Artifact) and not isinstance(value, parameter.kind)):
                given = f"a {value.kind}" if isinstance(value, Artifact) else repr(value)
                what = f"{self.name} takes a {parameter.kind.kind} as {parameter.name!r}, not {given}."
                raise SettingError(what, where=where, fix="Swap the inputs, or name another step.")

    def call(self, run: Run, bound: Bound) -> Artifact:
        """Call the function with checked arguments; returns what it returns."""
        positional: list[Any] = []
        named: dict[str, Any] = dict(bound.settings)
        parameters = inspect.signature(self.function).parameters
        for parameter in self.inputs:
            values = bound.inputs[parameter.name]
            value = tuple(values) if parameter.many else values[0] if values else None
            if parameter.rest:
                positional.extend(values)
            elif parameters[parameter.name].kind is inspect.Parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return self.function(run, *positional, **named)

    def json_schema(self) -> dict[str, Any]:
        """Settings as JSON Schema, inputs and result as `x-inputs` and `x-returns`."""
        schema = self.settings.model_json_schema()
        schema["x-inputs"] = {
            i.name: {"kind": i.kind.kind, "optional": i.optional, "many": i.many} for i in self.inputs
        }
        schema["x-returns"] = self.returns.kind
        return schema


@lru_cache(maxsize=512)
def method_of(function: Callable[..., Artifact], name: str = "") -> Method:
    """Read a function as a method.

    Raises:
        SettingError: the function is none: no `Run` first, a setting that is not keyword-only,
            an untyped parameter, or no artifact returned.
    """
    name = name or _name_of(function)
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or hints.get(parameters[0].name) is not Run:
        raise SettingError(
            "its first parameter is not `run: Run`.", where=name, fix="See DESIGN: a method is a plain function."
        )
    returns = hints.get("return")
    if not (isinstance(returns, type) and issubclass(returns, Artifact) and returns.kind in KINDS):
        raise SettingError("it does not return an artifact.", where=name, fix=f"Annotate one of {', '.join(KINDS)}.")
    inputs: list[Input] = []
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    outside: dict[str, OutsideKind] = {}
    for parameter in parameters[1:]:
        hint = hints.get(parameter.name)
        kind, optional, many = _artifact_kind(hint)
        if kind is not None:
            rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
            optional = optional or rest or parameter.default is not parameter.empty
            inputs.append(Input(parameter.name, kind, optional, many or rest, rest))
            continue
        if _holds_artifact(hint):
            what = f"parameter {parameter.name!r} takes artifacts in a way that is not read: {hint}."
            raise SettingError(what, where=name, fix="Write `Dataset`, `Dataset | None = None` or `Sequence[Dataset]`.")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or hint is None:
            raise SettingError(
                f"parameter {parameter.name!r} is neither an artifact nor a typed keyword-only setting.",
                where=name, fix="Put a `*` before the settings and annotate each.",
            )  # fmt: skip
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hint, FieldInfo(default=default) if default is not ... else FieldInfo())
        marks = [m.kind for m in getattr(hint, "__metadata__", ()) if isinstance(m, Outside)]
        if marks:
            outside[parameter.name] = marks[0]
    return Method(name, function, tuple(inputs), fields, outside, returns)


def _name_of(function: Callable[..., Any]) -> str:
    module = function.__module__
    if module.startswith("volant.stages."):
        stage = module.split(".")[2]
        return f"{stage}.{function.__name__}"
    return f"{module}:{function.__qualname__}"


def _artifact_kind(hint: Any) -> tuple[type[Artifact] | None, bool, bool]:
    """The kind of artifact, whether it may be left out, and whether it may be several."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, Artifact):
        return hint, False, False
    if get_origin(hint) is Sequence:
        kind, _, _ = _artifact_kind(get_args(hint)[0])
        return kind, False, True
    if get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [a for a in get_args(hint) if isinstance(a, type) and issubclass(a, Artifact)]
        if len(kinds) == 1 and type(None) in get_args(hint):
            return kinds[0], True, False
    return None, False, False


def _holds_artifact(hint: Any) -> bool:
    own = isinstance(hint, type) and get_origin(hint) is None and issubclass(hint, Artifact)
    return own or any(_holds_artifact(part) for part in get_args(hint))


def _args_section(doc: str) -> dict[str, str]:
    """The `Args:` section of a Google-style docstring as name to sentence."""
    match = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", doc, flags=re.MULTILINE)
    found: dict[str, str] = {}
    current = ""
    for line in (match[1] if match else "").split("\n"):
        entry = re.match(r"^ {4}\*?(\w+)(?: \([^)]*\))?: (.*)", line)
        if entry:
            current = entry[1]
            found[current] = entry[2].strip()
        elif current and line.strip():
            found[current] += f" {line.strip()}"
    return found


def methods() -> dict[str, Method]:
    """All built-in methods and those of entry-point group `volant.methods`, in the order of the life."""
    found: dict[str, Method] = {}
    for stage in STAGES:
        package = importlib.import_module(f"volant.stages.{stage}")
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            function = getattr(package, module, None)
            if inspect.isfunction(function):
                found[f"{stage}.{module}"] = method_of(function)
    for point in importlib.metadata.entry_points(group="volant.methods"):
        found[point.name] = method_of(point.load(), point.name)
    return found


def method_named(name: str, *, where: str = "") -> Method:
    """The method of that name: `finetune.lora`, an entry point, or `module:function`.

    Raises:
        SettingError: there is none; the message names the nearest one.
    """
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            function = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise SettingError(
                f"cannot import {name!r}: {error}.", where=where, fix="Check module and name."
            ) from error
        return method_of(function, name)
    stage, _, short = name.partition(".")
    if stage in STAGES and short.isidentifier():
        function = getattr(importlib.import_module(f"volant.stages.{stage}"), short, None)
        if inspect.isfunction(function):
            return method_of(function)
    known = methods()
    if name not in known:
        raise SettingError(f"there is no method {name!r}.", where=where, fix=did_you_mean(name, known))
    return known[name]
