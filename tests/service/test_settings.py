from __future__ import annotations

from pathlib import Path

import pytest

from model.network.keys import USUAL_BUDGET
from service.settings import (
    FIELDS,
    GROUPS,
    InferenceSettings,
    Settings,
    SettingsError,
    fields,
    load_settings,
    types,
)


def test_defaults_need_only_an_artifact() -> None:
    settings = load_settings({"artifact": "a"}, {})
    assert (settings.inference.artifact, settings.server.host, settings.limits.mode) == (
        Path("a"),
        "127.0.0.1",
        "fit",
    )


def test_every_setting_is_in_one_group_of_ten_at_most() -> None:
    sizes = [len(fields(group)) for group in GROUPS.values()]
    assert max(sizes) <= 10
    assert sum(sizes) == len(FIELDS)
    assert set(types()) == set(FIELDS)


def test_single_settings_make_the_same_groups_as_flags() -> None:
    assert Settings.of(artifact=Path("a"), port=99, keep=3) == load_settings(
        {"artifact": "a", "port": "99", "keep": "3"}, {}
    )
    with pytest.raises(TypeError, match="no settings prot"):
        Settings.of(artifact=Path("a"), prot=99)


def test_a_device_that_this_machine_lacks_may_be_that_of_replicas() -> None:
    settings = load_settings(
        {"artifact": "a", "engine": "ray", "device": "cuda", "replicas": "4"}, {}
    )
    assert (
        settings.inference.device,
        settings.cluster.replicas,
        settings.cluster.min_replicas,
    ) == ("cuda", 4, None)


def test_environment_variables_are_read_and_flags_win_over_them() -> None:
    environ = {
        "QUANTVGGT_ARTIFACT": "a",
        "QUANTVGGT_PORT": "1234",
        "QUANTVGGT_MAX_IMAGES": "7",
        "HOME": "/",
    }
    settings = load_settings({"port": "99"}, environ)
    assert (settings.inference.artifact, settings.server.port, settings.limits.max_images) == (
        Path("a"),
        99,
        7,
    )


