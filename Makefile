# make demo: the whole way on videos whose answer is known, from nothing.
# make test: the quick tests, of every room, in a few minutes.   make test-all: all tests.
# Each makes .venv and installs into it first; nothing else is needed but Python 3.10 or newer, and make.

PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
# small clips of small pictures: the demo's videos are 64 × 64 and about a second long
RECIPE := --epochs 15 --frames 8 --size 56 --audio-seconds 1.28 --width 8

.PHONY: install demo test test-all lint clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	rm -rf $(DEMO)
	mkdir $(DEMO)
	$(BIN)/python -m preprocess.synth $(DEMO)/videos
	$(BIN)/python -m preprocess.extract $(DEMO)/videos $(DEMO)/out.h5 --labels $(DEMO)/videos/labels.csv --short-side 64
	$(BIN)/python -m preprocess.show $(DEMO)/out.h5 orange-up-ah/00000 --out $(DEMO)/video.png
	$(BIN)/python -m tasks.ablate --data $(DEMO)/out.h5 --out $(DEMO)/ablation --seeds 3 --views 3 \
		--ceilings $(DEMO)/videos/ceilings.json $(RECIPE)
	@echo "the first video as the store holds it: $(DEMO)/video.png"

# as many processes as cores, of one thread each: threads of several would wait for each other; files in their order,
# since by default those of few tests come last, and among them are the longest
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv $(DEMO) *.egg-info
