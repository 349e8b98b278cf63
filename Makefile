# Everything starts from nothing but Python 3.11 to 3.13, a C++17 compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint format bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt $(wildcard kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,train,demo,dev]'
	touch $@

demo: install
	$(BIN)/python -m benchmarks.datasets elpv demo/elpv
	$(BIN)/tledge train demo/elpv --out demo/run --force
	$(BIN)/tledge export demo/run --precision int8 --out demo/model.onnx --force
	$(BIN)/tledge verify demo/model.onnx
	$(BIN)/tledge bench demo/model.onnx --against demo/run/model.onnx
	@echo "The report is in demo/run/report.html, the model in demo/model.onnx."

test: install
	$(BIN)/pytest --numprocesses auto --dist loadscope

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist demo
