# Each target works as the first command on a fresh clone with Python (3.10 or later) and pip.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Every test process computes on one core: two that fight over both are slower than two that share. Some images ask
# Python to keep no bytecode; then each process reads every test file anew, six seconds of it.
TEST   := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-bench test-gpu test-arm fuzz fuzz-cpp sanitize check bench clean

help:  ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/demo  ## The whole line on a small ViT and a small Swin, under two minutes.
	$(BIN)/edgevit demo --out demo-bundles

test: $(VENV)/test  ## The test suite; no network, no GPU.
	$(TEST) -n auto --dist loadfile

test-slow: $(VENV)/test  ## Tests that take minutes, and drawn examples by the hundred.
	$(TEST) -m 'slow or hypothesis' --hypothesis-profile thorough

test-bench: $(VENV)/test  ## Tests of the benchmarks' tables.
	$(TEST) -m bench

test-gpu: $(VENV)/test  ## Tests that need an NVIDIA driver.
	$(TEST) -m gpu

test-arm: $(VENV)/test  ## Tests on emulated Arm and older x86 processors; needs Debian's apt-get and a network.
	$(BIN)/python -m scripts.make_arm_root
	-$(BIN)/python -m scripts.get_onnxruntime_headers
	$(TEST) -m arm -rP

fuzz: $(VENV)/test  ## Drawn bundles by the ten thousand for the reader; what it fails on is kept in tests/attacks/corpus.
	EDGEVIT_KEEP_FOUND=1 $(TEST) tests/runtime/test_fuzz.py --hypothesis-profile fuzz

fuzz-cpp: $(VENV)/test  ## The C++ reader of bundles under libFuzzer, ten minutes a part; needs clang.
	$(BIN)/python -m scripts.fuzz_cpp --seconds 600

sanitize: $(VENV)/test  ## The C++ runtime with OpenVINO and ONNX Runtime under address, undefined and thread sanitizers.
	$(TEST) -m slow -k sanitizers tests/runtime/cpp/test_load.py -rs

check: $(VENV)/test  ## ruff and mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/bench  ## Accuracy and latency against other ways, memory of a build, fused kernels; exits with 1 where a bar is missed.
	status=0; \
	$(BIN)/python -m benchmarks.bench_float || status=1; \
	$(BIN)/python -m benchmarks.bench_int8 --cost || status=1; \
	$(BIN)/python -m benchmarks.bench_tiers --work $(VENV)/bench-tiers || status=1; \
	$(BIN)/python -m benchmarks.bench_fusion || status=1; \
	$(BIN)/python -m benchmarks.bench_foreign || status=1; \
	$(BIN)/python -m benchmarks.bench_memory || status=1; \
	$(BIN)/python -m benchmarks.bench_pixels || status=1; \
	exit $$status

clean:  ## Remove the virtual environment and what the demonstration built.
	rm -rf $(VENV) demo-bundles

# A stamp an extra, so that `make demo` does not install what only tests need.
$(VENV)/demo $(VENV)/test $(VENV)/bench: $(VENV)/%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing edgevit[$*] into $(VENV) …"
	$(PIP) --editable ".[$*]"
	@# Headers that the C++ tests of ONNX Runtime need; where they cannot be had, those tests are skipped.
	@test $* != test || timeout 120 $(BIN)/python -m scripts.get_onnxruntime_headers || true
	@touch $@
