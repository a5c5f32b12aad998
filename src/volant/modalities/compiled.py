"""Loops over words and hashes as machine code: the one door to numba's compiler, and a way around it.

In goes a function of arrays and whole or floating numbers that makes no memory, raises nothing and returns nothing or a
whole number; out comes the same function as machine code. It is compiled at its first call on a machine and kept beside
its file (or in the user's cache); later processes put what was kept into memory (`machine_code`) and call it without
importing numba or LLVM, which takes longer than many megabytes of text do. Such functions live in files of their own,
and write into arrays that they are given: what allocates these for them is plain Python.

Calls let go of Python's lock, so that threads run side by side. Arrays have to be contiguous.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, update_wrapper
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import RLock
from typing import Any, TypeVar, cast

import numpy as np

from volant.modalities.machine_code import address_of

F = TypeVar("F", bound=Callable[..., Any])
_LOCK = RLock()
_OWN = ("memset", "memcpy", "memmove")  # what machine code may call: all that is there without numba
_SUM = 32  # bytes of a digest
_LASTING = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")  # lines that never change
_IMPORTED = re.compile(rb"^from volant\.modalities\.(\w+) import", re.MULTILINE)


def compiled(function: F) -> F:
    """Compile a function; what cannot be kept on disk (no folder to write in) is compiled in every process."""
    return cast(F, Loop(function))


def inlined(function: F) -> F:
    """As `compiled`, for a few steps of a loop: they become a part of every function that calls them."""
    return cast(F, Loop(function, forceinline=True))


def emitted(function: Callable[..., Any]) -> Any:
    """A step of a loop that says itself which instructions it is: given the types of a call, what it returns and how.

    It is asked when a loop is compiled that calls it, and imports numba then.
    """
    return Step(function)


class Step:
    """What `emitted` makes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._made: Any = None

    def numba(self) -> Any:
        """As numba's compiler takes it."""
        from numba.core.registry import cpu_target
        from numba.extending import intrinsic

        if self._made is None:
            self._made = intrinsic(self._function)
            cpu_target.typing_context.refresh()
        return self._made


class Loop:
    """What `compiled` makes: called with arrays and numbers, it runs the machine code for their kinds."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self._function, self._options = function, options
        self._code: dict[str, Callable[..., int]] = {}
        self._made: Any = None
        self.name = function.__name__
        update_wrapper(self, function)

    def __call__(self, *given: Any) -> int:
        """Run; what is returned is 0 where the function returns nothing."""
        kind = "".join([f"{v.dtype.str[1:]}{v.ndim}" if isinstance(v, np.ndarray) else _PLAIN[type(v)] for v in given])
        code = self._code.get(kind) or self._loaded(kind, given)
        out = ctypes.c_int64(0)
        status = code(ctypes.addressof(out), 0, *_flat(given))
        assert status == 0, (self, status)
        return out.value

    def numba(self) -> Any:
        """As numba's compiler takes it."""
        from numba import njit

        with _LOCK:
            _make_known()
            bare: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
            options = {"nogil": True, "error_model": "numpy", **bare, **self._options}
            self._made = self._made or njit(**options)(self._function)
            return self._made

    def _loaded(self, kind: str, given: tuple[Any, ...]) -> Callable[..., int]:
        """The machine code for arguments of these kinds: as it was kept, or compiled now."""
        with _LOCK:
            if kind not in self._code:
                name = f"{self.__module__.rpartition('.')[2]}.{self.name}-{kind}.loop"
                key = sha256(f"{_stamp(self.__module__)} {name}".encode()).digest()
                kept = _read(name, key)
                if kept is None:
                    kept = self._compiled(given)
                    _write(name, key, kept)
                self._code[kind] = _callable(kept, given)
            return self._code[kind]

    def _compiled(self, given: tuple[Any, ...]) -> bytes:
        """The name of the function in its machine code, a line feed, and the machine code."""
        from numba import from_dtype, types

        made = self.numba()
        kinds = tuple(
            types.Array(from_dtype(v.dtype), v.ndim, "C") if isinstance(v, np.ndarray)
            else types.float64 if isinstance(v, float) else types.int64
            for v in given
        )  # fmt: skip
        made.compile(kinds)
        found = made.overloads[kinds]
        assert str(found.signature.return_type) in ("none", "int64"), found.signature
        module = found.library._final_module
        called = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
        assert called <= set(_OWN), f"{self.name} makes memory or raises: {sorted(called - set(_OWN))}"
        name: str = found.fndesc.llvm_func_name
        code: bytes = found.library._codegen._tm.emit_object(module)
        return name.encode() + b"\n" + code


