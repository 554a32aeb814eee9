from __future__ import annotations

import errno
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file

from model import VGGT
from model.errors import CheckpointError
from model.files.checkpoint import load_checkpoint, resolve_checkpoint
from model.files.hub import HubLocation, fetch
from tests.model.files.fake_hub import GRANTED, REFUSED, FakeHub, ask, fake_hub

REPOSITORY = "someone/vggt-small"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(cache, monkeypatch) as running:
        yield running


@pytest.fixture
def files(net: VGGT) -> dict[str, bytes]:
    """A repository of a small network."""
    return {
        "README.md": b"weights",
        "config.json": json.dumps(net.config.to_dict()).encode(),
        "model.safetensors": save(net.state_dict()),
    }


def get(text: str, *, newest: bool = False) -> Path:
    location = HubLocation.parse(text)
    assert location is not None
    return fetch(location, newest=newest)


def refusal(text: str) -> str:
    """The one line that says why there are no weights."""
    with pytest.raises(CheckpointError) as caught:
        get(text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def nobody_listens() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def cut(net: VGGT) -> tuple[dict[str, bytes], str]:
    """A network's weights in two shards, and their index."""
    state = list(net.state_dict().items())
    shards = {
        f"model-0000{i}-of-00002.safetensors": dict(part)
        for i, part in ((1, state[:20]), (2, state[20:]))
    }
    index = {
        "metadata": {},
        "weight_map": {n: shard for shard, part in shards.items() for n in part},
    }
    return {shard: save(part) for shard, part in shards.items()}, json.dumps(index)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("facebook/VGGT-1B", HubLocation("facebook/VGGT-1B")),
        ("a/b@v1", HubLocation("a/b", "v1")),
        ("a/b:sub/c.pt", HubLocation("a/b", None, "sub/c.pt")),
        ("a/b@refs/pr/1:c.pt", HubLocation("a/b", "refs/pr/1", "c.pt")),
        ("weights.pt", None),
        ("folder/weights.pt", None),
        ("a/b/c", None),
        ("../b", None),
        ("/a/b", None),
        ("a/b c", None),
    ],
)
def test_a_repository_is_told_from_a_path(text: str, expected: HubLocation | None) -> None:
    assert HubLocation.parse(text) == expected
    assert expected is None or str(expected) == text


def test_a_repository_is_fetched_with_its_configuration(
    hub: FakeHub, files: dict[str, bytes], net: VGGT
) -> None:
    hub.files[REPOSITORY] = files
    loaded = load_checkpoint(REPOSITORY)
    assert loaded.config == net.config
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True)
    )
    assert not any("README" in request for request in hub.asked)


@pytest.mark.parametrize("name", ["weights.pt", "vggt_1B_commercial.pt", "run/final.safetensors"])
def test_the_only_weights_file_of_a_repository_is_taken(hub: FakeHub, name: str) -> None:
    hub.files[REPOSITORY] = {"README.md": b"", name: b"content"}
    assert get(REPOSITORY).read_bytes() == b"content"


