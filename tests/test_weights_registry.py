"""The registry of weights: what it says is true, files are found and checked, and fetching survives what servers do."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from gdown.exceptions import FileURLRetrievalError
from torch import nn

from sftrack.errors import ConfigError, MissingWeightsError, WeightsError
from sftrack.weights import fetch as fetching
from sftrack.weights import registry
from sftrack.weights.checkpoints import structure_of
from sftrack.weights.convert import add, convert
from sftrack.weights.fetch import fetch
from sftrack.weights.registry import WeightsFile

GONE = "http://127.0.0.1:9"
CHUNK_BYTES = 512 * 1024
"""What gdown writes at a time; of a broken transfer whole chunks are kept."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are kept during the test; does not exist yet."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A checkpoint of 2 MB, as somebody downloaded it."""
    path = tmp_path / "downloads" / "model.pth"
    path.parent.mkdir()
    torch.manual_seed(0)
    torch.save({"state_dict": nn.Linear(700, 700).state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def entry(net: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """The registry's only entry: the checkpoint `net`, with its hash published."""
    structure = structure_of(nn.Linear(700, 700).state_dict())
    only = WeightsFile(
        *("net", "net.pth", "MIT", "https://example.org", ("network",), ("tiny",)),
        url=f"{GONE}/net",
        sha256=registry.sha256_of(net),
        structure=structure,
    )
    monkeypatch.setattr(registry, "entries", lambda: {"net": only})
    return only


def replace_entry(monkeypatch: pytest.MonkeyPatch, entry: WeightsFile) -> WeightsFile:
    monkeypatch.setattr(registry, "entries", lambda: {entry.name: entry})
    return entry


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str
    content: bytes = b""
    status: int = 200
    breaks_after: int | None = None
    ranges: bool = True
    etag: str = '"1"'
    asked: list[str | None] = field(default_factory=list)

    def part(self, asked: str | None) -> tuple[int, int]:
        """Status and first byte of an answer."""
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        return (206, int(match[1])) if match and self.ranges else (self.status, 0)