_PLAIN = {int: "i", float: "f", bool: "i", np.int64: "i"}


def _flat(given: tuple[Any, ...]) -> list[Any]:
    """Arguments as numba's functions take them: of an array no owners, its sizes, place, shape and strides."""
    flat: list[Any] = []
    for value in given:
        if isinstance(value, np.ndarray):
            assert value.flags.c_contiguous and value.dtype.isnative, (value.strides, value.dtype)
            place = value.__array_interface__["data"][0]
            flat += (0, 0, value.size, value.itemsize, place, *value.shape, *value.strides)
        else:
            flat.append(value)
    return flat


def _callable(kept: bytes, given: tuple[Any, ...]) -> Callable[..., int]:
    name, _, code = kept.partition(b"\n")
    place = address_of(name.decode(), code) or _linked(name.decode(), code)
    kinds = [ctypes.c_double if isinstance(v, float) else ctypes.c_int64 for v in _flat(given)]
    return cast(Callable[..., int], ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)(place))


def _linked(name: str, code: bytes) -> int:
    """The address of a function of an object file that LLVM has to link."""
    from llvmlite import binding

    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(name))


@lru_cache(maxsize=1)
def _engine() -> Any:
    """What holds the machine code of this process."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


@lru_cache(maxsize=1)
def _make_known() -> None:
    """Tell numba what to see in a loop or a step that another one calls."""
    from numba.core.registry import cpu_target
    from numba.extending import typeof_impl

    @typeof_impl.register(Loop)
    @typeof_impl.register(Step)
    def _(value: Loop | Step, context: Any) -> Any:
        return cpu_target.typing_context.resolve_value_type(value.numba())


@lru_cache(maxsize=1)
def _processor() -> str:
    """What machine code is made for: the processor and what it can do, as Linux tells it, or LLVM."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        own = [line for line in takewhile(str.strip, file) if line.startswith(_LASTING)]
        if len(own) >= 3:
            return "".join(own)
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


@lru_cache(maxsize=64)
def _stamp(module: str) -> str:
    """Of a file of loops, of those that it imports, which are compiled into it, and of the processor."""
    found, waiting = dict[str, str](), [module.rpartition(".")[2]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            code = Path(__file__).with_name(f"{name}.py").read_bytes()
            found[name] = sha256(code).hexdigest()
            waiting += [own.decode() for own in _IMPORTED.findall(code)]
    return sha256(f"{sorted(found.items())} {_processor()}".encode()).hexdigest()


def _folders() -> tuple[Path, ...]:
    """Where machine code is kept: the first one of these that can be written in."""
    own = Path(__file__).parent / "__pycache__"
    with suppress(RuntimeError):  # who has no home has no second place
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return own, user / "volant" / "loops"
    return (own,)


def _read(name: str, key: bytes) -> bytes | None:
    """What was kept under a name, if it was kept for this key and no byte of it changed."""
    for folder in _folders():
        with suppress(OSError):
            data = (folder / name).read_bytes()
            own, total, kept = data[:_SUM], data[_SUM : 2 * _SUM], data[2 * _SUM :]
            if own == key and total == sha256(kept).digest():
                return kept
    return None


def _write(name: str, key: bytes, kept: bytes) -> None:
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=name, suffix=".part", delete=False) as file:
                file.write(key + sha256(kept).digest() + kept)
            Path(file.name).chmod(0o644)
            Path(file.name).rename(folder / name)
            return
