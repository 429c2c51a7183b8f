"""The list of a large folder: kept in the user's cache, and listed again when a folder of it has changed."""

import os
import time

import pytest

from datamodules import decode, kept, listing
from gans.metrics.cache import cache_folder

OLD = time.time() - 3600


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of two classes, last changed an hour ago, that counts as large; its list is not kept yet."""
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "LARGE", 3)
    for name in ("cat/1.png", "cat/2.png", "dög/deep/1.jpg", "dög/notes.txt", "dög/.hidden/3.png", "empty/x"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "empty" / "x").unlink()
    aged(tmp_path / "photos")
    return tmp_path / "photos"


def aged(root):
    for folder, _, _ in os.walk(root):
        os.utime(folder, (OLD, OLD))


def scans(monkeypatch, root):
    """Return a listing, and whether the folder was scanned for it."""
    seen = []
    monkeypatch.setattr(listing, "scanned", lambda path, scan=SCAN: (seen.append(path), scan(path))[1])
    return listing.listing(root), bool(seen)


SCAN = listing.scanned


def test_the_second_listing_reads_no_folder(root, monkeypatch):
    first = scans(monkeypatch, root)
    assert first == (SCAN(root), True)
    assert first[0].paths == ["cat/1.png", "cat/2.png", "dög/deep/1.jpg"]
    assert first[0].folders == {"cat", "dög", "dög/deep", "empty"}
    assert first[0].others == {".txt": 1}
    assert scans(monkeypatch, root) == (first[0], False)


CHANGES = {
    "added": lambda root: (root / "dög" / "deep" / "2.jpg").touch(),
    "removed": lambda root: (root / "cat" / "1.png").unlink(),
    "renamed": lambda root: (root / "cat" / "1.png").rename(root / "cat" / "3.png"),
    "a new class": lambda root: (root / "bird").mkdir(),
    "a class less": lambda root: (root / "empty").rmdir(),
    "moved": lambda root: (root / "cat" / "1.png").rename(root / "1.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_folder_is_scanned_again(root, monkeypatch, change):
    listing.listing(root)
    change(root)
    assert scans(monkeypatch, root) == (SCAN(root), True)


def test_a_folder_that_has_just_changed_is_not_kept(root, monkeypatch):
    os.utime(root / "cat")
    listing.listing(root)
    assert scans(monkeypatch, root)[1]


def test_a_folder_in_place_of_another_of_the_same_time_is_scanned(root, monkeypatch):
    listing.listing(root)
    (root / "cat" / "3.png").touch()
    aged(root)  # as archives with times do when they are unpacked
    assert scans(monkeypatch, root) == (SCAN(root), True)


def test_another_pillow_scans_again(root, monkeypatch):
    listing.listing(root)
    monkeypatch.setattr(decode, "EXTENSIONS", (*decode.EXTENSIONS, "txt"))
    assert scans(monkeypatch, root) == (SCAN(root), True)


def test_a_small_folder_is_not_kept(root, monkeypatch):
    monkeypatch.setattr(listing, "LARGE", 5)
    listing.listing(root)
    assert scans(monkeypatch, root)[1]


def test_a_damaged_list_is_made_again(root, monkeypatch):
    listing.listing(root)
    file = kept.place(listing.KIND, root)
    file.write_bytes(file.read_bytes()[:-40])
    assert scans(monkeypatch, root) == (SCAN(root), True)
    assert not scans(monkeypatch, root)[1]


def test_a_cache_that_is_not_writable_is_ignored(root, monkeypatch, tmp_path):
    (tmp_path / "cache").touch()  # a file in place of the folder
    assert scans(monkeypatch, root) == (SCAN(root), True)


def test_lists_lie_beside_the_other_cached_files(monkeypatch):
    monkeypatch.delenv("GANS_CACHE", raising=False)
    assert kept.cache_folder() == cache_folder()