@pytest.fixture
def server(net: Path) -> Iterator[Server]:
    """A server on this machine that has `net` under every address."""
    state = Server("", net.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            status, first = state.part(self.headers["Range"])
            body = state.content[first:]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", state.etag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # gdown leaves the answer that it asks for before one with a range
                self.wfile.write(body if state.breaks_after is None else body[: state.breaks_after])

        def log_message(self, *_arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/files/net.pth"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def published(entry: WeightsFile, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """The entry with the server's address."""
    return replace_entry(monkeypatch, replace(entry, url=server.url))


# what weights.toml says


def test_every_entry_can_be_found_and_says_where_it_comes_from() -> None:
    files = [entry.file for entry in registry.entries().values()]
    names = [name for entry in registry.entries().values() for name in (entry.name, *entry.aliases)]
    assert len(set(files)) == len(files)
    assert len(set(names)) == len(names)
    for entry in registry.entries().values():
        assert registry.find(entry.name) is entry
        assert entry.licence
        assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", entry.repository)
        assert (entry.url is not None) + (entry.drive_id is not None) == 1
        assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.structure is None or re.fullmatch(r"[0-9a-f]{16}", entry.structure)
        assert entry.page.startswith("http")


def test_the_five_of_the_full_preset_and_the_two_of_nano_are_registered() -> None:
    assert [entry.name for entry in registry.of_preset("nano")] == ["nanotrack-v2", "nanotrack-v3"]
    assert {entry.name for entry in registry.of_preset("full")} == {
        *("siamrpn++-r50", "siamban", "prdimp18", "atom18", "d3s", "d3s-backbone"),
    }
    assert registry.of_preset("light") == ()


def test_names_have_aliases_and_mistyped_ones_a_hint() -> None:
    assert registry.find("siamrpn++").name == "siamrpn++-r50"
    with pytest.raises(ConfigError, match="got 'nanotrack-v4'; did you mean 'nanotrack-v3'"):
        registry.find("nanotrack-v4")


STRUCTURES = {
    "nanotrack-v2": "nanotrack_v2",
    "nanotrack-v3": "nanotrack",
    "siamrpn++-r50": "siamrpnpp",
    "siamrpn++-alex": "siamrpnpp_alex",
    "siamrpn++-alex_otb": "siamrpnpp_alex",
    "siamrpn++-mobilev2": "siamrpnpp_mobilev2",
    "siamban": "siamban",
    "siamban_otb": "siamban",
    "prdimp18": "prdimp18",
    "atom18": "atom18",
    "d3s": "d3s",
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_networks_are_recognised_by_the_specified_names_and_shapes(shared: Path, name: str) -> None:
    shapes = json.loads((shared / "parity" / f"{STRUCTURES[name]}_state.json").read_text())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert name in registry.recognise(tensors)
    assert all(STRUCTURES.get(other) == STRUCTURES[name] for other in registry.recognise(tensors))


def test_the_otb_variant_without_learned_level_weights_is_told_apart(shared: Path) -> None:
    shapes = json.loads((shared / "parity" / "siamrpnpp_state.json").read_text())
    tensors = {key: torch.empty(shape) for key, shape in shapes.items() if key not in ("rpn_head.cls_weight", "rpn_head.loc_weight")}
    assert registry.recognise(tensors) == ("siamrpn++-r50_otb",)


@pytest.mark.parametrize("name", ["nanotrack-v2", "nanotrack-v3"])
def test_real_nanotrack_weights_have_the_registered_size_and_hash(shared: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(shared / "weights" / "nanotrack"))
    path = registry.locate(name)
    assert path.stat().st_size == registry.find(name).size
    assert registry.sha256_of(path) == registry.find(name).sha256


# where files are


def test_what_is_missing_is_named_with_the_command_and_the_way_by_hand(entry: WeightsFile, folder: Path) -> None:
    assert not registry.available("net")
    with pytest.raises(MissingWeightsError, match=r"weights of net.*download http://127\.0\.0\.1:9/net .*add FILE --name net`") as caught:
        registry.locate("net")
    assert "run `sftrack weights fetch net`, or download http" in str(caught.value)
    assert str(folder) in str(caught.value)


def test_without_a_folder_of_its_own_the_users_cache_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(registry.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registry.folder().parts[-2:] == ("sftrack", "weights")


def test_a_file_or_its_conversion_is_found_by_name_and_alias(entry: WeightsFile, folder: Path, net: Path) -> None:
    _, path = add(net, "net")
    assert registry.locate("network") == path == folder / "net.pth"
    convert(path)
    assert registry.locate("net") == path
    path.unlink()
    assert registry.locate("net") == folder / "net.safetensors"


def test_another_file_under_a_published_name_is_refused(entry: WeightsFile, folder: Path, net: Path) -> None:
    add(net, "net")
    torch.save(nn.Linear(700, 700).state_dict(), folder / "net.pth")
    with pytest.raises(WeightsError, match=rf"expected the published net\.pth with sha256 {entry.sha256}, .* has "):
        registry.locate("net")


def test_an_unknown_hash_is_recorded_on_first_use_and_checked_from_then_on(
    entry: WeightsFile, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_entry(monkeypatch, replace(entry, sha256=None))
    folder.mkdir()
    (folder / "net.pth").write_bytes(net.read_bytes())
    registry.locate("net")
    records = json.loads((folder / registry.RECORD_FILE).read_text())
    assert records["net.pth"]["sha256"] == registry.sha256_of(net)
    torch.save(nn.Linear(700, 700).state_dict(), folder / "net.pth")
    for _ in range(2):  # a refusal must not become the new record
        with pytest.raises(WeightsError, match="as it was on first use"):
            registry.locate("net")
    add(folder / "net.pth", "net")
    registry.locate("net")


def test_a_file_is_hashed_again_only_when_it_was_touched(
    entry: WeightsFile, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    real = registry.sha256_of
    monkeypatch.setattr(registry, "sha256_of", lambda path: hashed.append(path) or real(path))
    _, path = add(net, "net")
    hashed.clear()
    registry.locate("net")
    assert hashed == []
    path.touch()
    registry.locate("net")
    assert hashed == [path]
    registry.verify(entry, path, again=True)
    assert hashed == [path, path]


def test_a_record_written_for_another_registered_hash_is_not_trusted(
    entry: WeightsFile, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(net, "net")
    replace_entry(monkeypatch, replace(entry, sha256="0" * 64))
    with pytest.raises(WeightsError, match="expected the published"):
        registry.locate("net")


def test_weights_in_a_folder_that_cannot_be_written_are_used(
    entry: WeightsFile, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    (folder / "net.pth").write_bytes(net.read_bytes())

    def refuse(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(registry, "write_records", refuse)
    assert registry.locate("net") == folder / "net.pth"


@pytest.mark.parametrize("content", ["", "[]", '{"net.pth": 3}'])
def test_damaged_records_are_an_error_rather_than_no_check(entry: WeightsFile, folder: Path, net: Path, content: str) -> None:
    add(net, "net")
    (folder / registry.RECORD_FILE).write_text(content)
    with pytest.raises(WeightsError, match=r"sha256\.json'.*remove it"):
        registry.locate("net")


# fetching


def test_a_file_is_fetched_checked_and_then_at_once_there(published: WeightsFile, server: Server, folder: Path, net: Path) -> None:
    path = fetch(published)
    assert path == registry.locate("net")
    assert path.read_bytes() == net.read_bytes()
    assert {left.name for left in folder.iterdir()} == {"net.pth", registry.RECORD_FILE}
    asked = len(server.asked)
    fetch(published)
    assert len(server.asked) == asked, "what is there is not fetched again"
    fetch(published, again=True)
    assert len(server.asked) > asked


def test_a_file_of_unknown_hash_must_have_the_tensors_of_its_network(
    published: WeightsFile, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = replace_entry(monkeypatch, replace(published, sha256=None))
    assert registry.verify(unknown, fetch(unknown)) == registry.sha256_of(registry.folder() / "net.pth")
    other = replace_entry(monkeypatch, replace(unknown, structure="0" * 16))
    with pytest.raises(WeightsError, match=r"expected the weights of net, .* holds 2 tensors of an unknown network"):
        fetch(other, again=True)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_servers_refusal_is_told(published: WeightsFile, server: Server, folder: Path, status: int) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=rf"cannot fetch net \(127\.0\.0\.1 answers {status} .*else download http.*add FILE --name net`"):
        fetch(published)
    assert list(folder.iterdir()) == []


def test_another_file_than_the_published_one_is_not_kept(published: WeightsFile, server: Server, folder: Path) -> None:
    torch.save(nn.Linear(700, 700).state_dict(), path := folder.parent / "other.pth")
    server.content = path.read_bytes()
    with pytest.raises(WeightsError, match="fits the network but has"):
        fetch(published)
    assert list(folder.iterdir()) == []


def test_a_web_page_instead_of_the_file_is_told(published: WeightsFile, server: Server) -> None:
    server.content = b"<!DOCTYPE html><title>Quota exceeded</title>"
    with pytest.raises(WeightsError, match=r"is a web page \('Quota exceeded'\)"):
        fetch(published)
    assert not registry.available("net")


def test_a_transfer_that_breaks_is_taken_up_where_it_ended(published: WeightsFile, server: Server, net: Path) -> None:
    server.breaks_after = 600_000
    assert fetch(published).read_bytes() == net.read_bytes()
    assert [asked for asked in server.asked if asked] == [f"bytes={count * CHUNK_BYTES}-" for count in (1, 2, 3)]


def test_the_next_call_goes_on_with_what_arrived(
    published: WeightsFile, server: Server, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    server.breaks_after = 600_000
    with pytest.raises(WeightsError, match=r"the server announced .* what arrived is kept, and the same command goes on with it"):
        fetch(published)
    assert not registry.available("net")
    server.breaks_after = None
    assert fetch(published).read_bytes() == net.read_bytes()
    assert server.asked[-1] == f"bytes={CHUNK_BYTES}-"
    assert {left.name for left in folder.iterdir()} == {"net.pth", registry.RECORD_FILE}


def test_a_server_that_cannot_go_on_is_asked_from_the_start(
    published: WeightsFile, server: Server, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    server.ranges, server.breaks_after = False, 600_000
    with pytest.raises(WeightsError):
        fetch(published)
    server.breaks_after = None
    assert fetch(published).read_bytes() == net.read_bytes()


def test_a_server_that_always_breaks_at_the_same_place_ends_the_attempts(published: WeightsFile, server: Server) -> None:
    server.ranges, server.breaks_after = False, 600_000
    with pytest.raises(WeightsError, match="cannot fetch net"):
        fetch(published)
    assert len(server.asked) <= 2 * fetching.ATTEMPTS


def test_google_drive_is_asked_by_id_and_its_refusal_told_in_one_line(
    entry: WeightsFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(**arguments: str) -> None:
        asked.append(arguments["id"])
        raise FileURLRetrievalError("Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file\n")

    monkeypatch.setattr(fetching.gdown, "download", refuse)
    with pytest.raises(WeightsError, match=r"file url: Too many users .*download https://drive\.google\.com/file/d/1abc/view") as caught:
        fetch(replace(entry, url=None, drive_id="1abc"))
    assert "\n" not in str(caught.value)
    assert asked == ["1abc"]


def test_a_server_that_is_gone_is_told_at_once(entry: WeightsFile, folder: Path) -> None:
    began = time.monotonic()
    with pytest.raises(WeightsError, match=r"cannot fetch net \(127\.0\.0\.1 cannot be reached") as caught:
        fetch(entry)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5.0


def test_a_folder_that_cannot_be_made_is_told(published: WeightsFile, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(WeightsError, match=r"cannot write '.*net\.pth' .*SFTRACK_WEIGHTS names another folder"):
        fetch(published)


def test_nothing_is_printed_where_nobody_watches(published: WeightsFile, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(published)
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal(
    published: WeightsFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch(published)
    captured = capsys.readouterr()
    assert "net.pth: " in captured.err
    assert captured.out == ""
