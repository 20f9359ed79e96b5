"""The look at what tests left behind sees what it looks for."""

import zipfile

import numpy as np
import pytest

from tests.leftovers import is_pickle, logs_with_credentials, pickles


def pickled(protocol: int) -> bytes:
    """Return an empty dict as that library writes it, which nobody imports here."""
    return bytes([0x80, protocol]) + b"}."


@pytest.fixture
def folder(tmp_path):
    # Named so, for the look at the end of the session passes it over.
    made = tmp_path / "pickled"
    made.mkdir()
    return made


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_any_protocol_is_seen(folder, protocol):
    (folder / "x.bin").write_bytes(pickled(protocol))
    assert is_pickle(folder / "x.bin")


def test_an_archive_and_an_array_of_objects_are_seen(folder):
    with zipfile.ZipFile(folder / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}")
    assert is_pickle(folder / "x.pt")
    assert is_pickle(folder / "x.npy")


def test_plain_files_are_none(folder):
    np.save(folder / "x.npy", np.zeros(3))
    (folder / "x.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "PK").write_bytes(b"PK\x03\x04 no archive")
    assert not any(is_pickle(path) for path in folder.iterdir())


def test_a_pickle_below_is_found_where_no_test_meant_it(folder, monkeypatch):
    (folder / "deep").mkdir()
    (folder / "deep/x").write_bytes(pickled(4))
    assert pickles(folder) == []
    monkeypatch.setattr("tests.leftovers.WRITERS", ())
    assert pickles(folder) == [str(folder / "deep/x")]


@pytest.mark.parametrize(
    "text",
    [
        "Bearer dlk_" + "0" * 16 + "_" + "A" * 43,
        "x=eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJl",
        "redis://:planted-password@127.0.0.1",
    ],
)
def test_a_credential_in_a_log_is_seen(folder, text):
    (folder / "gateway.txt").write_text(f"line\n{text}\n")
    assert logs_with_credentials(folder) == []
    for name in ("gateway.log", "log"):
        (folder / name).write_text(f"line\n{text}\n")
        assert logs_with_credentials(folder) == [str(folder / name)]
        (folder / name).unlink()
