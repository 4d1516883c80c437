# SPDX-License-Identifier: GPL-2.0-only
"""Types of a kernel or module, from its BTF: look-up by name, members, C declarations.

libbpf reads and prints; it checks little of what it is given, so everything that leads it from
one place to another is looked at here first.  Not for finding the bytes (symbols/parts.py).

Source of the format: the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from kbridge.errors import KbridgeError

_LIBRARY = "libbpf.so.1"
_PACKAGE = "libbpf1"

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_LARGEST = 256 << 20  # bytes
# between a type and the named ones that it is made of: links on a way, and in all
_DEEPEST, _MOST = 64, 512

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC = range(9, 16)
FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(16, 20)
# bytes behind each kind's record: in all, and for each of its rows
_TAIL = {
    INT: (4, 0), PTR: (0, 0), ARRAY: (12, 0), STRUCT: (0, 12), UNION: (0, 12), ENUM: (0, 8),
    FWD: (0, 0), TYPEDEF: (0, 0), VOLATILE: (0, 0), CONST: (0, 0), RESTRICT: (0, 0), FUNC: (0, 0),
    FUNC_PROTO: (0, 8), VAR: (4, 0), DATASEC: (0, 12), FLOAT: (0, 0), DECL_TAG: (4, 0),
    TYPE_TAG: (0, 0), ENUM64: (0, 12),
}  # fmt: skip
# kinds whose third word is another type
_LINKS = frozenset(
    {PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DECL_TAG, TYPE_TAG}
)
_COMPOSITE = frozenset({STRUCT, UNION})


class Member(NamedTuple):
    """A member of a structure or union; `bits` is 0 for what is no bit-field."""

    name: str
    type: int
    bit_offset: int
    bits: int


class Type(NamedTuple):
    """`link` is the type that this one is made of, or its size in bytes; `content` what follows
    the record, `rows` the number of rows in it."""

    kind: int
    name: str
    link: int
    rows: int
    flag: bool
    content: bytes


def damaged(name: str, what: str) -> KbridgeError:
    """The error for BTF that is not as it should be."""
    return KbridgeError(
        f"{name}: its BTF is damaged: {what}", hint="install the kernel's package again"
    )


# -- what libbpf takes on trust --


def _sections(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Where the types and the strings are: offset and size of each."""
    if len(data) < _HEADER.size:
        raise damaged(name, f"{len(data)} bytes")
    magic, version, _, header, types_at, types, strings_at, strings = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != 1:
        raise damaged(name, f"magic {magic:#x}, version {version}")
    types_at, strings_at = types_at + header, strings_at + header
    inside = len(data) <= _LARGEST and types_at + types <= strings_at
    if header < _HEADER.size or not inside or strings_at + strings > len(data):
        raise damaged(name, "its parts do not fit in it")
    if types % 4 or types_at % 4:
        raise damaged(name, "its types are not aligned")
    return types_at, types, strings_at, strings