def test_of_several_files_the_one_with_a_known_name_is_taken(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {
        "model_tracker_fixed_e30.pt": b"30",
        "model_tracker_fixed_e20.pt": b"20",
    }
    assert get(REPOSITORY).read_bytes() == b"20"


def test_of_several_unknown_files_one_has_to_be_named(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {"a.pt": b"a", "b.pt": b"b"}
    assert "several weights files (a.pt, b.pt)" in refusal(REPOSITORY)
    assert f"for example {REPOSITORY}:a.pt" in refusal(REPOSITORY)
    assert get(f"{REPOSITORY}:b.pt").read_bytes() == b"b"
    assert "several" in refusal(REPOSITORY), (
        "what was downloaded by name does not stand for the repository"
    )


def test_a_file_that_the_repository_lacks_is_named_with_those_it_has(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {"README.md": b"", "a.pt": b"a"}
    assert (
        refusal(f"{REPOSITORY}:c.pt") == f"{REPOSITORY} has no file c.pt; its weights files: a.pt"
    )


def test_a_repository_without_weights_is_named(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {"README.md": b""}
    assert refusal(REPOSITORY).startswith(f"{REPOSITORY} holds no weights")


def test_shards_are_fetched_by_their_index(
    hub: FakeHub, files: dict[str, bytes], net: VGGT
) -> None:
    shards, index = cut(net)
    hub.files[REPOSITORY] = {
        "config.json": files["config.json"],
        "model.safetensors.index.json": index.encode(),
        **shards,
    }
    loaded = load_checkpoint(REPOSITORY)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True)
    )


def test_a_missing_shard_is_fetched_again(hub: FakeHub, net: VGGT) -> None:
    shards, index = cut(net)
    hub.files[REPOSITORY] = {"model.safetensors.index.json": index.encode(), **shards}
    last = get(REPOSITORY).parent / max(shards)
    last.unlink()
    get(REPOSITORY)
    assert last.read_bytes() == shards[last.name]


def test_cached_files_are_used_without_a_question(hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.files[REPOSITORY] = files
    first = resolve_checkpoint(REPOSITORY)
    hub.asked.clear()
    assert resolve_checkpoint(REPOSITORY) == first
    assert not hub.asked


def test_the_newest_files_are_fetched_on_request(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {"model.pt": b"first"}
    get(REPOSITORY)
    hub.files[REPOSITORY] = {"model.safetensors": b"second"}
    assert get(REPOSITORY).read_bytes() == b"first"
    assert get(REPOSITORY, newest=True).read_bytes() == b"second"


@pytest.mark.parametrize("name", ["model.pt", "weights.pt"])
def test_cached_files_are_used_when_the_hub_is_gone(
    hub: FakeHub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files[REPOSITORY] = {name: b"content"}
    get(REPOSITORY)
    ask(nobody_listens(), monkeypatch)
    assert get(REPOSITORY).read_bytes() == b"content"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get(REPOSITORY, newest=True).read_bytes() == b"content"


def test_cached_files_that_leave_a_choice_are_listed_when_the_hub_is_gone(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files[REPOSITORY] = {"a.pt": b"a", "b.pt": b"b"}
    get(f"{REPOSITORY}:a.pt")
    get(f"{REPOSITORY}:b.pt")
    ask(nobody_listens(), monkeypatch)
    assert "several weights files (a.pt, b.pt)" in refusal(REPOSITORY)


def test_a_gated_repository_asks_for_a_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files[REPOSITORY] = {"model.pt": b"content"}
    hub.gated.add(REPOSITORY)
    assert refusal(REPOSITORY) == (
        f"{REPOSITORY} is gated: accept its terms at {hub.url}/{REPOSITORY}, "
        "then log in with `hf auth login` or set HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", REFUSED)
    assert "is gated, and the token in use may not read it" in refusal(REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", GRANTED)
    assert get(REPOSITORY).read_bytes() == b"content"


def test_an_unknown_repository_is_one_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{hub.url} has no repository someone/else, or one that is private" in refusal(
        "someone/else"
    )
    monkeypatch.setenv("HF_TOKEN", GRANTED)
    assert "or one that the token in use may not read: check the name" in refusal("someone/else")


def test_a_name_that_no_repository_can_have_is_one_sentence(hub: FakeHub) -> None:
    assert refusal("someone/a--b").startswith("no checkpoint at 'someone/a--b'")


def test_an_unknown_revision_is_one_sentence(hub: FakeHub) -> None:
    hub.files[REPOSITORY] = {"model.pt": b"content"}
    assert refusal(f"{REPOSITORY}@old") == f"{hub.url}/{REPOSITORY} has no revision old"
    assert get(f"{REPOSITORY}@main").read_bytes() == b"content"


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ask(nowhere := nobody_listens(), monkeypatch)
    message = refusal(REPOSITORY)
    assert message.startswith(
        f"{REPOSITORY} is not in the cache {cache}, and {nowhere} cannot be reached"
    )
    assert "refused" in message
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_does_not_answer_is_one_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    hub.silent = True
    assert f"{hub.url} cannot be reached (" in refusal(REPOSITORY)


def test_offline_mode_is_one_sentence(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to download it" in refusal(REPOSITORY)
    assert not hub.asked


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_hub_that_fails_is_one_sentence(hub: FakeHub, status: int) -> None:
    hub.status = status
    assert f"{hub.url} answered with status {status}" in refusal(REPOSITORY)


def test_a_token_that_the_hub_does_not_know_is_one_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", REFUSED)
    hub.status = 401
    assert refusal(REPOSITORY).startswith(f"{hub.url} does not know the token in use")


def test_files_that_the_disk_has_no_room_for_are_not_begun(hub: FakeHub, cache: Path) -> None:
    hub.files[REPOSITORY] = {"model.pt": b"content"}
    hub.sizes["model.pt"] = 10**18
    message = refusal(REPOSITORY)
    assert message.startswith(f"{REPOSITORY} takes 1000000000.0 GB and the disk of {cache} has")
    assert not any(request.startswith("GET") and "resolve" in request for request in hub.asked)


def test_a_disk_that_takes_no_more_is_one_sentence(hub: FakeHub, cache: Path) -> None:
    hub.files[REPOSITORY] = {"model.pt": bytes(10**7)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        message = refusal(REPOSITORY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message.startswith(
        f"{REPOSITORY} cannot be stored in the cache {cache} ({os.strerror(errno.EFBIG)})"
    )


def test_a_local_folder_goes_before_a_repository_of_its_name(
    hub: FakeHub, net: VGGT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPOSITORY).mkdir(parents=True)
    save_file(net.state_dict(), tmp_path / REPOSITORY / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint(REPOSITORY)[0].name == "mine.safetensors"
    assert not hub.asked
