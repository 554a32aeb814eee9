from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from service.client import Client, ServiceError
from service.result.document import ReconstructionDocument
from tests.service.inputs.remote.origin import Origin, plain
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=2)


@pytest.fixture
def client(service: Running) -> Client:
    client = Client(f"http://127.0.0.1:{service.port}")
    client.wait_until_ready(30)
    return client


def test_a_reconstruction_is_downloaded_as_a_folder_with_links_of_its_own(client: Client, tmp_path: Path) -> None:
    pictures = [tmp_path / 'with "quotes" and ü.png', tmp_path / "b.png"]
    for seed, path in enumerate(pictures):
        path.write_bytes(encode(make_picture(seed=seed)))
    out = tmp_path / "out"
    document = client.download(client.reconstruct(pictures, {"mode": "pad"}), out)
    assert document.mode == "pad"
    assert document.pictures[0].filename == "with %22quotes%22 and ü.png"
    assert ReconstructionDocument.model_validate_json((out / "result.json").read_bytes()) == document
    links = {link for name, link in document.links.items() if link is not None and name != "events"} - {
        "everything.zip"
    }
    for picture in document.pictures:
        links |= {*picture.depth.links.values(), *picture.links.values()}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == links


def test_chosen_outputs_are_all_that_is_fetched(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    client.download(client.reconstruct([tmp_path / "a.png"], {}), tmp_path / "out", ["scene.glb", "depth/0.exr"])
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"result.json", "scene.glb", "depth/0.exr"}


def test_progress_is_reported_and_the_same_key_gives_the_same_reconstruction(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_picture(seed=5)))
    seen: list[tuple[str, float]] = []
    ids = set()
    for _ in range(2):
        id = client.submit([tmp_path / "a.png"], {}, "the same key")
        client.follow(id, lambda stage, share: seen.append((stage, share)))
        ids.add(id)
    assert len(ids) == 1
    assert "aggregator" in {stage for stage, _ in seen}


def test_a_url_is_left_to_the_service_to_fetch(serve: Serve, certificates: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    origin = Origin(certificates, answers={"/b.png": plain(encode(make_picture(seed=1)))})
    fetching = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    client = Client(f"http://127.0.0.1:{fetching.port}")
    document = client.reconstruct([origin.url("/b.png"), tmp_path / "a.png"], {})
    origin.stop()
    assert [picture.filename for picture in document.pictures] == ["b.png", "a.png"]


def test_the_services_own_words_are_passed_on(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(ServiceError, match=r"a\.txt is not a JPEG, PNG, WebP or HEIC picture"):
        client.reconstruct([tmp_path / "a.txt"], {})


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 can't be reached"):
        Client("http://127.0.0.1:9").wait_until_ready(0)


@pytest.mark.parametrize("server", ["", "127.0.0.1:8000", "ftp://x", "file:///etc/passwd", "http://"])
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(ServiceError, match="not an address"):
        Client(server)
