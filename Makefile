# Bulkhead: `make run` and `make test` are all a fresh Debian 12 machine needs; `make help` lists the rest.
#
# Sources are found by folder, there are no lists to keep: see "What is built" below, mk/plugins.mk and
# mk/tests.mk. Everything lands in build/, or in build/<sanitizers>/ when SANITIZE is given, so that the
# two never mix. This file has to parse on a machine that has neither compiler nor pkg-config yet.

VERSION  := $(shell cat VERSION)
SANITIZE ?=
WERROR   ?= $(if $(filter true 1,$(CI)),1,)
V        ?=
PREFIX   ?= /usr/local
DESTDIR  ?=

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
PKG_CONFIG ?= pkg-config

Q := $(if $(filter-out 0,$(V)),,@)
comma := ,
empty :=
space := $(empty) $(empty)

# SANITIZE=address,undefined builds into build/address-undefined.
B := build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))

# One job per core, unless the command line says otherwise; a sub-make shares its parent's.
ifeq ($(MAKELEVEL),0)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
endif
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
# `make clean all` means one after the other.
$(if $(filter clean,$(MAKECMDGOALS)),$(eval .NOTPARALLEL:))

# find-files FOLDERS,EXPRESSION: sorted, and quiet about folders that do not exist.
find-files = $(sort $(shell find $(wildcard $(1)) /dev/null -type f \( $(2) \) 2>/dev/null))

# ---- Flags ------------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wformat=2 -Wvla -Wundef -Wpointer-arith \
            -Wwrite-strings -Wlogical-op -Wduplicated-cond -Wnull-dereference
WARNINGS_C := -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wno-missing-field-initializers
WARNINGS_CXX := -Wno-missing-field-initializers

SAN_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE))
# A fault in a sanitized build has to stop the test, not scroll by.
SAN_FLAGS += $(if $(findstring undefined,$(SANITIZE)),-fno-sanitize-recover=undefined)
HARDENING := -fstack-protector-strong -fstack-clash-protection \
             $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)

DEFINES := -DBULKHEAD_VERSION='"$(VERSION)"' $(if $(SANITIZE),-DBULKHEAD_SANITIZE)
COMMON_FLAGS := -O2 -g -fno-omit-frame-pointer $(HARDENING) $(WARNINGS) $(if $(WERROR),-Werror) \
                -ffile-prefix-map=$(CURDIR)=.
# -D_GNU_SOURCE= rather than =1: a source file that defines it by itself then gets no warning.
ALL_CFLAGS   := -std=gnu11 -D_GNU_SOURCE= $(DEFINES) $(COMMON_FLAGS) $(WARNINGS_C) $(CPPFLAGS) $(CFLAGS)
ALL_CXXFLAGS := -std=c++20 $(DEFINES) $(COMMON_FLAGS) $(WARNINGS_CXX) $(CPPFLAGS) $(CXXFLAGS)
LINK_FLAGS   := -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--build-id $(LDFLAGS)

# libmicrohttpd goes in statically, because the wire guard wraps the recv() it calls: a __wrap_NAME
# defined anywhere in server/ makes every link with server code pass --wrap=NAME.
MHD_LIBDIR := $(shell $(PKG_CONFIG) --variable=libdir libmicrohttpd 2>/dev/null)
MHD_A := $(firstword $(wildcard $(MHD_LIBDIR)/libmicrohttpd.a \
           $(filter /%,$(shell $(CC) -print-file-name=libmicrohttpd.a 2>/dev/null))))
LIBS = $(MHD_A) -lgnutls -lyaml -ldw -lelf -ljansson -lz -ldl -lpthread -lm -lrt
WRAP_FLAGS = $(addprefix -Wl$(comma)--wrap=,$(sort $(shell \
    grep -rhs --include="*.c" "^[a-z].*__wrap_[a-z0-9_]*" server | sed "s,.*__wrap_,,; s,[^a-z0-9_].*,,")))

# ---- What is built ----------------------------------------------------------------------------------

# server/**/*.c makes the executable. All but main.c and the interposers (which define malloc, exit,
# abort and the like, and must be in the executable itself) are in libbulkhead.a as well, for the tests.
SERVER_SRC    := $(call find-files,server,-name '*.c')
SERVER_OBJ    := $(SERVER_SRC:%.c=$(B)/obj/%.o)
INTERPOSE_OBJ := $(filter $(B)/obj/server/plugin/interpose%,$(SERVER_OBJ))
LIB_OBJ       := $(filter-out $(B)/obj/server/main.o $(INTERPOSE_OBJ),$(SERVER_OBJ))
BULKHEAD      := $(B)/bulkhead
LIB           := $(B)/libbulkhead.a

$(B)/obj/server/%: UNIT_FLAGS = -fPIE -Iserver -Isdk/include

.PHONY: all
all: $(BULKHEAD) $(B)/bulkhead.pc

include mk/plugins.mk mk/tests.mk mk/bench.mk mk/install.mk mk/lint.mk mk/fuzz.mk

all: $(PLUGINS) | plugins-skipped

# Rewritten only when its content changes, so that new flags, or a source that came or went, rebuild
# what they concern and nothing else.
write-if-changed = mkdir -p $(@D); printf '%s\n' $(1) | cmp -s - $@ || printf '%s\n' $(1) > $@
shell-quote = '$(subst ','\'',$(1))'