def test_an_old_name_still_works_with_a_warning_even_over_the_defaults_of_an_image(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = load_settings(
        {"artifact": "a"}, {"VGGT_PORT": "1", "QUANTVGGT_PORT": "8000", "QUANTVGGT_KEEP": "8"}
    )
    assert (settings.server.port, settings.storage.keep) == (1, 8)
    (warning,) = caplog.messages
    assert warning.startswith("VGGT_PORT is now called QUANTVGGT_PORT")
    with pytest.raises(SettingsError, match="VGGT_KEPP='7'; did you mean QUANTVGGT_KEEP"):
        load_settings({"artifact": "a"}, {"VGGT_KEPP": "7"})


def test_variables_of_others_with_our_prefix_are_no_settings() -> None:
    of_kubernetes = {
        "QUANTVGGT_SERVICE_HOST": "10.0.0.1",
        "QUANTVGGT_SERVICE_PORT_HTTP": "80",
        "QUANTVGGT_PORT": "tcp://10.0.0.1:80",
        "QUANTVGGT_PORT_80_TCP": "tcp://10.0.0.1:80",
        "QUANTVGGT_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    of_other_modules = {
        "QUANTVGGT_API_KEY": "k",
        "QUANTVGGT_KERNELS": "auto",
        "QUANTVGGT_KERNEL_CACHE": "/tmp",
    }
    assert load_settings({"artifact": "a"}, of_kubernetes | of_other_modules).server.port == 8000


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        pytest.param({}, {}, ["--artifact", "QUANTVGGT_ARTIFACT"], id="missing artifact"),
        pytest.param(
            {},
            {"QUANTVGGT_PROT": "1"},
            ["QUANTVGGT_PROT", "'1'", "did you mean QUANTVGGT_PORT"],
            id="misspelt variable",
        ),
        pytest.param(
            {}, {"QUANTVGGT_PORT": "http"}, ["QUANTVGGT_PORT=http"], id="a port that is no number"
        ),
        pytest.param(
            {}, {"QUANTVGGT_PORT": ""}, ["QUANTVGGT_PORT", "empty"], id="an empty variable"
        ),
        pytest.param(
            {"port": "70000"}, {"QUANTVGGT_PORT": "1"}, ["--port 70000"], id="a port out of range"
        ),
        pytest.param(
            {},
            {"QUANTVGGT_MODE": "stretch"},
            ["QUANTVGGT_MODE=stretch", "fit"],
            id="an unknown mode",
        ),
        pytest.param({"max_images": "0"}, {}, ["--max-images 0"], id="no pictures at all"),
        pytest.param(
            {"device": "gpu"}, {}, ["--device gpu", "torch device"], id="an unknown device"
        ),
        pytest.param(
            {"database": "postgresql://h/d"},
            {},
            ["share a database", "object_store"],
            id="a database without a store",
        ),
        pytest.param(
            {"object_store": "s3://b"},
            {},
            ["object_store", "database"],
            id="a store without a database",
        ),
        pytest.param(
            {"object_store": "s3://b", "database_file": "f"},
            {"QUANTVGGT_DATABASE": "postgresql://h/d"},
            ["both database"],
            id="two databases",
        ),
        pytest.param({"lease": "0"}, {}, ["--lease 0"], id="no lease"),
        pytest.param(
            {"max_pixels": "1000000000"}, {}, ["--max-pixels"], id="more pixels than Pillow opens"
        ),
        pytest.param(
            {"replicas": "2"}, {}, ["--replicas 2", "--engine ray"], id="replicas in one process"
        ),
        pytest.param(
            {"engine": "ray", "min_replicas": "3"},
            {"QUANTVGGT_REPLICAS": "2"},
            ["at most 2"],
            id="least over most",
        ),
        pytest.param(
            {"engine": "ray", "device": "cuda:1"}, {}, ["use cuda"], id="another replica's GPU"
        ),
    ],
)
def test_a_bad_setting_is_refused_naming_key_and_value(
    flags: dict[str, str], environ: dict[str, str], words: list[str]
) -> None:
    if "artifact" not in words[0]:
        flags = {"artifact": "a", **flags}
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, environ)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_database_may_stand_in_a_file_as_secrets_do(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgres://recon:geheim@db/jobs?sslmode=require\n")
    shared = {"artifact": "a", "object_store": "s3://b"}
    for settings in (
        load_settings({**shared, "database_file": str(tmp_path / "url")}, {}),
        load_settings(
            shared, {"QUANTVGGT_DATABASE": "postgresql://recon:geheim@db/jobs?sslmode=require"}
        ),
    ):
        url = settings.storage.shared_database()
        assert url is not None
        assert (url.drivername, url.host, url.database) == ("postgresql+psycopg", "db", "jobs")
        assert url.password == "geheim"
        assert "geheim" not in f"{settings!r} {url!r}"
    assert load_settings({"artifact": "a"}, {}).storage.shared_database() is None


@pytest.mark.parametrize(
    "address", ["geheim", "mysql://u:geheim@h/d", "postgresql+asyncpg://u:geheim@h/d", ""]
)
def test_an_address_that_is_none_is_refused_without_telling_it(
    address: str, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(address)
    for given in ({"database": address or " "}, {"database_file": str(tmp_path / "url")}):
        settings = load_settings({"artifact": "a", "object_store": "s3://b", **given}, {})
        with pytest.raises(SettingsError) as caught:
            settings.storage.shared_database()
        assert "postgresql://" in str(caught.value)
        assert "geheim" not in str(caught.value)


def test_a_file_of_the_database_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = load_settings(
        {"artifact": "a", "object_store": "s3://b", "database_file": str(tmp_path / "none")}, {}
    )
    with pytest.raises(SettingsError, match="none"):
        settings.storage.shared_database()


def test_the_budget_of_keys_is_the_networks_own() -> None:
    assert InferenceSettings(artifact=Path()).attention_keys == USUAL_BUDGET


def test_several_models_take_the_place_of_an_artifact() -> None:
    given = {"model": ["a=/x/one", "/x/two"]}
    settings = load_settings(given, {"QUANTVGGT_ARTIFACT": "/usual"})
    assert settings.artifacts == {"a": Path("/x/one"), "two": Path("/x/two")}
    assert settings.inference.artifact == Path("/x/one")
    assert settings.artifacts == load_settings({}, {"QUANTVGGT_MODEL": "a=/x/one,/x/two"}).artifacts
    one = load_settings({"model": ["/x=y/one"]}, {})
    assert list(one.artifacts.values()) == [Path("/x=y/one")]
    alone = load_settings({"artifact": "/x/one"}, {"QUANTVGGT_MODEL": "a=/x/two"})
    assert alone.artifacts == {"one": Path("/x/one")}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"model": ["a=x", "a=y"]}, "--model a=x --model a=y: two models are called a"),
        ({"model": ["a b=x"]}, "'a b=x' is not name=folder with a name of up to 64"),
        ({"model": ["a="]}, "'a=' is not name=folder"),
        ({"model": ["a=x"], "artifact": "x"}, "both --artifact and --model are given"),
        ({"model": ["a=x", "b=y"], "engine": "ray"}, "--engine ray serves one model"),
        ({"model": ["a=x"], "model_memory": "5"}, "it is for several models"),
    ],
)
def test_models_that_can_not_be_served_are_refused(given: dict, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(given, {})
    assert why in str(refused.value)
