# Tests are cmocka executables, found by their names:
#
#   tests/unit/**/test_X.c               with libbulkhead.a; other .c files there are helpers
#   plugins/NAME/test_NAME.c             with that plugin's objects and sdk/testing/*.c
#   tests/integration/test_X.c, tests/crash/test_X.c, tests/soak/test_X.c   with tests/harness; they start $BULKHEAD
#   tests/plugins/NAME.c or NAME.cc      plugins only for tests -> build/tests/modules/NAME.so
#
# A test may add to its link line by a comment of its own:   /* link: @interpose -Wl,--wrap=plugin_open */
# (@interpose stands for server/plugin/interpose*.c, which are not in libbulkhead.a.)

UNIT_SRC         := $(call find-files,tests/unit,-name 'test_*.c')
UNIT_HELPER_SRC  := $(filter-out $(UNIT_SRC),$(call find-files,tests/unit,-name '*.c'))
HARNESS_SRC      := $(wildcard tests/harness/*.c)
INTEGRATION_SRC  := $(wildcard tests/integration/test_*.c)
CRASH_SRC        := $(wildcard tests/crash/test_*.c)
SOAK_SRC         := $(wildcard tests/soak/test_*.c)
END_TO_END_HELPER_SRC := $(filter-out $(INTEGRATION_SRC) $(CRASH_SRC) $(SOAK_SRC),$(wildcard tests/integration/*.c tests/crash/*.c tests/soak/*.c))
MODULE_SRC       := $(wildcard tests/plugins/*.c tests/plugins/*.cc)
TESTING_SRC      := $(wildcard sdk/testing/*.c)
PLUGIN_TESTED    := $(foreach p,$(PLUGINS_BUILT),$(if $(wildcard plugins/$p/test_$p.c),$p))

UNIT_TESTS        := $(UNIT_SRC:%.c=$(B)/%)
INTEGRATION_TESTS := $(INTEGRATION_SRC:%.c=$(B)/%)
CRASH_TESTS       := $(CRASH_SRC:%.c=$(B)/%)
SOAK_TESTS        := $(SOAK_SRC:%.c=$(B)/%)
PLUGIN_TESTS      := $(foreach p,$(PLUGIN_TESTED),$(B)/tests/plugins/test_$p)
MODULES           := $(addprefix $(B)/tests/modules/,$(addsuffix .so,$(basename $(notdir $(MODULE_SRC)))))
HARNESS_LIB       := $(B)/tests/libharness.a

objects-of = $(addprefix $(B)/obj/,$(addsuffix .o,$(basename $(1))))

$(B)/obj/tests/%:       UNIT_FLAGS = -fPIE -Iserver -Isdk/include -Itests/harness
$(B)/obj/sdk/testing/%: UNIT_FLAGS = -fPIC -Isdk/include -Isdk/testing
$(B)/obj/tests/plugins/%: UNIT_FLAGS = -fPIC -Isdk/include -Wno-error
# These misbehave on purpose.
$(B)/obj/tests/plugins/%: NO_SANITIZE = yes

$(HARNESS_LIB): $(call objects-of,$(HARNESS_SRC)) $(BUILD_INPUTS) $(wildcard tests/harness)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)

extra-words = $$(sed -n 's,^/\* link: \(.*\) \*/$$,\1,p' $(1) | sed 's,@interpose,$(INTERPOSE_OBJ),')

define link-test
	@mkdir -p $(@D)
	$(if $(Q),@echo "  TEST   $@")
	$(Q)$(CC) -pie $(SAN_FLAGS) $(LINK_FLAGS) -o $@
endef

$(UNIT_TESTS): $(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(call objects-of,$(UNIT_HELPER_SRC)) $(LIB) \
               $(INTERPOSE_OBJ) $(B)/link-inputs
	$(link-test) $(WRAP_FLAGS) $(filter-out $(INTERPOSE_OBJ),$(filter %.o,$^)) \
	    $(call extra-words,tests/unit/$*.c) $(LIB) -lcmocka $(LIBS)

$(INTEGRATION_TESTS) $(CRASH_TESTS) $(SOAK_TESTS): $(B)/tests/%: $(B)/obj/tests/%.o $(HARNESS_LIB) \
               $(call objects-of,$(END_TO_END_HELPER_SRC))
	$(link-test) $< $(filter $(B)/obj/$(dir tests/$*)%,$(filter-out $<,$(filter %.o,$^))) \
	    $(call extra-words,tests/$*.c) $(HARNESS_LIB) -lcmocka -ljansson -lpthread -lm

define plugin-test-rule
$(B)/tests/plugins/test_$(1): $(B)/obj/plugins/$(1)/test_$(1).o $(call plugin-obj,$(1)) $(call objects-of,$(TESTING_SRC))
	$$(link-test) $$^ $$(call extra-words,plugins/$(1)/test_$(1).c) $$(PLUGIN_LIBS_$(1)) \
	    $(if $(filter %.cc,$(call plugin-src,$(1))),-lstdc++) -lcmocka -ljansson -lpthread -lm
endef
$(foreach p,$(PLUGIN_TESTED),$(eval $(call plugin-test-rule,$p)))

$(MODULES): $(B)/tests/modules/%.so: $(B)/obj/tests/plugins/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo "  MODULE $@")
	$(Q)$(if $(wildcard tests/plugins/$*.cc),$(CXX),$(CC)) -shared -Wl,--build-id -o $@ $< -lpthread -lm

.PHONY: tests
tests: $(UNIT_TESTS) $(PLUGIN_TESTS) $(INTEGRATION_TESTS) $(CRASH_TESTS) $(SOAK_TESTS) $(MODULES)

# ---- Running them -----------------------------------------------------------------------------------

SUITES := unit plugins integration crash soak $(if $(SANITIZE),,valgrind sanitize)
.PHONY: test $(SUITES:%=test-%) $(SUITES:%=suite-%)

# With TALLY, results are only added up there, and the caller prints the sum.
TALLY ?=
TESTS ?=
RUN_TESTS = BULKHEAD=$(CURDIR)/$(BULKHEAD) BULKHEAD_PLUGINS=$(CURDIR)/$(B)/plugins \
            BULKHEAD_MODULES=$(CURDIR)/$(B)/tests/modules BULKHEAD_SDK=$(CURDIR)/sdk \
            PATH="$$PATH:/usr/sbin:/sbin:$(CURDIR)/build/unpacked/usr/bin:$(CURDIR)/build/unpacked/usr/sbin" \
            tests/run --logs $(B)/tests/log --only "$(TESTS)" $(if $(TALLY),--tally $(TALLY)) \
            $(if $(SANITIZE),--skip tests/sanitize.skip)

# The sanitizers leave the fatal signals to the boundary, whose business they are.
SAN_ENV := ASAN_OPTIONS=handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_stack_use_after_return=0:detect_leaks=
UBSAN_ENV := UBSAN_OPTIONS=print_stacktrace=1:handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0
TSAN_ENV := TSAN_OPTIONS=handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0
san-env = $(if $(SANITIZE),$(SAN_ENV)$(1) $(UBSAN_ENV) $(TSAN_ENV) BULKHEAD_TEST_SCALE=4)

JOBS := $(shell nproc 2>/dev/null || echo 2)

suite-unit: $(UNIT_TESTS)
	@$(call san-env,1) $(RUN_TESTS) --suite unit --again --jobs $(JOBS) --timeout 300 $(UNIT_TESTS)
suite-plugins: $(PLUGIN_TESTS) $(PLUGINS)
	@$(call san-env,1) $(RUN_TESTS) --suite plugins --again --jobs $(JOBS) --timeout 300 $(PLUGIN_TESTS)
suite-integration: all deb-if-possible $(INTEGRATION_TESTS) $(MODULES)
	@$(call san-env,0) $(RUN_TESTS) --suite integration --timeout 600 --again --jobs 2 --alone tests/alone.list \
	    $(INTEGRATION_TESTS)
suite-crash: all $(CRASH_TESTS) $(MODULES)
	@$(call san-env,0) $(RUN_TESTS) --suite crash --timeout 900 --again $(CRASH_TESTS)
suite-soak: all $(SOAK_TESTS) $(MODULES)
	@$(call san-env,0) BULKHEAD_SOAK_SECONDS=$(SECONDS) BULKHEAD_SOAK_SEED=$(SEED) \
	    $(RUN_TESTS) --suite soak --again --timeout $$(( $(SECONDS) * 2 + 180 )) $(SOAK_TESTS)
suite-valgrind: $(UNIT_TESTS)
	@BULKHEAD_TEST_SCALE=20 $(RUN_TESTS) --suite valgrind --jobs $(JOBS) --timeout 900 --skip tests/valgrind.skip \
	    --wrapper "valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --num-callers=30 --child-silent-after-fork=yes $(if $(wildcard tests/valgrind.supp),--suppressions=tests/valgrind.supp)" $(UNIT_TESTS)

# One build for the lot, then the three suites from it.
SANITIZED := $(MAKE) SANITIZE=address,undefined
suite-sanitize:
	+@$(SANITIZED) all tests
	+@$(SANITIZED) TALLY=$(TALLY) suite-unit
	+@$(SANITIZED) TALLY=$(TALLY) suite-plugins
	+@$(SANITIZED) TALLY=$(TALLY) suite-integration

# A suite that does not build counts as one failure, and the others still run.
define run-suites
	@scripts/setup.sh build test
	@scripts/setup.sh --optional backends
	$(if $(filter integration,$(1)),@scripts/setup.sh --optional clients packaging)
	$(if $(filter integration,$(1)),@scripts/setup.sh --unpack build/unpacked unpacked)
	@mkdir -p $(B)/tests && rm -f $(B)/tests/tally $(B)/tests/tally.flaky && : > $(B)/tests/tally
	+@$(if $(filter-out sanitize,$(1)),$(MAKE) -k all tests || :)
	+@for suite in $(1); do \
	    echo; echo "== $$suite$(if $(SANITIZE), ($(SANITIZE)))"; \
	    $(MAKE) TALLY=$(B)/tests/tally suite-$$suite || echo "0 1 0 $$suite: did not build" >> $(B)/tests/tally; \
	done
	@tests/run --total $(B)/tests/tally
endef

# testssl.sh against a listener with TLS: takes a minute.
.PHONY: test-tls
test-tls: all
	@scripts/setup.sh build test
	@BULKHEAD=$(BULKHEAD) BULKHEAD_PLUGINS=$(CURDIR)/$(B)/plugins scripts/test-tls.sh $(TESTSSL)

# `make soak SECONDS=600 SEED=7`: longer, and what an earlier run has asked and done.
SECONDS ?= 60
SEED ?=
.PHONY: soak
soak: ; $(call run-suites,soak)

test: ; $(call run-suites,$(SUITES))
$(SUITES:%=test-%): test-%: ; $(call run-suites,$*)
