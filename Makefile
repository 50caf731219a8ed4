# On a fresh machine: `make demo`, `make check` and `make test`. They need Python 3.11+ and make, and use a C++
# compiler if there is one.
PYTHON ?= python3
DATA ?= ../shared/data/simplequestions
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PAPER := hmn paper --facts $(DATA)/facts.tsv --names $(DATA)/names.tsv --train $(DATA)/train.tsv --valid $(DATA)/valid.tsv

# One test process per core, each of one thread: more would wait for each other. Tests of the kernels take two
# threads all the same, and these wait without spinning.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(CORES)

# where there is a C++ compiler, kernels that do not compile stop the installation
NEED_KERNELS := $(if $(shell command -v $(CXX)),HMN_NEED_KERNELS=1)

# Targets run one after another, under `make -j` as well: the tests and the miniature each use every core.
.NOTPARALLEL:
.PHONY: help demo check test lint language types fast unit sanitize sanitize-native miniature fuzz hooks \
	paper paper-quick bench-qa \
	bench-qa-limits bench-hops bench-new-facts bench-known bench-facts bench-size bench-index bench-hierarchy bench-languages \
	bench-streaming bench-distributed bench-lock bench-made-questions bench-serve bench-writer bench-layer docs wheel clean

help:
	@echo "make demo             set up, train on built-in facts, measure, answer six questions (about 5 minutes)"
	@echo "make check            set up, then lint, language, types and the fast tests (3 minutes on two cores)"
	@echo "make test             check everything: as make check, with all tests, the documentation, and the paper in"
	@echo "                      miniature where the SimpleQuestions data are (15 minutes on two cores)"
	@echo "make sanitize         the tests of the kernels and of the index, with kernels that stop at memory errors"
	@echo "                      and undefined behaviour (3 minutes on two cores); make test does it for the kernels alone"
	@echo "make fuzz             random operations, index states and bundles, for MINUTES=10 or as long as you say"
	@echo "make hooks            let git run the quick checks before every commit"
	@echo "make paper-quick      the paper's experiments in miniature (needs the SimpleQuestions data, minutes)"
	@echo "make paper            the same as the paper has them (half a day on two cores; rows of docs/paper are not"
	@echo "                      repeated; ONLY='table1,keyword filter' chooses tables or rows; SEEDS=2 asks for two seeds;"
	@echo "                      TEST=test.tsv asks the test questions as well)"
	@echo "make bench-qa         the figures of bench/results/qa.md (needs the SimpleQuestions data, about two hours)"
	@echo "make bench-qa-limits  why these figures stop where they do (after make bench-qa, some minutes)"
	@echo "make bench-made-questions  few training questions, or none (needs the SimpleQuestions data, about an hour)"
	@echo "make bench-hops       questions of one to four hops (needs the MetaQA data, about an hour)"
	@echo "make bench-new-facts  facts that come after training, written or trained into weights (three hours)"
	@echo "make bench-languages  one table in nine languages, and the Chinese table (half an hour)"
	@echo "make bench-known      whether the answer is in the table (needs both data, a quarter of an hour)"
	@echo "make bench-facts      how fast ten million facts load (some minutes)"
	@echo "make bench-size       how large models and checkpoints are, and how soon they answer (a quarter of an hour)"
	@echo "make bench-lock       what the lock of an index costs a search (a minute)"
	@echo "make bench-serve      hmn serve under kills, writes and load (needs the SimpleQuestions data and wrk, an hour)"
	@echo "make bench-distributed  one memory over several processes, and the plan for more cells (a quarter of an hour)"
	@echo "make bench-hierarchy    the hierarchy: reads, accuracy, training, speed, growth, writes (an hour, 20 GB)"
	@echo "make bench-writer     memories that are written: cost per step, recall with overwriting, three tasks (hours, 16 GB)"
	@echo "make bench-layer      a memory layer beside product keys, and in a language model (needs npm, hours)"
	@echo "make bench-streaming  rows that come and go, by runbooks, in hmn and the libraries (some hours, 8 GB)"
	@echo "make bench-index      the search structures beside ten libraries (a day, 16 GB)"
	@echo "make docs             build the documentation, with a reference of every class, into site/"
	@echo "make wheel            build the source archive and the wheel, try it elsewhere (minutes)"
	@echo "make clean            remove the virtual environment, builds and caches"

$(READY): constraints.txt pyproject.toml CMakeLists.txt $(wildcard src/hmn/_native/kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(NEED_KERNELS) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[chinese,demo,dev,excel,faiss,paper,plots,pretrained,rdf,serve]'
	@touch $@

demo: $(READY)
	$(BIN)/hmn demo

check: lint language types fast

test: lint language types docs unit sanitize-native miniature

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

language: $(READY)
	$(BIN)/python -m scripts.check_language

types: $(READY)
	$(BIN)/python -m mypy

fast: $(READY)
	$(PYTEST) -m "not slow"

unit: $(READY)
	$(PYTEST)

# only the pytest that this starts loads the sanitizers' libraries
sanitize: $(READY)
	$(BIN)/python -m scripts.sanitize -n $(CORES) tests/_native tests/index

sanitize-native: $(READY)
	$(BIN)/python -m scripts.sanitize -n $(CORES) tests/_native

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --minutes $(MINUTES)

hooks: $(READY)
	$(BIN)/python -m pre_commit install

miniature: $(READY)
	@if [ -f $(DATA)/facts.tsv ]; then rm -rf runs/miniature && $(BIN)/$(PAPER) --out runs/miniature --preset quick; \
	else echo "skipped: the paper's experiments in miniature, since $(DATA)/facts.tsv is missing"; fi

paper-quick: $(READY)
	$(BIN)/$(PAPER) --out runs/paper-quick --preset quick

paper: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[faiss]'
	mkdir -p runs/paper docs/paper
	test -f runs/paper/results.jsonl || test ! -f docs/paper/results.jsonl || cp docs/paper/results.jsonl runs/paper
	$(BIN)/$(PAPER) --out runs/paper --preset full $(if $(wildcard runs/qa/kmips),--model runs/qa/kmips) \
		$(if $(TEST),--test $(TEST)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ONLY),--only "$(ONLY)")
	cp runs/paper/results.jsonl runs/paper/report.* runs/paper/*.png docs/paper

bench-qa: $(READY)
	$(BIN)/python -m bench.qa

bench-qa-limits: $(READY)
	$(BIN)/python -m bench.qa_limits

bench-made-questions: $(READY)
	$(BIN)/python -m bench.made_questions

bench-hops: $(READY)
	$(BIN)/python -m bench.hops

bench-new-facts: $(READY)
	$(BIN)/python -m bench.new_facts

bench-languages: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,chinese,demo]'
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.languages

bench-known: $(READY)
	$(BIN)/python -m bench.known

bench-facts: $(READY)
	$(BIN)/python -m bench.facts_load

bench-size: $(READY)
	$(BIN)/python -m bench.size

bench-lock: $(READY)
	$(BIN)/python -m bench.lock

bench-serve: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.serve

bench-distributed: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.distributed

bench-hierarchy: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.hierarchy

bench-writer: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.writer

bench-layer: $(READY)
	$(BIN)/python -m bench.layer

bench-streaming: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.index.streaming

bench-index: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.index

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html; its search needs: $(BIN)/python -m http.server -d site"

wheel: $(READY)
	$(BIN)/python -m scripts.check_wheel

clean:
	rm -rf build site $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
