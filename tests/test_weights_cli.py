"""`sftrack weights ...` as a user types it: one line per thing, exit code 2 for what the user can mend."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from sftrack.weights import registry
from sftrack.weights.checkpoints import read_checkpoint, structure_of
from sftrack.weights.registry import WeightsFile
from tests.conftest import Run, runner

Weights = Callable[..., Run]
GONE = "http://127.0.0.1:9"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Weights:
    """Run `sftrack weights ARGS` with an empty folder of weights and two entries, `a` and `b`, of equal networks."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "weights"))
    structure = structure_of(nn.Linear(3, 2).state_dict())
    entries = {
        "a": WeightsFile("a", "a.pth", "MIT", "https://example.org", presets=("tiny",), url=f"{GONE}/a.pth", structure=structure),
        "b": WeightsFile("b", "b.pth.tar", "GPL", "https://example.org", presets=("tiny",), url=f"{GONE}/b", structure=structure),
    }
    monkeypatch.setattr(registry, "entries", lambda: entries)

    return runner("weights", capfd)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"state_dict": nn.Linear(3, 2).state_dict()}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_list_shows_what_is_here_and_where_the_rest_is_published(weights: Weights, net: Path) -> None:
    weights("add", net, "--name", "a")
    run = weights("list")
    assert run.code == 0
    _head, first, second, folder = run.out.splitlines()
    assert first.split() == ["a", "yes", "0.0", "tiny", "MIT", f"{GONE}/a.pth"]
    assert second.split() == ["b", "no", "?", "tiny", "GPL", f"{GONE}/b"]
    assert folder == f"folder: {registry.folder()}"


def test_a_file_that_fits_two_entries_needs_a_name(weights: Weights, net: Path) -> None:
    run = weights("add", net)
    assert run.code == 2
    assert "its tensors are those of a or b); say so with --name, one of a, b" in run.error
    assert weights("add", net, "--name", "b").out == f"b: {registry.folder() / 'b.pth.tar'}\n"
    assert registry.available("b")


def test_a_file_with_the_registered_name_is_recognised(weights: Weights, net: Path) -> None:
    assert weights("add", net.rename(net.with_name("b.pth.tar"))).out.startswith("b: ")


def test_a_file_of_another_network_is_not_taken(weights: Weights, tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "a.pth")
    assert "expected the weights of a, " in weights("add", tmp_path / "a.pth").error
    assert "neither its name nor its tensors are registered" in weights("add", (tmp_path / "a.pth").rename(tmp_path / "c.pth")).error
    assert not registry.available("a")


def test_verify_says_how_each_file_was_checked_and_finds_the_changed_one(weights: Weights, net: Path) -> None:
    assert "no weights in" in weights("verify").out
    for name in "ab":
        weights("add", net, "--name", name)
    run = weights("verify")
    assert run.code == 0
    assert [line.split(" as ")[1].split(",")[0] for line in run.out.splitlines()] == ["on first use"] * 2
    torch.save(nn.Linear(3, 2).state_dict(), registry.folder() / "a.pth")
    run = weights("verify")
    assert run.code == 2
    assert "a.pth' as it was on first use" in run.error
    assert run.out.startswith("b: ")


def test_verify_of_what_is_missing_names_the_way_to_get_it(weights: Weights) -> None:
    run = weights("verify", "a")
    assert run.code == 2
    assert "sftrack weights fetch a" in run.error