.PHONY: FORCE
$(B)/flags: FORCE
	@$(call write-if-changed,$(call shell-quote,$(CC) $(ALL_CFLAGS) $(CXX) $(ALL_CXXFLAGS) $(SAN_FLAGS)))
$(B)/link-inputs: FORCE
	@$(call write-if-changed,$(call shell-quote,$(SERVER_SRC) $(LINK_FLAGS) $(WRAP_FLAGS) $(LIBS)))

MAKE_SOURCES := Makefile $(wildcard mk/*.mk) VERSION
BUILD_INPUTS := $(B)/flags $(MAKE_SOURCES)

# What runs in a fault handler, or is landed in, is not instrumented: a sanitizer's own checks are no
# more safe there than malloc, and __builtin_longjmp() takes its shadow of the frame along.
$(addprefix $(B)/obj/server/plugin/,boundary.o recover.o landing.o capture.o text.o interpose_end.o \
  interpose_fd.o interpose_jump.o interpose_signal.o interpose_wait.o) $(B)/obj/server/http/replay.o: NO_SANITIZE = yes

# UNIT_FLAGS (set per folder) are the includes and -fPIC or -fPIE; NO_SANITIZE exempts a folder.
$(B)/obj/%.o: %.c $(BUILD_INPUTS) | check-tools
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC     $<")
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(NO_SANITIZE),,$(SAN_FLAGS)) $(UNIT_FLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/%.o: %.cc $(BUILD_INPUTS) | check-tools
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX    $<")
	$(Q)$(CXX) $(ALL_CXXFLAGS) $(if $(NO_SANITIZE),,$(SAN_FLAGS)) $(UNIT_FLAGS) -MMD -MP -c -o $@ $<

# From objects, not from the archive: nothing may be dropped. No -rdynamic: the linker exports what
# the shared libraries refer to (malloc, exit...), and nothing else.
$(BULKHEAD): $(SERVER_OBJ) $(B)/link-inputs
	$(if $(Q),@echo "  LINK   $@")
	$(Q)$(CC) -pie $(SAN_FLAGS) $(LINK_FLAGS) $(WRAP_FLAGS) -o $@ $(SERVER_OBJ) $(LIBS)

$(LIB): $(LIB_OBJ) $(B)/link-inputs
	$(if $(Q),@echo "  AR     $@")
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

# Files that are part of the executable.
$(B)/obj/server/admin/assets.o: $(wildcard server/admin/openapi.json server/admin/dashboard/*)

# What a missing package looks like when `make` is run before `make setup`.
.PHONY: check-tools
check-tools:
	@command -v $(CC) >/dev/null 2>&1 && command -v $(PKG_CONFIG) >/dev/null 2>&1 && test -n "$(MHD_A)" || { \
	    echo "make: no C compiler, pkg-config or libmicrohttpd.a here; run 'make setup' first (Debian)" >&2; exit 1; }

-include $(call find-files,$(B)/obj,-name '*.d')

# ---- For people -------------------------------------------------------------------------------------

.PHONY: setup run docs clean help
setup:
	@scripts/setup.sh build
	@scripts/setup.sh --optional backends

# The sub-make reads the Makefile again, now that the packages are there.
run: setup
	@$(MAKE) all
	@echo "Bulkhead is starting: open http://$${BULKHEAD_ADDRESS:-127.0.0.1:8080}/ (Ctrl-C stops it)"
	@exec $(BULKHEAD) run -c config/bulkhead.yaml

docs: all
	@if [ -x docs/generate ]; then BULKHEAD=$(BULKHEAD) docs/generate; \
	 else echo "docs/generate is not there yet"; fi

clean:
	$(Q)rm -rf build

help:
	@echo "Bulkhead $(VERSION)"
	@echo
	@echo "  make run               install what is missing, build, serve config/bulkhead.yaml on port 8080"
	@echo "  make test              install what is missing, build, run every test; ends with a count"
	@echo
	@echo "  make                   build $(BULKHEAD) and $(B)/plugins/*.so"
	@echo "  make test-unit         unit tests                      make test-plugins     the plugins' own tests"
	@echo "  make test-integration  the real binary over sockets    make test-crash       the crash matrix"
	@echo "  make fuzz              the fuzz targets, a minute each  FUZZ_SECONDS=60"
	@echo "  make test-valgrind     unit tests under valgrind       make test-sanitize    ASan + UBSan"
	@echo "  make soak              chaos (SECONDS=60 SEED=)"
	@echo "  make bench             compare with bare libmicrohttpd, nginx and Go"
	@echo "  make lint              clang-tidy and cppcheck         make format           clang-format in place"
	@echo "  make install           into PREFIX (DESTDIR is heeded) make uninstall        and out again"
	@echo "  make docs              write the generated pages       make clean            remove build/"
	@echo "  make setup             only install the packages that a build needs"
	@echo
	@echo "  V=1                    show the commands               WERROR=1              warnings are errors (on when CI=true)"
	@echo "  SANITIZE=address,undefined | thread                    builds into build/<sanitizers>/"
	@echo "  TESTS='arena smoke'    with a test-* target: only tests whose name contains one of the words"
	@echo "  PREFIX=/usr/local      DESTDIR=                        CC, CFLAGS, LDFLAGS are heeded"