def _records(data: bytes, at: int, size: int, name: str) -> Iterator[tuple[int, int, int, int]]:
    """Name, kind, third word and the highest type that the rows name, of each record."""
    end = at + size
    read = struct.Struct("<III").unpack_from
    while at < end:
        if at + 12 > end:
            raise damaged(name, "its last type is cut off")
        text, info, link = read(data, at)
        kind, rows = info >> 24 & 0x1F, info & 0xFFFF
        if kind not in _TAIL:
            raise damaged(name, f"kind {kind}")
        fixed, each = _TAIL[kind]
        start, at = at + 12, at + 12 + fixed + each * rows
        if at > end:
            raise damaged(name, "its last type is cut off")
        highest = 0
        if kind in (STRUCT, UNION) and rows:
            words = struct.unpack_from(f"<{3 * rows}I", data, start)
            highest, text = max(words[1::3]), max(text, *words[0::3])
        elif kind == FUNC_PROTO and rows:
            words = struct.unpack_from(f"<{2 * rows}I", data, start)
            highest, text = max(words[1::2]), max(text, *words[0::2])
        elif kind in (ENUM, ENUM64) and rows:
            words = struct.unpack_from(f"<{each // 4 * rows}I", data, start)
            text = max(text, *words[0 :: each // 4])
        elif kind == DATASEC and rows:
            highest = max(struct.unpack_from(f"<{3 * rows}I", data, start)[0::3])
        elif kind == ARRAY:
            highest = max(read(data, start)[:2])
        yield text, kind, link, highest


def check(data: bytes, name: str, base: tuple[int, int] = (1, 0)) -> tuple[int, int]:
    """Raise KbridgeError unless every type and string that the BTF names is in it.

    `base`: how many types and bytes of strings the kernel's BTF has, for that of a module.
    Returns the same of both together.  Some 0.2 s for a kernel.
    """
    types_at, types, strings_at, strings = _sections(data, name)
    text = data[strings_at : strings_at + strings]
    if not text.endswith(b"\0") or (base[1] == 0 and not text.startswith(b"\0")):
        raise damaged(name, "its strings have no end")
    count, last, links = base[0], 0, 0
    for named, kind, link, highest in _records(data, types_at, types, name):
        count += 1
        last = max(last, named)
        links = max(links, highest, link if kind in _LINKS else 0)
    if last >= base[1] + strings:
        raise damaged(name, f"a name at {last}")
    if links >= count:
        raise damaged(name, f"it names type {links} of {count}")
    return count, base[1] + strings


# -- libbpf --


class _DeclarationOptions(ctypes.Structure):
    """struct btf_dump_emit_type_decl_opts"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("field_name", ctypes.c_char_p),
        ("indent_level", ctypes.c_int),
        ("strip_mods", ctypes.c_bool),
    )


# va_list is passed as a pointer (psABI for x86-64), so libc's vsnprintf() takes it as it is
_PRINTF = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


@functools.cache
def _libbpf() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as problem:
        raise KbridgeError(
            f"{_LIBRARY} is not there, and it reads the kernel's BTF",
            hint=f"install it with: apt-get install {_PACKAGE}",
        ) from problem
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    for name, result, *arguments in (
        ("btf__new", pointer, ctypes.c_char_p, number),
        ("btf__parse_raw_split", pointer, ctypes.c_char_p, pointer),
        ("btf__free", None, pointer),
        ("btf__type_cnt", number, pointer),
        ("btf__find_by_name_kind", ctypes.c_int, pointer, ctypes.c_char_p, number),
        ("btf__type_by_id", pointer, pointer, number),
        ("btf__name_by_offset", ctypes.c_char_p, pointer, number),
        ("btf_dump__new", pointer, pointer, _PRINTF, pointer, pointer),
        ("btf_dump__free", None, pointer),
        ("btf_dump__emit_type_decl", ctypes.c_int, pointer, number, pointer),
        ("libbpf_set_print", pointer, pointer),
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)  # errors are ours to tell
    return library


@functools.cache
def _vsnprintf() -> Any:
    function = ctypes.CDLL(None).vsnprintf
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
    return function


class Btf:
    """The BTF of a kernel, or of a module on top of its kernel's (`base`).

    Types are numbers, 0 is void.  `data` is what check() let pass; `name` is for messages.
    """

    def __init__(self, data: bytes, name: str, base: Btf | None = None) -> None:
        self._library = _libbpf()
        self._base = base  # which libbpf goes on reading
        self.name = name
        if base:
            self._handle = self._split(data, base)
        else:
            self._handle = self._library.btf__new(data, len(data))
        if not self._handle:
            raise damaged(name, "libbpf does not take it")
        self.count: int = self._library.btf__type_cnt(self._handle)
        self.strings: int = _sections(data, name)[3] + (
            base.strings if base else 0
        )  # bytes of them
        self._first = base.count if base else 1
        self._dump: int | None = None
        self._printed: list[bytes] = []
        self._printf = _PRINTF(self._print)

    def _split(self, data: bytes, base: Btf) -> Any:
        """libbpf 1.1 takes a module's BTF from a file only."""
        with open(os.memfd_create("btf"), "wb") as file:
            file.write(data)
            file.flush()
            path = f"/proc/self/fd/{file.fileno()}"
            return self._library.btf__parse_raw_split(path.encode(), base._handle)

    def __del__(self) -> None:
        if getattr(self, "_dump", None):
            self._library.btf_dump__free(self._dump)
        if getattr(self, "_handle", None):
            self._library.btf__free(self._handle)

    def _text(self, offset: int) -> str:
        text = self._library.btf__name_by_offset(self._handle, offset) or b""
        return str(text.decode("utf-8", "replace"))

    def find(self, name: str, kind: int) -> int:
        """The first type of that name and kind; 0 for none.  A module's BTF includes its base."""
        found = self._library.btf__find_by_name_kind(self._handle, name.encode(), kind)
        return max(0, int(found))

    @functools.cached_property
    def _index(self) -> dict[tuple[int, str], list[int]]:
        found: dict[tuple[int, str], list[int]] = {}
        by_id = self._library.btf__type_by_id
        for number in range(self._first, self.count):
            name, info = struct.unpack("<II", ctypes.string_at(by_id(self._handle, number), 8))
            if name:
                found.setdefault((info >> 24 & 0x1F, self._text(name)), []).append(number)
        return found

    def all_named(self, name: str, kind: int) -> list[int]:
        """Every type of that name and kind: files have structures of the same name."""
        below = self._base.all_named(name, kind) if self._base else []
        return [*below, *self._index.get((kind, name), ())]

    def type(self, number: int) -> Type:
        """The record of a type."""
        at = self._library.btf__type_by_id(self._handle, number) if number else None
        if not at:
            raise damaged(self.name, f"no type {number}")
        name, info, link = struct.unpack("<III", ctypes.string_at(at, 12))
        kind, rows = info >> 24 & 0x1F, info & 0xFFFF
        fixed, each = _TAIL[kind]
        content = ctypes.string_at(at + 12, fixed + each * rows)
        return Type(kind, self._text(name), link, rows, bool(info >> 31), content)

    def members(self, type_: Type) -> list[Member]:
        """Of a structure or union."""
        found = []
        for name, kind, offset in struct.iter_unpack("<III", type_.content):
            bits = offset >> 24 if type_.flag else 0
            found.append(
                Member(self._text(name), kind, offset & 0xFFFFFF if type_.flag else offset, bits)
            )
        return found

    def enumerators(self, type_: Type) -> list[tuple[str, int]]:
        if type_.kind == ENUM64:
            rows = struct.iter_unpack("<III", type_.content)
            return [(self._text(name), low | high << 32) for name, low, high in rows]
        return [
            (self._text(name), value) for name, value in struct.iter_unpack("<Ii", type_.content)
        ]

    def inner(self, type_: Type) -> list[int]:
        """The types that this one is made of, members left out."""
        if type_.kind == ARRAY:
            return [struct.unpack_from("<I", type_.content)[0]]
        if type_.kind == FUNC_PROTO:
            words = struct.iter_unpack("<II", type_.content)
            return [type_.link, *(kind for _, kind in words)]
        return [type_.link] if type_.kind in _LINKS else []

    def unnamed(self, number: int) -> list[int]:
        """The types on the way from this one to those that have a name, which are the last of
        each branch.

        Raises KbridgeError where the way has no end: libbpf would follow it for ever.
        """
        found: list[int] = []

        def follow(one: int, depth: int) -> None:
            if depth > _DEEPEST or len(found) > _MOST:
                raise damaged(self.name, f"type {number} has no end")
            if not one:
                return
            found.append(one)
            type_ = self.type(one)
            if type_.kind not in (TYPEDEF, *_COMPOSITE):
                for other in self.inner(type_):
                    follow(other, depth + 1)

        follow(number, 0)
        return found

    def _print(self, _context: int, form: bytes, arguments: int) -> None:
        size = 256
        while True:
            room = ctypes.create_string_buffer(size)
            copy = (ctypes.c_char * 24).from_buffer_copy(ctypes.string_at(arguments, 24))
            needed = _vsnprintf()(room, size, form, ctypes.addressof(copy))
            if needed < size:
                self._printed.append(room.value)
                return
            size = needed + 1

    def declaration(self, number: int, name: str = "") -> str:
        """`name` declared with that type, as C has it: 'struct file *fget(unsigned int fd)'."""
        for one in self.unnamed(number):
            type_ = self.type(one)
            if type_.kind in _COMPOSITE and not type_.name:
                word = "struct" if type_.kind == STRUCT else "union"
                return f"{word} {{ ... }} {name}".rstrip()
        if self._dump is None:
            self._dump = self._library.btf_dump__new(self._handle, self._printf, None, None)
            if not self._dump:
                raise damaged(self.name, "libbpf cannot print it")
        options = _DeclarationOptions(ctypes.sizeof(_DeclarationOptions), name.encode(), 0, False)
        self._printed.clear()
        failed = self._library.btf_dump__emit_type_decl(self._dump, number, ctypes.byref(options))
        if failed:
            raise damaged(self.name, f"type {number} cannot be declared")
        # BTF does not tell f() from f(void), and kernel code has the latter only
        text = b"".join(self._printed).decode("utf-8", "replace")
        return text.strip().replace("()", "(void)")

    def prototype(self, function: int) -> str:
        """The C prototype of a type of kind FUNC."""
        type_ = self.type(function)
        return self.declaration(type_.link, type_.name)
