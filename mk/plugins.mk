# plugins/NAME/NAME.c (or NAME.cc, C++20) and its other sources, but not test_*.c -> build/plugins/NAME.so
#
# plugins/NAME/deps names the pkg-config packages it needs, one per line; where one is missing, the
# plugin is skipped and `make` says so.

PLUGIN_NAMES := $(sort $(foreach f,$(wildcard plugins/*/*.c plugins/*/*.cc),\
    $(filter $(basename $(notdir $f)),$(notdir $(patsubst %/,%,$(dir $f))))))

plugin-deps = $(shell sed 's/\#.*//' plugins/$(1)/deps 2>/dev/null)
plugin-src  = $(filter-out plugins/$(1)/test_%,$(wildcard plugins/$(1)/*.c plugins/$(1)/*.cc))
plugin-obj  = $(addprefix $(B)/obj/,$(addsuffix .o,$(basename $(call plugin-src,$(1)))))

PLUGINS_SKIPPED := $(foreach p,$(PLUGIN_NAMES),$(if $(call plugin-deps,$p),\
    $(if $(shell $(PKG_CONFIG) --exists $(call plugin-deps,$p) 2>/dev/null && echo yes),,$p)))
PLUGINS_BUILT := $(filter-out $(PLUGINS_SKIPPED),$(PLUGIN_NAMES))
PLUGINS       := $(PLUGINS_BUILT:%=$(B)/plugins/%.so)

# fault commits its faults on purpose; a sanitizer would report them before the host can recover.
PLUGINS_NO_SANITIZE := fault

# Undefined symbols are refused here already: a plugin gets everything from the host's table.
define plugin-rules
$(B)/obj/plugins/$(1)/%: UNIT_FLAGS = -fPIC -fvisibility=hidden -Isdk/include -Isdk/testing $$(PLUGIN_CFLAGS_$(1))
$(B)/obj/plugins/$(1)/%: NO_SANITIZE = $(filter $(1),$(PLUGINS_NO_SANITIZE))
$(B)/plugins/$(1).so: NO_SANITIZE = $(filter $(1),$(PLUGINS_NO_SANITIZE))
PLUGIN_CFLAGS_$(1) := $(if $(call plugin-deps,$(1)),$(shell $(PKG_CONFIG) --cflags $(call plugin-deps,$(1)) 2>/dev/null))
PLUGIN_LIBS_$(1)   := $(if $(call plugin-deps,$(1)),$(shell $(PKG_CONFIG) --libs $(call plugin-deps,$(1)) 2>/dev/null))
$(B)/plugins/$(1).so: $(call plugin-obj,$(1)) $(BUILD_INPUTS) $(wildcard plugins/$(1) plugins/$(1)/deps)
	@mkdir -p $$(@D)
	$$(if $$(Q),@echo "  PLUGIN $$@")
	$$(Q)$(if $(filter %.cc,$(call plugin-src,$(1))),$(CXX),$(CC)) -shared $$(if $$(NO_SANITIZE),,$$(SAN_FLAGS)) $$(LINK_FLAGS) -Wl,-z,defs \
	    -o $$@ $$(filter %.o,$$^) $$(PLUGIN_LIBS_$(1)) -lpthread -lm
endef
$(foreach p,$(PLUGINS_BUILT),$(eval $(call plugin-rules,$p)))

.PHONY: plugins-skipped
plugins-skipped:
	@$(if $(PLUGINS_SKIPPED),$(foreach p,$(PLUGINS_SKIPPED),echo "  SKIP   plugin $p: needs $(call plugin-deps,$p)";),:)
