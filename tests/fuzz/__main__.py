"""`make fuzz`: look for an input that breaks parser or filter, for FUZZ_SECONDS (600).

With atheris installed it is guided by coverage; else inputs are drawn and mutated blindly, which finds less.
Findings are kept in FUZZ_DIRECTORY (`.fuzz`).
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
from pathlib import Path

SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))
DIRECTORY = Path(os.environ.get("FUZZ_DIRECTORY", ".fuzz"))
_TOKENS = (b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\u0000", b"\\ud800", b"1e999", b"\n", b"\n<", b"null", b"=====",
           b'"instructions":"x"', b'"type":"realtime"', b'"role":"system"', b'"tools":[]', b'"session":{', b"\xff",
           b'"item_id":["a"]', b'"name":{}', b'"id":7')  # fmt: skip


def guided() -> None:
    """Search by coverage; ends the process."""
    import atheris  # noqa: PLC0415 - there is no need of it for the other search

    with atheris.instrument_imports(include=["relay.core"]):
        from fuzz.target import one_input, seeds  # noqa: PLC0415 - instrumented while it is imported

    corpus = DIRECTORY / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"vector_{number:04}").write_bytes(seed)
    options = [
        f"-max_total_time={SECONDS}",
        "-max_len=8192",
        "-timeout=10",
        f"-artifact_prefix={DIRECTORY}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def blind() -> int:
    """Search by mutation; the exit status."""
    from fuzz.target import one_input, seeds  # noqa: PLC0415 - the other search imports it in its own way

    known, draw, until, tried = seeds(), random.Random(), time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        data = mutated(known, draw)
        tried += 1
        try:
            one_input(data)
        except BaseException:
            DIRECTORY.mkdir(exist_ok=True)
            found = DIRECTORY / f"crash-{time.time_ns()}"
            found.write_bytes(data)
            print(f"an input that breaks it is in {found}", file=sys.stderr)  # noqa: T201 - a program
            raise
    print(f"{tried} inputs in {SECONDS} s, none broke it")  # noqa: T201 - a program
    return 0


def mutated(known: list[bytes], draw: random.Random) -> bytes:
    """A vector, or several of them in a row, changed here and there."""
    data = bytearray(draw.choice(known))
    for _ in range(draw.randrange(3)):
        data += b"\n" + draw.choice(known)[1:]
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                data[at:at] = draw.choice(_TOKENS)
            case 2:
                del data[at : at + draw.randrange(1, 30)]
            case _:
                other = draw.choice(known)
                start = draw.randrange(len(other))
                data[at:at] = other[start : start + draw.randrange(60)]
        data = data or bytearray(b"\0")
    return bytes(data)


if __name__ == "__main__":
    if importlib.util.find_spec("atheris") is None:
        sys.exit(blind())
    guided()
