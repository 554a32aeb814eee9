from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantvggt.command import main
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scene folders of two and one pictures, and two that hold none."""
    folder = tmp_path / "scenes"
    for scene, count in (("hall", 1), ("kitchen 2", 2)):
        (folder / scene).mkdir(parents=True)
        for number in range(count):
            picture = encode(make_picture(seed=number + len(scene)))
            (folder / scene / f"{number}.png").write_bytes(picture)
    (folder / "empty").mkdir()
    (folder / "@eaDir" / "IMG_1.jpg").mkdir(parents=True)
    (folder / "@eaDir" / "._IMG_2.jpg").write_bytes(b"")
    return folder


def command(service: Running, scenes: Path, out: Path, *more: str) -> list[str]:
    server = f"http://127.0.0.1:{service.port}"
    return ["batch", str(scenes), "--server", server, "--out", str(out), *more]


def pictures(folder: Path) -> list[str]:
    document = json.loads((folder / "result.json").read_text())
    return [picture["filename"] for picture in document["pictures"]]


def test_each_scene_folder_becomes_a_folder_with_its_result(
    service: Running, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = command(service, scenes, out, "--output", "points.ply", "-o", "mode=pad")
    assert main(arguments) == 0
    assert "2 of 2 scenes reconstructed" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["hall", "kitchen 2"]
    assert pictures(out / "kitchen 2") == ["0.png", "1.png"]
    assert (out / "hall" / "points.ply").stat().st_size > 1000
    document = json.loads((out / "hall" / "result.json").read_text())
    assert document["mode"] == "pad"
    assert main(arguments) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--json"]) == 0
    batch = json.loads(capsys.readouterr().out)
    assert [scene["state"] for scene in batch["scenes"]] == ["succeeded"] * 2


def test_a_scene_that_fails_is_named_and_the_next_run_does_it_alone(
    service: Running, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, broken = tmp_path / "out", scenes / "hall" / "0.png"
    fine = broken.read_bytes()
    broken.write_bytes(fine[:200])
    assert main(command(service, scenes, out)) == 1
    said = capsys.readouterr()
    assert "hall: 0.png can't be decoded" in said.err
    assert "1 of 2 scenes reconstructed" in said.out
    done = json.loads((out / "kitchen 2" / "result.json").read_text())["id"]
    assert main(command(service, scenes, out)) == 1  # nothing has changed
    again = json.loads((out / "kitchen 2" / "result.json").read_text())["id"]
    assert done == again
    broken.write_bytes(fine)  # other files are another batch
    assert main(command(service, scenes, out, "--overwrite")) == 0
    assert pictures(out / "hall") == ["0.png"]


def test_a_run_that_was_interrupted_goes_on_with_the_same_batch(
    service: Running, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantvggt.client import Client

    out = tmp_path / "out"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Client, "download", interrupted)
        assert main(command(service, scenes, out)) == 130
    id = json.loads((out / ".batch.json").read_text())["id"]
    before = service.client.get(f"/batches/{id}").json()
    assert main(command(service, scenes, out)) == 0
    assert service.client.get(f"/batches/{id}").json()["scenes"] == before["scenes"]
    links = {scene["name"]: scene["link"] for scene in before["scenes"]}
    document = json.loads((out / "hall" / "result.json").read_text())
    assert links["hall"].endswith(document["id"])


def test_a_folder_without_scene_folders_is_one_sentence(
    service: Running, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(service, scenes / "hall", tmp_path / "out")) == 2
    assert "use reconstruct for one scene" in capsys.readouterr().err
    assert main(command(service, scenes / "missing", tmp_path / "out")) == 2
    assert "no such folder" in capsys.readouterr().err
