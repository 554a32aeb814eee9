from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import FIELDS, GROUPS, Settings, SettingsError, fields, load_settings, types


def test_defaults_need_only_an_artifact() -> None:
    settings = load_settings({"artifact": "a"}, {})
    assert (settings.inference.artifact, settings.server.host, settings.limits.mode) == (Path("a"), "127.0.0.1", "fit")


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
    settings = load_settings({"artifact": "a", "engine": "ray", "device": "cuda", "replicas": "4"}, {})
    assert (settings.inference.device, settings.cluster.replicas, settings.cluster.min_replicas) == ("cuda", 4, None)


def test_environment_variables_are_read_and_flags_win_over_them() -> None:
    environ = {"VGGT_ARTIFACT": "a", "VGGT_PORT": "1234", "VGGT_MAX_IMAGES": "7", "HOME": "/"}
    settings = load_settings({"port": "99"}, environ)
    assert (settings.inference.artifact, settings.server.port, settings.limits.max_images) == (Path("a"), 99, 7)


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        pytest.param({}, {}, ["--artifact", "VGGT_ARTIFACT"], id="missing artifact"),
        pytest.param({}, {"VGGT_PROT": "1"}, ["VGGT_PROT", "'1'", "did you mean VGGT_PORT"], id="misspelt variable"),
        pytest.param({}, {"VGGT_PORT": "http"}, ["VGGT_PORT=http"], id="a port that is no number"),
        pytest.param({}, {"VGGT_PORT": ""}, ["VGGT_PORT", "empty"], id="an empty variable"),
        pytest.param({"port": "70000"}, {"VGGT_PORT": "1"}, ["--port 70000"], id="a port out of range"),
        pytest.param({}, {"VGGT_MODE": "stretch"}, ["VGGT_MODE=stretch", "fit"], id="an unknown mode"),
        pytest.param({"max_images": "0"}, {}, ["--max-images 0"], id="no pictures at all"),
        pytest.param({"device": "gpu"}, {}, ["--device gpu", "torch device"], id="an unknown device"),
        pytest.param(
            {"database": "postgresql://h/d"}, {}, ["share a database", "object_store"], id="a database without a store"
        ),
        pytest.param({"object_store": "s3://b"}, {}, ["object_store", "database"], id="a store without a database"),
        pytest.param(
            {"object_store": "s3://b", "database_file": "f"},
            {"VGGT_DATABASE": "postgresql://h/d"},
            ["both database"],
            id="two databases",
        ),
        pytest.param({"lease": "0"}, {}, ["--lease 0"], id="no lease"),
        pytest.param({"max_pixels": "1000000000"}, {}, ["--max-pixels"], id="more pixels than Pillow opens"),
        pytest.param({"replicas": "2"}, {}, ["--replicas 2", "--engine ray"], id="replicas in one process"),
        pytest.param(
            {"engine": "ray", "min_replicas": "3"}, {"VGGT_REPLICAS": "2"}, ["at most 2"], id="least over most"
        ),
        pytest.param({"engine": "ray", "device": "cuda:1"}, {}, ["use cuda"], id="another replica's GPU"),
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
        load_settings(shared, {"VGGT_DATABASE": "postgresql://recon:geheim@db/jobs?sslmode=require"}),
    ):
        url = settings.storage.shared_database()
        assert url is not None
        assert (url.drivername, url.host, url.database) == ("postgresql+psycopg", "db", "jobs")
        assert url.password == "geheim"
        assert "geheim" not in f"{settings!r} {url!r}"
    assert load_settings({"artifact": "a"}, {}).storage.shared_database() is None


@pytest.mark.parametrize("address", ["geheim", "mysql://u:geheim@h/d", "postgresql+asyncpg://u:geheim@h/d", ""])
def test_an_address_that_is_none_is_refused_without_telling_it(address: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(address)
    for given in ({"database": address or " "}, {"database_file": str(tmp_path / "url")}):
        settings = load_settings({"artifact": "a", "object_store": "s3://b", **given}, {})
        with pytest.raises(SettingsError) as caught:
            settings.storage.shared_database()
        assert "postgresql://" in str(caught.value)
        assert "geheim" not in str(caught.value)


def test_a_file_of_the_database_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = load_settings({"artifact": "a", "object_store": "s3://b", "database_file": str(tmp_path / "none")}, {})
    with pytest.raises(SettingsError, match="none"):
        settings.storage.shared_database()
