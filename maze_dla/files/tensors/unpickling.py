"""The plain data and tensors in a pickle of torch.save, read without Python's pickle machine.

Nothing is called and nothing imported: a list of operations and names is known, each stands for plain data or for a
tensor's place in the file, and all else ends the reading. Each operation takes a time that does not depend on what was
built before, so a pickle ends within its number of operations, which is limited.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import torch

from maze_dla.files.tensors.stored import Storage, StoredTensor, TensorFile

MOST_WORK = 2_000_000  # units of about a microsecond: 1 for a number, 2 for a text or a reference, 4 for what is made
LONGEST_PICKLE = 32 * 2**20  # bytes
MOST_TUPLES = 1000  # as keys of one dictionary
LARGEST_KEY = 2**60  # whole numbers below it cannot all be made to collide in a dictionary
LONGEST_KEY = 4096  # characters: keys that are alike are compared again and again
MOST_AXES = 64
BUILTINS = ("builtins", "__builtin__")
MODULES = {"posix": "os", "nt": "os"}  # as Python's own names are pickled


class DamagedPickleError(ValueError):
    """A pickle that no torch.save has written, or whose numbers cannot be."""


class ForeignPickleError(ValueError):
    """A pickle with something else than tensors and plain data in it; the message is its name."""


class Other:
    """A value that is plain data but of no use here, such as bytes; only its kind is kept."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Known:
    """A name of torch or of Python that may stand in a pickle; it is never called."""

    def __init__(self, name: str) -> None:
        self.name = name