def test_fetch_tries_everything_that_was_asked_for_and_says_what_is_to_be_done(weights: Weights, net: Path) -> None:
    run = weights("fetch", "--preset", "tiny")
    errors = [line for line in run.err.splitlines() if line.startswith("error: ")]
    assert run.code == 2
    assert [line.split(" (")[0] for line in errors] == ["error: cannot fetch a", "error: cannot fetch b"]
    assert all("127.0.0.1 cannot be reached" in line for line in errors)
    assert all("add FILE --name" in line for line in errors)
    assert "licence: MIT" in run.err
    weights("add", net, "--name", "a")
    again = weights("fetch", "a")
    assert (again.code, again.err) == (0, "")
    assert again.out.endswith("(was here)\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("fetch",), "expected names of weights to fetch"),
        (("fetch", "c"), "expected weights out of a, b, got 'c'"),
        (("fetch", "--preset", "huge"), "expected a preset that needs weights (tiny), got 'huge'"),
        (("verify", "c"), "expected weights out of a, b, got 'c'"),
        (("convert", "none.pth"), "expected a weights file at 'none.pth'"),
        (("add", "none.pth"), "expected a weights file at 'none.pth'"),
        (("add", "https://example.org/a.pth"), "expected a path on this machine, got the address 'https://example.org/a.pth'"),
        (("add", ""), "argument FILE: expected a path, got an empty text"),
        (("convert", "~/none.pth"), f"expected a weights file at '{Path.home()}/none.pth'"),
        (("convert", "none.pth", "--out", ""), "argument --out: expected a path, got an empty text"),
        (("burn",), "invalid choice: 'burn'"),
        ((), "ACTION"),
    ],
)
def test_mistakes_are_told_in_one_line(weights: Weights, args: tuple[str, ...], said: str) -> None:
    run = weights(*args)
    assert run.code == 2
    assert said in run.error


def test_convert_writes_the_same_tensors_and_where_they_are_from(weights: Weights, net: Path) -> None:
    run = weights("convert", net)
    assert run.out == f"{net.with_name('model.safetensors')}\n"
    with safe_open(run.out.strip(), framework="pt") as stored:
        metadata = stored.metadata()
    assert metadata["source"] == "model.pth"
    assert metadata["source_sha256"] == registry.sha256_of(net)
    assert metadata["network"] == "a or b"
    converted, original = read_checkpoint(Path(run.out.strip())).tensors, read_checkpoint(net).tensors
    assert converted.keys() == original.keys()
    assert all(torch.equal(converted[name], original[name]) for name in original)


def test_convert_keeps_what_is_there_and_writes_where_it_is_told(weights: Weights, net: Path, tmp_path: Path) -> None:
    weights("convert", net)
    assert "model.safetensors' exists; remove it or give another one with --out" in weights("convert", net).error
    assert weights("convert", net, "--out", tmp_path / "x.safetensors").code == 0
    assert "cannot write" in weights("convert", net, "--out", tmp_path / "none" / "x.safetensors").error


def test_convert_stores_tensors_that_share_memory(weights: Weights, tmp_path: Path) -> None:
    weight = torch.rand(4, 4)
    torch.save({"a": weight, "b": weight.T, "c": weight[1:]}, tmp_path / "tied.pth")
    tensors = read_checkpoint(Path(weights("convert", tmp_path / "tied.pth").out.strip())).tensors
    assert torch.equal(tensors["b"], weight.T)
    assert torch.equal(tensors["c"], weight[1:])


def test_constants_of_the_constructor_survive_the_conversion(weights: Weights, tmp_path: Path) -> None:
    class Constructor:
        pass

    constructor = Constructor()
    constructor.kwds = {"filter_size": 4, "gauss_sigma": 0.9}  # type: ignore[attr-defined]
    Constructor.__qualname__ = Constructor.__name__
    globals()["Constructor"] = Constructor
    torch.save({"net": nn.Linear(3, 2).state_dict(), "constructor": constructor}, tmp_path / "net.pth.tar")
    path = Path(weights("convert", tmp_path / "net.pth.tar").out.strip())
    assert path.name == "net.safetensors"
    assert read_checkpoint(path).constructor == {"filter_size": 4, "gauss_sigma": 0.9}


def test_a_converted_file_is_added_under_its_own_name(weights: Weights, net: Path) -> None:
    path = Path(weights("convert", net).out.strip())
    assert weights("add", path, "--name", "b").out == f"b: {registry.folder() / 'b.safetensors'}\n"
    assert "converted" in weights("list").out
    assert registry.locate("b") == registry.folder() / "b.safetensors"
