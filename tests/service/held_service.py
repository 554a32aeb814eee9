"""``python -m service`` as it is, but for passes of the network: while the file $HOLD is there, all
but as many as it says wait."""

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
    begun = 0  # passes since the file appeared

    def infer(
        self, batch: PreprocessedImages, observer: Any = lambda stage, share: None, *rest: Any
    ) -> Pass:
        self.begun += 1
        while self._held():
            observer("aggregator", 0.5)  # a pass that goes on and can be stopped
            time.sleep(0.01)
        return super().infer(batch, observer, *rest)

    def _held(self) -> bool:
        try:
            free = int(Path(os.environ["HOLD"]).read_text() or 0)
        except FileNotFoundError:
            self.begun = 0
            return False
        return self.begun > free


if __name__ == "__main__":
    serve.Engine = HeldEngine  # type: ignore[misc]
    sys.exit(main())
