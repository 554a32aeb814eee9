"""What the service adds to the bare network call: wall time of POST /reconstruct against
preprocessing and one pass.

    python -m benchmarks.service_overhead --artifact build/demo/artifact
        [--views 8] [--runs 15] [--pictures FOLDER]

Both run in this process on the same pictures, in turn, so that whatever else the machine does hits
both alike; on a machine that is busy with other work, trust the processor time and the quickest of
many runs. The service is asked over a loopback socket; results are not reused. Prints a table and
one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from pathlib import Path

import httpx
import torch

from benchmarks.served import served
from model.reconstruct import decode
from model.scene.preprocess import preprocess_images
from service.inference.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument(
        "--pictures", type=Path, default=Path(__file__).parents[1] / "service" / "samples" / "rooms"
    )
    options = parser.parse_args()
    paths = sorted(path for path in options.pictures.iterdir() if path.suffix in (".png", ".jpg"))
    if not paths:
        parser.error(f"--pictures {options.pictures}: no .png or .jpg pictures")
    contents = [paths[i % len(paths)].read_bytes() for i in range(options.views)]

    with (
        served(options.artifact) as (address, engine),
        httpx.Client(base_url=address, trust_env=False, timeout=600) as client,
    ):
        whole, bare, network, processor = [], [], [], []
        for run in range(options.runs + 1):
            began = time.process_time()
            seconds, inside = _bare(engine, contents)
            between = time.process_time()
            asked = _asked(client, contents)
            more = time.process_time() - between - (between - began)
            if run:  # the first warms up both
                whole.append(asked)
                bare.append(seconds)
                network.append(inside)
                processor.append(more)

    medians = {
        "service": statistics.median(whole),
        "preprocessing and network": statistics.median(bare),
        "network alone": statistics.median(network),
    }
    overhead = statistics.median(a - b for a, b in zip(whole, bare, strict=True))
    for name, seconds in medians.items():
        print(f"{name:<28}{1000 * seconds:9.1f} ms")
    print(
        f"{'the same in processor time':<28}{1000 * statistics.median(processor):9.1f} ms, the "
        "client's share included"
    )
    share = 100 * overhead / medians["network alone"]
    print(
        f"{'overhead, median of pairs':<28}{1000 * overhead:9.1f} ms = {share:.1f} % of the network"
    )
    quickest = min(whole) - min(bare)
    print(f"{'overhead, quickest of each':<28}{1000 * quickest:9.1f} ms")
    found = {
        "overhead_seconds": overhead,
        "overhead_quickest_seconds": quickest,
        "overhead_processor_seconds": statistics.median(processor),
        **medians,
    }
    print(json.dumps({"views": options.views, "runs": options.runs, **found}))


def _bare(engine: Engine, contents: list[bytes]) -> tuple[float, float]:
    """Seconds from picture files to a scene without a service, and of the network in it."""
    started = time.perf_counter()
    batch = preprocess_images(
        [io.BytesIO(content) for content in contents], "fit", engine.image_size, engine.patch_size
    )
    began = time.perf_counter()
    with torch.inference_mode():
        decode(engine.net.config, engine.net(batch.images.to(engine.device)), batch)
    ended = time.perf_counter()
    return ended - started, ended - began


def _asked(client: httpx.Client, contents: list[bytes]) -> float:
    files = [("images", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    started = time.perf_counter()
    answer = client.post("/reconstruct", files=files, headers={"Cache-Control": "no-cache"})
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    return seconds


if __name__ == "__main__":
    main()