def unpickled(
    data: bytes, source: TensorFile, start: int = 0, seen: dict[str, Storage] | None = None
) -> tuple[Any, int]:
    """The content of a pickle, and where it ends; tensors are `StoredTensor`s and sets are lists.

    Args:
        data: the bytes, of which the pickle is a part.
        source: the file in which the storages are, kept in each tensor.
        start: where the pickle begins.
        seen: where to note the storages by their keys.

    Raises:
        DamagedPickleError: saying what is wrong at which byte.
        ForeignPickleError: naming what else is in it.
    """
    machine = _Machine(data, source, start, {} if seen is None else seen)
    try:
        return machine.run(), machine.at
    except (DamagedPickleError, ForeignPickleError):
        raise
    except (IndexError, struct.error):
        raise DamagedPickleError(f"the pickle is cut off at byte {machine.at}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as problem:
        raise DamagedPickleError(f"the pickle is damaged before byte {machine.at} ({type(problem).__name__})") from None


class _Machine:
    """Where the reading stands; `marks` are the heights of the stack at which lists of arguments begin."""

    def __init__(self, data: bytes, source: TensorFile, start: int, seen: dict[str, Storage]) -> None:
        self.data, self.source, self.at, self.seen = data, source, start, seen
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Operation by operation up to the end of the pickle."""
        data, operations, left = self.data, OPERATIONS, MOST_WORK
        while left > 0:
            code = data[self.at]
            self.at += 1
            if code == STOP:
                return self.stack[-1]
            operation = operations.get(code)
            if operation is None:
                raise DamagedPickleError(f"the pickle has the operation {code:#04x} at byte {self.at - 1}")
            operation(self)
            left -= WORK.get(code, 4)
        raise DamagedPickleError(f"the pickle is more than {MOST_WORK} steps of work")

    def take(self, n: int) -> bytes:
        """The next bytes."""
        taken = self.data[self.at : self.at + n]
        if len(taken) < n:
            raise IndexError
        self.at += n
        return taken

    def number(self, n: int) -> int:
        """A count or an index of so many bytes."""
        return int.from_bytes(self.take(n), "little")

    def line(self) -> str:
        """Text up to the end of its line."""
        end = self.data.index(b"\n", self.at, self.at + 1000)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def items(self) -> list[Any]:
        """All that lies above the last mark, taken from the stack."""
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop(self) -> Any:
        """The topmost value, if it lies above the last mark."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack.pop()


def _put_in(machine: _Machine, pairs: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(pairs) % 2:
        raise DamagedPickleError(f"the pickle has entries of no dictionary at byte {machine.at}")
    for i in range(0, len(pairs), 2):
        target[_checked_key(pairs[i], len(target))] = pairs[i + 1]


def _checked_key(key: Any, n_before: int) -> Any:
    """A key whose hash takes no time to speak of; of tuples, which can be made to collide, only the first ones."""
    kind = type(key)
    if kind is tuple and n_before < MOST_TUPLES and len(key) <= 8 and not any(type(part) is tuple for part in key):
        return tuple(_checked_key(part, 0) for part in key)
    if kind is int and abs(key) >= LARGEST_KEY:
        raise DamagedPickleError(f"a dictionary in the pickle has a key of {key.bit_length()} bits")
    if kind in (str, bytes) and len(key) > LONGEST_KEY:
        raise DamagedPickleError(f"a dictionary in the pickle has a key of {len(key)} characters")
    if kind not in (str, int, float, bool, bytes, type(None)):
        raise DamagedPickleError(f"a dictionary in the pickle has a {kind.__name__} as a key")
    return key


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise DamagedPickleError(f"the pickle has items of no list at byte {machine.at}")
    target.extend(items)


def _global(machine: _Machine, module: Any, name: Any) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
        raise DamagedPickleError(f"the pickle has a name that is no text at byte {machine.at}")
    full = name if module in BUILTINS else f"{MODULES.get(module, module)}.{name}"
    dtype = getattr(torch, name, None) if module == "torch" and name.isidentifier() else None
    if isinstance(dtype, torch.dtype | torch.layout | torch.qscheme):
        machine.stack.append(dtype)
    elif full in CALLS or full in TYPES:
        machine.stack.append(Known(full))
    elif full in STORAGES:
        machine.stack.append(STORAGES[full])
    else:
        raise ForeignPickleError(full)


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Known) or function.name not in CALLS or type(arguments) is not tuple:
        raise DamagedPickleError(f"the pickle calls what is no function at byte {machine.at}")
    machine.stack.append(CALLS[function.name](*arguments))


def _new(machine: _Machine) -> None:
    arguments, kind = machine.pop(), machine.pop()
    if getattr(kind, "name", "") != "collections.OrderedDict" or arguments != ():
        raise DamagedPickleError(f"the pickle makes an object that is no dictionary at byte {machine.at}")
    machine.stack.append({})


def _build(machine: _Machine) -> None:
    """Whatever else an object carries (the versions in a state dict, a tensor's own attributes) is left unread."""
    machine.pop()
    if not isinstance(machine.stack[-1], dict | StoredTensor | Other):
        raise DamagedPickleError(f"the pickle sets the state of no object at byte {machine.at}")


def _storage(machine: _Machine) -> None:
    said = machine.pop()
    if type(said) is not tuple or not 5 <= len(said) <= 6 or said[0] != "storage" or said[5:] not in ((), (None,)):
        raise DamagedPickleError(f"the pickle has no storage at byte {machine.at}")
    kind, key, location, count = said[1:5]
    if not isinstance(kind, StorageKind) or type(key) is not str or type(location) is not str or type(count) is not int:
        raise DamagedPickleError(f"the pickle has no storage at byte {machine.at}")
    machine.seen[key] = storage = Storage(machine.source, key, kind.dtype, count)
    machine.stack.append(storage)


class StorageKind:
    """A class of storages: of one kind of numbers, or of bytes."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *more: Any, dtype: torch.dtype | None = None) -> Any:
    dtype = storage.dtype if dtype is None else dtype
    axes = (shape, stride)
    if not all(type(a) is tuple and len(a) <= MOST_AXES and all(type(n) is int for n in a) for a in axes):
        raise DamagedPickleError("the pickle has a tensor whose sizes are no numbers")
    if type(offset) is not int or len(shape) != len(stride) or not isinstance(dtype, torch.dtype) or len(more) > 3:
        raise DamagedPickleError("the pickle has a tensor that is none")
    if any(type(bits) is dict and (bits.get("neg") or bits.get("conj")) for bits in more):
        raise ForeignPickleError("a tensor whose values stand for their negatives or conjugates: save its clone()")
    return StoredTensor(dtype, shape, storage, offset, stride)


def _tensor_of_bytes(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
) -> Any:
    if not isinstance(dtype, torch.dtype):
        raise DamagedPickleError("the pickle has a tensor of no kind of numbers")
    return _tensor(storage, offset, shape, stride, *more, dtype=dtype)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, StoredTensor):
        raise DamagedPickleError("the pickle has a parameter that is no tensor")
    return data


def _with_attributes(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor that has attributes of its own, which are left unread."""
    if not isinstance(function, Known) or function.name not in TENSORS or type(arguments) is not tuple:
        raise DamagedPickleError("the pickle has a tensor of an unknown class")
    return TENSORS[function.name](*arguments)


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict, from Python 2 with a list of its pairs."""
    made = {_checked_key(key, i): value for i, (key, value) in enumerate(pairs)}
    if pairs:
        pairs.clear()  # so that a list costs its length once, however often dictionaries are made of it
    return made


def _as_it_is(*given: Any) -> Any:
    """A torch.Size, set or Counter as what it is made of."""
    (content,) = given
    if type(content) not in (tuple, list, dict):
        raise DamagedPickleError("the pickle makes a set of no list")
    return content


def _kind(name: str) -> Callable[..., Any]:
    return lambda *_: Other(name)


def _unlike(kind: str) -> Callable[..., Any]:
    return lambda *_: StoredTensor(None, (), None, other=kind)


STORAGES = {
    f"torch.{device}{name}Storage": StorageKind(dtype)
    for device in ("", "cuda.")
    for name, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64,
        "QInt8": torch.qint8, "QUInt8": torch.quint8, "QInt32": torch.qint32, "QUInt4x2": torch.quint4x2,
        "QUInt2x4": torch.quint2x4,
    }.items()
} | {"torch.storage.UntypedStorage": StorageKind(None)}  # fmt: skip
UTILS = "torch._utils._rebuild"
TENSORS: dict[str, Callable[..., Any]] = {
    f"{UTILS}_tensor": _tensor,
    f"{UTILS}_tensor_v2": _tensor,
    f"{UTILS}_tensor_v3": _tensor_of_bytes,
    f"{UTILS}_parameter": _parameter,
    f"{UTILS}_parameter_with_state": _parameter,
    f"{UTILS}_sparse_tensor": _unlike("a sparse tensor"),
    f"{UTILS}_qtensor": _unlike("a quantized tensor"),
    f"{UTILS}_nested_tensor": _unlike("a nested tensor"),
    f"{UTILS}_meta_tensor_no_storage": _unlike("a tensor on the device meta, without numbers"),
    f"{UTILS}_device_tensor_from_numpy": _unlike("a tensor of another device"),
    f"{UTILS}_device_tensor_from_cpu_tensor": _unlike("a tensor of another device"),
    f"{UTILS}_wrapper_subclass": _unlike("a tensor of a class of its own"),
}
CALLS: dict[str, Callable[..., Any]] = {
    **TENSORS,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "collections.OrderedDict": _dictionary,
    **dict.fromkeys(("collections.Counter", "torch.Size", "set", "frozenset"), _as_it_is),
    **{name: _kind(name) for name in ("torch.device", "torch.serialization._get_layout", "bytearray", "complex")},
    "_codecs.encode": _kind("bytes"),
}
TYPES = {"torch.Tensor", "torch.nn.parameter.Parameter"}


def _text(n: int) -> Callable[[_Machine], None]:
    def text(machine: _Machine) -> None:
        start = machine.at + n
        end = start + int.from_bytes(machine.data[machine.at : start], "little")
        if end > len(machine.data):
            raise IndexError
        machine.stack.append(str(machine.data[start:end], "utf-8", "surrogatepass"))
        machine.at = end

    return text


def _bytes(n: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.take(m.number(n)))


def _get(n: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.memo[m.number(n)])


def _put(n: int) -> Callable[[_Machine], None]:
    def put(machine: _Machine) -> None:
        end = machine.at + n
        machine.memo[int.from_bytes(machine.data[machine.at : end], "little")] = machine.stack[-1]
        machine.at = end

    return put


def _whole(n: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.number(n))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value)


def _tuple(n: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(tuple([m.pop() for _ in range(n)][::-1]))


def _long(machine: _Machine) -> None:
    machine.stack.append(int.from_bytes(machine.take(machine.number(1)), "little", signed=True))


STOP = ord(".")
OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    code[0]: operation
    for code, operation in {
        b"\x80": lambda m: m.take(1),  # the protocol: what its operations are is known
        b"\x95": lambda m: m.take(8),  # the length of a frame
        b"(": lambda m: m.marks.append(len(m.stack)),
        b"N": _constant(None), b"\x88": _constant(True), b"\x89": _constant(False), b")": _constant(()),
        b"]": lambda m: m.stack.append([]), b"\x8f": lambda m: m.stack.append([]),  # a set
        b"}": lambda m: m.stack.append({}),
        b"K": _whole(1), b"M": _whole(2), b"J": lambda m: m.stack.append(struct.unpack("<i", m.take(4))[0]),
        b"G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]), b"\x8a": _long,
        b"\x8c": _text(1), b"X": _text(4), b"\x8d": _text(8), b"U": _text(1), b"T": _text(4),
        b"C": _bytes(1), b"B": _bytes(4), b"\x8e": _bytes(8), b"\x96": _bytes(8),
        b"t": lambda m: m.stack.append(tuple(m.items())), b"\x91": lambda m: m.stack.append(m.items()),
        b"l": lambda m: m.stack.append(m.items()),
        b"\x85": _tuple(1), b"\x86": _tuple(2), b"\x87": _tuple(3),
        b"a": lambda m: _append(m, [m.pop()]), b"e": lambda m: _append(m, m.items()),
        b"\x90": lambda m: _append(m, m.items()),
        b"s": lambda m: _put_in(m, [m.pop(), m.pop()][::-1]), b"u": lambda m: _put_in(m, m.items()),
        b"h": _get(1), b"j": _get(4), b"q": _put(1), b"r": _put(4),
        b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
        b"0": lambda m: m.pop(), b"1": lambda m: m.items(), b"2": lambda m: m.stack.append(m.stack[-1]),
        b"c": lambda m: _global(m, m.line(), m.line()),
        b"\x93": lambda m: _global(m, *[m.pop(), m.pop()][::-1]),
        b"Q": _storage, b"R": _reduce, b"b": _build, b"\x81": _new,
    }.items()
}  # fmt: skip
WORK = dict.fromkeys(b"N\x88\x89KMJG", 1) | dict.fromkeys(b")(hjqr\x94\x8cX\x8d", 2)
