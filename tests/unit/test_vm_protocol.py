# SPDX-License-Identifier: GPL-2.0-only
"""The frames on the channel: any cut of the bytes gives the same frames; both ends agree."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbridge import paths
from kbridge.vm import protocol
from kbridge.vm.protocol import Decoder, Frame, ProtocolError, Type

frames = st.lists(
    st.builds(Frame, st.sampled_from(Type), st.integers(0, 2), st.binary(max_size=300)), max_size=8
)


@given(frames, st.lists(st.integers(0, 4000), max_size=12))
def test_frames_come_back_however_the_bytes_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(protocol.encode(f.type, f.payload, stream=f.stream) for f in sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == sent


@given(st.binary(min_size=8, max_size=200))
def test_other_bytes_give_frames_or_the_error(data: bytes) -> None:
    try:
        found = list(Decoder().feed(data))
    except ProtocolError:
        return
    assert all(isinstance(frame.type, Type) for frame in found)


def test_numbers_and_limits() -> None:
    (frame,) = Decoder().feed(protocol.encode_number(Type.CREDIT, 0xFFFFFFFF, stream=2))
    assert (frame.number, frame.stream) == (0xFFFFFFFF, 2)
    with pytest.raises(ProtocolError):
        _ = Frame(Type.EXIT, 0, b"abc").number
    (big,) = Decoder().feed(protocol.encode(Type.DATA, bytes(protocol.MAX_PAYLOAD)))
    assert len(big.payload) == protocol.MAX_PAYLOAD
    with pytest.raises(ValueError, match="a frame of"):
        protocol.encode(Type.DATA, bytes(protocol.MAX_PAYLOAD + 1))
    with pytest.raises(ProtocolError):
        list(
            Decoder().feed(
                bytes([Type.DATA, 0, 0, 0]) + (protocol.MAX_PAYLOAD + 1).to_bytes(4, "little")
            )
        )


def test_the_guest_has_the_same_list() -> None:
    header = Path(paths.source("guest", "guest.h")).read_text()
    in_c = {name: int(value) for name, value in re.findall(r"\bFRAME_(\w+) = (\d+)", header)}
    assert in_c == {one.name: one.value for one in Type}
    assert f"#define PROTOCOL_VERSION {protocol.VERSION}\n" in header
    for name, value in (("MAX_PAYLOAD", protocol.MAX_PAYLOAD), ("WINDOW", protocol.WINDOW)):
        assert re.search(rf"#define {name} \({value // 1024} \* 1024\)", header)
