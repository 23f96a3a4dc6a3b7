# make format, make lint (clang-tidy and cppcheck; any finding fails).

LINT_DIRS  := server sdk plugins tests bench
FORMAT_SRC := $(call find-files,$(LINT_DIRS),-name '*.c' -o -name '*.h' -o -name '*.cc')
# sdk/template has places to fill in; tests/plugins and the fault plugin do wrong on purpose.
TIDY_SRC   := $(filter-out sdk/template/% tests/plugins/% plugins/fault/% $(PLUGINS_SKIPPED:%=plugins/%/%),$(filter %.c %.cc,$(FORMAT_SRC)))
TIDY       := $(addprefix build/lint/,$(addsuffix .tidy,$(TIDY_SRC)))

LINT_INCLUDES := -Iserver -Isdk/include -Isdk/testing -Itests/harness
LINT_DEFINES  := -D_GNU_SOURCE= -DBULKHEAD_VERSION='"$(VERSION)"'

.PHONY: format format-check lint lint-all cppcheck
format:
	@scripts/setup.sh lint
	$(Q)clang-format -i $(FORMAT_SRC)

format-check:
	@scripts/setup.sh lint
	$(Q)clang-format --dry-run --Werror $(FORMAT_SRC)

lint:
	@scripts/setup.sh build lint
	@$(MAKE) -k lint-all && echo "lint: clean ($(words $(TIDY_SRC)) files)"

lint-all: $(TIDY) cppcheck

# Depends on the object for its list of headers: a changed header is linted again through its users.
plugin-of = $(word 2,$(subst /, ,$(patsubst build/lint/plugins/%,plugins/%,$(filter build/lint/plugins/%,$@))))
build/lint/%.c.tidy: %.c .clang-tidy mk/lint.mk build/obj/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo "  TIDY   $<")
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- -std=gnu11 $(LINT_DEFINES) $(LINT_INCLUDES) \
	    $(PLUGIN_CFLAGS_$(plugin-of)) > $@.log 2>&1 || { cat $@.log; exit 1; }
	@mv $@.log $@

build/lint/%.cc.tidy: %.cc .clang-tidy mk/lint.mk build/obj/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo "  TIDY   $<")
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- -std=c++20 $(LINT_DEFINES) $(LINT_INCLUDES) \
	    $(PLUGIN_CFLAGS_$(plugin-of)) > $@.log 2>&1 || { cat $@.log; exit 1; }
	@mv $@.log $@

cppcheck:
	@mkdir -p build/lint/cppcheck
	$(if $(Q),@echo "  CPPCHECK")
	$(Q)cppcheck --quiet --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppressions-list=.cppcheck-suppressions --cppcheck-build-dir=build/lint/cppcheck -j $(JOBS) \
	    --std=c11 --platform=unix64 -D__x86_64__=1 --template=gcc $(LINT_INCLUDES) $(LINT_DEFINES) $(filter %.c,$(TIDY_SRC))
