# What `make bench` builds before it calls bench/run:
#
#   bench/NAME.c            measures the server's own code: linked with libbulkhead.a -> build/bench/NAME
#   bench/peers/NAME.c      something to compare with: linked with the libraries only -> build/bench/NAME
#   bench/peers/NAME.go     the same in Go, when there is a Go                        -> build/bench/NAME
#   bench/unmetered.h       makes a server without counters                    -> build/bench/bulkhead-unmetered
#   bench/plugins/NAME.c    plugins for the measurements                  -> build/bench/plugins/NAME.so

BENCH_OWN     := $(patsubst %.c,$(B)/%,$(wildcard bench/*.c))
BENCH_PEERS   := $(patsubst bench/peers/%.c,$(B)/bench/%,$(wildcard bench/peers/*.c))
BENCH_GO      := $(patsubst bench/peers/%.go,$(B)/bench/%,$(wildcard bench/peers/*.go))
BENCH_PLUGINS := $(patsubst %.c,$(B)/%.so,$(wildcard bench/plugins/*.c))

$(B)/obj/bench/%:         UNIT_FLAGS = -fPIE -Iserver -Isdk/include
$(B)/obj/bench/plugins/%: UNIT_FLAGS = -fPIC -Isdk/include

.PHONY: bench bench-programs
bench: setup
	@scripts/setup.sh --optional bench
	+@$(MAKE) all bench-programs
	@BULKHEAD=$(BULKHEAD) BUILD=$(B) bench/run $(BENCH_ARGS)

# The server without its counters: the files that a request passes are compiled anew, see bench/unmetered.h.
UNMETERED     := $(addprefix server/,http/admission http/exchange http/front http/wire plugin/alarm plugin/chain \
                   plugin/failure plugin/meter plugin/pending worker/async worker/offload)
UNMETERED_OBJ := $(UNMETERED:%=$(B)/obj/unmetered/%.o)
BENCH_SERVER  := $(B)/bench/bulkhead-unmetered

$(B)/obj/unmetered/server/http/wire.o: UNMETERED_FLAGS = -DUNMETERED_CLOCK
$(UNMETERED_OBJ): UNIT_FLAGS = -fPIE -Iserver -Isdk/include -include bench/unmetered.h $(UNMETERED_FLAGS)
$(UNMETERED_OBJ): $(B)/obj/unmetered/%.o: %.c bench/unmetered.h $(BUILD_INPUTS) | check-tools
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC     $< (unmetered)")
	$(Q)$(CC) $(ALL_CFLAGS) $(SAN_FLAGS) $(UNIT_FLAGS) -MMD -MP -c -o $@ $<

$(BENCH_SERVER): $(SERVER_OBJ) $(UNMETERED_OBJ) $(B)/link-inputs
	@mkdir -p $(@D)
	$(if $(Q),@echo "  BENCH  $@")
	$(Q)$(CC) -pie $(SAN_FLAGS) $(LINK_FLAGS) $(WRAP_FLAGS) -o $@ \
	    $(filter-out $(UNMETERED:%=$(B)/obj/%.o),$(SERVER_OBJ)) $(UNMETERED_OBJ) $(LIBS)

-include $(UNMETERED_OBJ:.o=.d)

bench-programs: $(BENCH_SERVER) $(BENCH_OWN) $(BENCH_PEERS) $(BENCH_PLUGINS) $(if $(shell command -v go 2>/dev/null),$(BENCH_GO))

$(BENCH_OWN): $(B)/bench/%: $(B)/obj/bench/%.o $(LIB) $(INTERPOSE_OBJ) $(B)/link-inputs
	@mkdir -p $(@D)
	$(if $(Q),@echo "  BENCH  $@")
	$(Q)$(CC) -pie $(SAN_FLAGS) $(LINK_FLAGS) $(WRAP_FLAGS) -o $@ $< \
	    $(call extra-words,bench/$*.c) $(LIB) $(LIBS)

$(BENCH_PEERS): $(B)/bench/%: $(B)/obj/bench/peers/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo "  BENCH  $@")
	$(Q)$(CC) -pie $(SAN_FLAGS) $(LINK_FLAGS) -o $@ $< $(LIBS)

$(BENCH_GO): $(B)/bench/%: bench/peers/%.go
	@mkdir -p $(@D)
	$(if $(Q),@echo "  GO     $@")
	$(Q)GO111MODULE=off GOCACHE=$(CURDIR)/$(B)/bench/go-cache go build -o $@ $< || \
	    echo "bench: Go could not build $<; going on without it" >&2

$(BENCH_PLUGINS): $(B)/bench/plugins/%.so: $(B)/obj/bench/plugins/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo "  PLUGIN $@")
	$(Q)$(CC) -shared $(SAN_FLAGS) $(LINK_FLAGS) -o $@ $< -lm
