from __future__ import annotations

from tests.service.pictures import encode, form, make_picture
from tests.service.running import Serve, wait_until

EXIF_ORIENTATION = 0x0112


def test_only_the_newest_reconstructions_are_kept(serve: Serve) -> None:
    service = serve(keep=2)
    ids = [
        service.client.post("/reconstruct", files=form(encode(make_picture(seed=i)))).json()["id"]
        for i in range(3)
    ]
    # after the last one's end is told
    wait_until(lambda: len(list((service.data_dir / "results").iterdir())) == 2)
    assert [service.client.get(f"/reconstructions/{id}").status_code for id in ids] == [
        404,
        200,
        200,
    ]
