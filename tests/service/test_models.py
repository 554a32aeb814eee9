"""Several models in one service: chosen, listed, loaded in turn, kept with their jobs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from service.inference.engine import Engine
from service.inference.models import Models
from service.settings import Settings, SettingsError
from tests.model.families.networks import TINY
from tests.service.pictures import encode, form, make_picture
from tests.service.replicas import Cluster, Replica
from tests.service.running import Gate, Running, Serve, problem, wait_until
from tests.service.servers import ObjectServer, Postgres

PICTURES = [encode(make_picture(120, 90, seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Depth Anything 3."""
    path = tmp_path_factory.mktemp("model") / "any-view"
    licence = {"weights_licence": "CC-BY-NC-4.0", "commercial_use": False}
    save(quantize_network(TINY["any-view"](), RECIPES["rtn"]), path, provenance=licence)
    return path


@pytest.fixture(scope="module")
def both(artifact: Path, other: Path) -> tuple[str, ...]:
    return f"rooms={artifact}", f"wild={other}"


@pytest.fixture(scope="module")
def service(serve: Serve, both: tuple[str, ...]) -> Running:
    return serve(model=both)


def reconstruct(service: Running, model: str | None = None, **headers: str) -> dict:
    options = {} if model is None else {"model": model}
    answer = service.client.post(
        "/reconstruct", files=form(*PICTURES), data=options, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def loaded(service: Running) -> dict[str, bool]:
    models = service.client.get("/models").json()["models"]
    return {model["name"]: model["loaded"] for model in models}


def test_a_request_names_its_model_and_gets_the_first_where_it_names_none(
    service: Running,
) -> None:
    usual, wild = reconstruct(service), reconstruct(service, "wild")
    assert (usual["model"]["family"], usual["options"]["model"]) == ("vggt", "rooms")
    assert (wild["model"]["family"], wild["options"]["model"]) == ("depth_anything_3", "wild")
    assert wild["pictures"][0]["original_size"] == {"height": 90, "width": 120}
    assert service.metric('quantvggt_model_seconds_total{model="wild"}') > 0
    assert service.metric('quantvggt_model_bytes{model="wild"}') > 0


def test_an_earlier_result_is_found_again_for_the_same_model_only(service: Running) -> None:
    first = reconstruct(service, "wild")
    assert reconstruct(service, "wild")["id"] == first["id"]
    assert reconstruct(service, "rooms")["id"] != first["id"]
    assert reconstruct(service, "rooms")["id"] == reconstruct(service)["id"]


def test_a_key_that_was_used_for_one_model_is_refused_for_another(service: Running) -> None:
    reconstruct(service, "rooms", **{"Idempotency-Key": "kitchen"})
    answer = service.client.post(
        "/reconstruct",
        files=form(*PICTURES),
        data={"model": "wild"},
        headers={"Idempotency-Key": "kitchen"},
    )
    problem(answer, 422, "idempotency-key-reused")


def test_an_unknown_model_is_refused_with_those_that_there_are(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=form(*PICTURES), data={"model": "../wild"})
    detail = problem(answer, 422, "invalid-option")["detail"]
    assert detail == "There is no model '../wild'; the models are rooms, wild."
    problem(service.client.get("/capabilities?model=x"), 422, "invalid-option")


def test_the_models_are_listed_with_what_decides_between_them(service: Running) -> None:
    document = service.client.get("/models").json()
    assert document["memory_limit"] is None
    rooms, wild = document["models"]
    assert (rooms["name"], rooms["usual"], rooms["loaded"]) == ("rooms", True, True)
    assert (wild["name"], wild["usual"], wild["loaded"]) == ("wild", False, True)
    assert wild["model"]["family"] == "depth_anything_3"
    assert wild["model"]["weights_licence"] == "CC-BY-NC-4.0"
    assert wild["model"]["commercial_use"] is False
    assert rooms["memory_bytes"] > 100_000
    assert rooms["model"]["precision"]
    assert service.client.get("/capabilities").json()["model"]["family"] == "vggt"
    told = service.client.get("/capabilities", params={"model": "wild"}).json()
    assert told["model"]["family"] == "depth_anything_3"
    assert told["network"]["image_size"] == 56


def test_a_dry_run_predicts_the_cost_of_the_model_that_was_named(service: Running) -> None:
    def predicted(model: str) -> dict:
        options = {"model": model, "dry_run": "true"}
        return service.client.post("/reconstruct", files=form(*PICTURES), data=options).json()

    rooms, wild = predicted("rooms"), predicted("wild")
    assert rooms["network_size"] != wild["network_size"]
    assert rooms["predicted_seconds"] != wild["predicted_seconds"]


def test_one_model_stands_in_the_list_under_its_folders_name(serve: Serve, artifact: Path) -> None:
    service = serve()
    (only,) = service.client.get("/models").json()["models"]
    assert (only["name"], only["usual"], only["loaded"]) == (artifact.name, True, True)
    assert "model" not in reconstruct(service)["options"]


@pytest.fixture(scope="module")
def tight(serve: Serve, both: tuple[str, ...]) -> Running:
    """A service whose memory holds either model, not both."""
    models = Models.of(Settings.of(artifact=Path(both[0].partition("=")[2]), model=both), Engine)
    for engine in models.engines.values():
        engine.load()
    sizes = [engine.bytes for engine in models.engines.values()]
    return serve(model=both, model_memory=sum(sizes) - 1)


def test_the_model_that_was_unused_for_longest_makes_room(tight: Running) -> None:
    assert loaded(tight) == {"rooms": True, "wild": False}
    reconstruct(tight, "wild")
    assert loaded(tight) == {"rooms": False, "wild": True}
    assert tight.client.get("/readyz").status_code == 200
    loads = tight.metric('quantvggt_model_loads_total{model="rooms"}')
    reconstruct(tight, "rooms", **{"Cache-Control": "no-cache"})
    assert loaded(tight) == {"rooms": True, "wild": False}
    assert tight.metric('quantvggt_model_loads_total{model="rooms"}') == loads + 1
    assert tight.metric('quantvggt_model_bytes{model="wild"}') == 0


def test_an_answer_does_not_depend_on_whether_its_model_was_away(
    service: Running, tight: Running
) -> None:
    fresh = {"Cache-Control": "no-cache"}
    expected = reconstruct(service, "wild", **fresh)["pictures"][1]["extrinsic"]
    for model in ("rooms", "wild", "rooms"):
        again = reconstruct(tight, model, **fresh)
        if model == "wild":
            assert again["pictures"][1]["extrinsic"] == expected


def test_a_model_whose_files_went_away_is_told_and_the_others_go_on(
    serve: Serve, artifact: Path, other: Path, tight: Running, tmp_path: Path
) -> None:
    shutil.copytree(other, tmp_path / "wild")
    limit = tight.application.models.memory
    service = serve(model=(f"rooms={artifact}", f"wild={tmp_path / 'wild'}"), model_memory=limit)
    shutil.rmtree(tmp_path / "wild")
    answer = service.client.post("/reconstruct", files=form(*PICTURES), data={"model": "wild"})
    detail = problem(answer, 500, "model-unavailable")["detail"]
    assert detail.startswith("The model wild can't be loaded: ")
    assert reconstruct(service, "rooms")["model"]["family"] == "vggt"


@pytest.mark.slow
def test_a_job_accepted_by_one_replica_is_done_by_another_which_loads_its_model_for_it(
    artifact: Path,
    both: tuple[str, ...],
    tight: Running,
    tmp_path: Path,
    postgres: Postgres,
    object_server: ObjectServer,
) -> None:
    limit = tight.application.models.memory
    cluster = Cluster(artifact, tmp_path, postgres, object_server, model=both, model_memory=limit)

    def there(replica: Replica) -> list[str]:
        models = replica.client.get("/models").json()["models"]
        return [model["name"] for model in models if model["loaded"]]

    try:
        started = [cluster.start() for _ in range(2)]
        for replica in started:
            replica.wait_until_ready()
        cluster.hold()
        rooms = started[0].post(seed=0).json()["id"]
        busy = cluster.runner(rooms)
        wild = busy.post(seed=0, model="wild").json()["id"]
        runner = cluster.runner(wild)
        assert runner is not busy
        runner.wait_for_stage(wild, "aggregator")
        assert (there(busy), there(runner)) == (["rooms"], ["wild"])
        cluster.let_go()
        for id, family in ((rooms, "vggt"), (wild, "depth_anything_3")):
            found = [replica.wait_for_state(id, "succeeded", "failed") for replica in started]
            assert found[0] == found[1]
            assert found[0]["model"]["family"] == family
    finally:
        cluster.stop()


@pytest.mark.parametrize("served", ["the same models", "the other order", "without it"])
def test_a_job_keeps_its_model_over_a_restart(
    serve: Serve, both: tuple[str, ...], artifact: Path, tmp_path: Path, served: str
) -> None:
    first = serve(Gate, model=both, data_dir=tmp_path)
    answer = first.client.post(
        "/reconstruct",
        files=form(*PICTURES),
        headers={"Prefer": "respond-async"},
    )
    id = answer.json()["id"]
    wait_until(lambda: any(e.entered.is_set() for e in first.application.models.engines.values()))
    first.stop()
    models = {
        "the same models": both,
        "the other order": both[::-1],
        "without it": both[1:],
    }[served]
    again = serve(model=models, data_dir=tmp_path)
    if served == "without it":
        failed = again.wait_for_state(id, "failed")
        assert failed["problem"]["type"] == "/problems/model-unavailable"
        assert "the model rooms, which is not served any more" in failed["problem"]["detail"]
    else:
        end = again.wait_for_state(id, "succeeded")
        assert end["model"]["family"] == "vggt"


def test_each_model_must_allow_commercial_use_where_that_is_required(
    both: tuple[str, ...], artifact: Path
) -> None:
    settings = Settings.of(artifact=artifact, model=both[::-1], require_commercial=True)
    with pytest.raises(SettingsError, match=r"CC-BY-NC-4\.0, does not allow it"):
        Models.of(settings, Engine).check_licences()


def test_a_model_larger_than_all_may_be_is_refused_at_the_start(
    both: tuple[str, ...], artifact: Path
) -> None:
    settings = Settings.of(artifact=artifact, model=both, model_memory=1000)
    with pytest.raises(SettingsError, match="--model-memory 1000: the model rooms takes"):
        Models.of(settings, Engine).check_memory()
