# make fuzz: each tests/fuzz/fuzz_NAME.c for FUZZ_SECONDS, with clang's libFuzzer, AddressSanitizer and
# UBSan. TESTS picks by name. Seeds are in tests/fuzz/corpus/NAME, what is found on the way goes to
# build/fuzz/corpus/NAME, a crashing input to build/fuzz/NAME-*.
#
# All of server/ but main.c and the interposers is in one archive: a target is linked with what it needs of
# it. What a target defines itself, or includes as a source, stands in for what is there.

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_FLAGS   := -std=gnu11 -D_GNU_SOURCE= -DBULKHEAD_VERSION='"$(VERSION)"' -DBULKHEAD_SANITIZE -O1 -g \
                -fno-omit-frame-pointer -Iserver -Isdk/include -w \
                -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_SRC     := $(filter $(foreach t,$(TESTS),%$(t).c),$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SRC     := $(if $(TESTS),$(FUZZ_SRC),$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS      := $(patsubst tests/fuzz/fuzz_%.c,build/fuzz/%,$(FUZZ_SRC))

FUZZ_SERVER  := $(patsubst %.c,build/fuzz/obj/%.o,$(filter-out server/main.c server/plugin/interpose%,$(SERVER_SRC)))

build/fuzz/obj/%.o: %.c $(MAKE_SOURCES) mk/fuzz.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  FUZZ   $<")
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

build/fuzz/server.a: $(FUZZ_SERVER)
	@rm -f $@
	$(Q)ar rcs $@ $^

build/fuzz/%: build/fuzz/obj/tests/fuzz/fuzz_%.o build/fuzz/server.a
	$(if $(Q),@echo "  LINK   $@")
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)
.PRECIOUS: build/fuzz/obj/%.o

.PHONY: fuzz fuzzers
fuzzers: $(FUZZERS)
fuzz: setup
	@scripts/setup.sh fuzz
	+@$(MAKE) fuzzers
	@for f in $(FUZZERS); do \
	    name=$${f##*/}; seeds=tests/fuzz/corpus/$$name; \
	    mkdir -p build/fuzz/corpus/$$name; \
	    echo "fuzz: $$name for $(FUZZ_SECONDS) s"; \
	    $$f $$(d=tests/fuzz/$$name.dict; [ -f $$d ] && echo -dict=$$d) -max_total_time=$(FUZZ_SECONDS) -timeout=20 -artifact_prefix=build/fuzz/$$name- \
	        -print_final_stats=1 build/fuzz/corpus/$$name $$([ -d $$seeds ] && echo $$seeds) \
	        >build/fuzz/$$name.log 2>&1 || { tail -30 build/fuzz/$$name.log; exit 1; }; \
	    grep -E 'stat::number_of_executed|DONE|^Done' build/fuzz/$$name.log; \
	done

-include $(call find-files,build/fuzz/obj,-name '*.d')
