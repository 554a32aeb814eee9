from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from quantvggt.packages import FOLDERS
from service.settings import PREFIX, load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def stages() -> dict[str, list[str]]:
    """Instructions by the name of their stage, each on one line, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        if line:
            found[name].append(line)
    return found


def lineage(stage: str) -> list[str]:
    """Instructions of `stage` and of the stages that it is made from."""
    own = stages()[stage]
    parent = own[0].split()[1]
    return [*(lineage(parent) if parent in stages() else []), *own]


def environment(stage: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    for line in lineage(stage):
        if line.startswith("ENV "):
            variables |= dict(pair.split("=", 1) for pair in line.removeprefix("ENV ").split())
    return variables


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    finished = subprocess.run((str(linter), str(DOCKERFILE)), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_it_needs_no_newer_builder_than_distributions_have() -> None:
    text = DOCKERFILE.read_text()
    assert "# syntax=" not in text
    assert "<<" not in text


@pytest.mark.parametrize("stage", ["service", "quantizer"])
def test_an_image_runs_as_nobody_in_particular(stage: str) -> None:
    users = [line for line in lineage(stage) if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]


@pytest.mark.parametrize("stage", ["service", "quantizer"])
def test_an_image_holds_no_compiler_and_asks_no_registry(stage: str) -> None:
    runs = [line for line in lineage(stage) if line.startswith("RUN ")]
    assert not re.search(r"apt-get|g\+\+|nvcc|pip|install\.sh|secret", " ".join(runs))


def test_what_pip_downloads_is_kept_where_it_looks_for_it() -> None:
    installing = [
        (stage, line)
        for stage, lines in stages().items()
        for line in lines
        if " ./install.sh " in line
    ]
    assert installing
    for stage, line in installing:
        assert re.findall(r"--mount=type=cache,target=(\S+)", line) == [
            environment(stage)["PIP_CACHE_DIR"]
        ]


def test_an_image_with_more_than_the_default_lacks_nothing_that_the_default_has() -> None:
    (default,) = [
        line.removeprefix("ARG EXTRAS=") for line in stages()[""] if line.startswith("ARG EXTRAS=")
    ]
    for text in (
        ROOT / "k8s" / "README.md",
        ROOT / "k8s" / "overlays" / "ray" / "kustomization.yaml",
    ):
        (named,) = re.findall(r"--build-arg EXTRAS=([\w,]+)", text.read_text())
        assert set(named.split(",")) == {*default.split(","), "ray"}


def test_the_service_holds_no_weights_and_nothing_of_the_offline_side() -> None:
    copied = [
        line.split()[1]
        for line in lineage("service")
        if line.startswith("COPY ") and "--from" not in line
    ]
    model = [f"model/{path.name}" for path in (ROOT / "model").iterdir() if list(path.glob("*.py"))]
    assert sorted(copied) == sorted(
        ["LICENSE", "kernels", "model/*.py", *model, "quantvggt", "refinement", "service"]
    )
    assert not [path for name in copied for path in ROOT.glob(f"{name}/**/*.safetensors")]


def test_the_quantizer_holds_all_that_the_offline_side_imports() -> None:
    copied = [
        line.split()[1]
        for line in lineage("quantizer")
        if line.startswith("COPY ") and "--from" not in line
    ]
    assert {*FOLDERS} - {"service"} < {*copied}


def test_every_file_that_is_copied_gets_past_dockerignore() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    for instructions in stages().values():
        for line in instructions:
            if not line.startswith("COPY ") or "--from" in line:
                continue
            for source in line.split()[1:-1]:
                assert {source, source.partition("/")[0]} & allowed
                assert list(ROOT.glob(source)), source


def test_the_variables_of_the_image_are_settings_that_the_service_takes() -> None:
    settings = load_settings({}, environment("service"))
    assert (settings.server.host, str(settings.storage.data_dir)) == ("0.0.0.0", "/data")


def test_health_is_asked_of_a_route_and_port_that_exist() -> None:
    (check,) = [line for line in lineage("service") if line.startswith("HEALTHCHECK")]
    assert "/readyz" in check
    assert f"{PREFIX}PORT" in check
    (exposed,) = [line for line in lineage("service") if line.startswith("EXPOSE")]
    assert exposed == f"EXPOSE {environment('service')['QUANTVGGT_PORT']}"


def test_every_architecture_is_compiled_in_the_variant_for_gpus() -> None:
    (build,) = [line for line in stages()["kernels-cuda"] if "kernels.cuda" in line]
    assert build.endswith("-m kernels.cuda build")  # without names: all of kernels.cuda.targets
    assert (
        environment("service")["QUANTVGGT_KERNEL_CACHE"]
        == environment("kernels-cuda")["QUANTVGGT_KERNEL_CACHE"]
    )
