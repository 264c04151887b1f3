"""Hashes that a thread computes are hashlib's, and nothing is left of the thread."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sise_ort.bundle import hashing
from sise_ort.bundle.hashing import Hashing, file_sha256


def test_hashes_are_those_of_the_whole_files() -> None:
    """Parts of several files, one of them empty, one given bit by bit between the others."""
    whole = {"a": os.urandom(1 << 20), "empty": b"", "b": os.urandom(1001)}
    with Hashing() as found:
        found.add("empty", memoryview(b""))
        for start in range(0, 1 << 20, 1 << 18):
            found.add("a", memoryview(whole["a"])[start : start + (1 << 18)])
            found.add("b", memoryview(whole["b"])[start // 1000 : (start + (1 << 18)) // 1000])
        digests = found.digests()
    whole["b"] = whole["b"][: (1 << 20) // 1000]
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in whole.items()}


def test_the_thread_ends_with_the_block() -> None:
    """Also where the block fails and nobody asks for the hashes."""
    with pytest.raises(ZeroDivisionError), Hashing() as found:
        found.add("a", memoryview(bytes(1 << 20)))
        raise ZeroDivisionError
    found._thread.join(60)
    assert not found._thread.is_alive()


def test_an_error_while_hashing_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> None:
        raise MemoryError("no memory for a hash")

    monkeypatch.setattr(hashing.hashlib, "sha256", no_memory)
    with pytest.raises(MemoryError, match="no memory for a hash"), Hashing() as found:
        found.add("a", memoryview(b"x"))
        found.digests()


def test_a_file_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content := os.urandom((1 << 20) + 7))
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
