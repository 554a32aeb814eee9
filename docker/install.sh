#!/bin/sh
# pip with what an image build may need: exact versions, wheels brought along, PyTorch's CPU build, another root CA.
set -eu
if [ -s /run/secrets/ca_bundle ]; then
  export PIP_CERT=/run/secrets/ca_bundle
fi
if [ "$DEVICE" = cpu ] && [ -n "$TORCH_CPU_INDEX" ]; then
  export PIP_EXTRA_INDEX_URL="$TORCH_CPU_INDEX"
fi
touch README.md LICENSE # pyproject.toml names them; no package needs to change with their text
PIP_CONSTRAINT=$PWD/constraints.txt PIP_FIND_LINKS=/wheelhouse exec python3 -m pip "$@"
