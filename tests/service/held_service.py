"""``python -m service`` as it is, but for passes of the network: they wait while the file $HOLD is
there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from model.scene.preprocess import PreprocessedImages
from quantvggt.command import main
from service import serve
from service.inference.engine import Engine
from service.inference.network_pass import Pass


class HeldEngine(Engine):
    def infer(
        self, batch: PreprocessedImages, observer: Any = lambda stage, share: None, *rest: Any
    ) -> Pass:
        while Path(os.environ["HOLD"]).exists():
            observer("aggregator", 0.5)  # a pass that goes on and can be stopped
            time.sleep(0.01)
        return super().infer(batch, observer, *rest)


if __name__ == "__main__":
    serve.Engine = HeldEngine  # type: ignore[misc]
    sys.exit(main())
