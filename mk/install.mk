# make install [PREFIX=/usr/local] [DESTDIR=]; make uninstall takes out what install put in, except
# the configuration. With PREFIX=/usr the configuration goes to /etc.

bindir     := $(PREFIX)/bin
libdir     := $(PREFIX)/lib
includedir := $(PREFIX)/include
datadir    := $(PREFIX)/share/bulkhead
pluginsdir := $(libdir)/bulkhead/plugins
sysconfdir ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
confdir    := $(sysconfdir)/bulkhead

# fill-pc PREFIX,INCLUDEDIR,PLUGINSDIR,DATADIR
fill-pc = sed -e 's|@prefix@|$(1)|' -e 's|@includedir@|$(2)|' -e 's|@pluginsdir@|$(3)|' \
              -e 's|@datadir@|$(4)|' -e 's|@version@|$(VERSION)|'

# For building against this tree without installing: PKG_CONFIG_PATH=build. No absolute path in it.
# Only build/bulkhead.pc is of use, but a sanitized build gets its own, one folder further down.
UP := $(if $(SANITIZE),../..,..)
$(B)/bulkhead.pc: sdk/bulkhead.pc.in $(MAKE_SOURCES)
	@mkdir -p $(@D)
	$(Q)$(call fill-pc,$${pcfiledir}/$(UP),$${prefix}/sdk/include,$${pcfiledir}/plugins,$${prefix}/sdk) $< > $@

.PHONY: install uninstall
install: all
	$(Q)install -d $(DESTDIR)$(bindir) $(DESTDIR)$(pluginsdir) $(DESTDIR)$(includedir) \
	    $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(datadir) $(DESTDIR)$(confdir)
	$(Q)install -m 755 $(BULKHEAD) $(DESTDIR)$(bindir)/bulkhead
	$(Q)$(if $(PLUGINS),install -m 644 $(PLUGINS) $(DESTDIR)$(pluginsdir)/)
	$(Q)install -m 644 sdk/include/bulkhead.h $(DESTDIR)$(includedir)/bulkhead.h
	$(Q)$(call fill-pc,$(PREFIX),$${prefix}/include,$${prefix}/lib/bulkhead/plugins,$${prefix}/share/bulkhead) \
	    sdk/bulkhead.pc.in > $(DESTDIR)$(libdir)/pkgconfig/bulkhead.pc
	$(Q)for pair in sdk/template:template sdk/testing:testing config/www:www; do \
	    from=$${pair%%:*} to=$(DESTDIR)$(datadir)/$${pair##*:}; \
	    [ -d $$from ] || continue; \
	    rm -rf $$to && cp -R $$from $$to && chmod -R u=rwX,go=rX $$to || exit 1; \
	done
	$(Q)install -d $(DESTDIR)$(datadir)/js && install -m 644 plugins/*/*.js $(DESTDIR)$(datadir)/js/
	$(Q)$(if $(wildcard sdk/plugin.mk),install -m 644 sdk/plugin.mk $(DESTDIR)$(datadir)/plugin.mk)
	$(Q)cd config 2>/dev/null || exit 0; \
	find . -type f ! -path './www/*' ! -path './crashes/*' | while read -r file; do \
	    to=$(DESTDIR)$(confdir)/$${file#./}; \
	    if [ -e "$$to" ]; then echo "  KEEP   $$to"; continue; fi; \
	    mkdir -p "$${to%/*}"; \
	    case $$file in \
	    *.yaml) sed -e 's|\(\.\./\)*build/plugins|$(pluginsdir)|g' -e 's|root: www\b|root: $(datadir)/www|' \
	        -e 's|^crash: {dir: crashes|crash: {dir: /var/lib/bulkhead/crashes|' "$$file" > "$$to" ;; \
	    *) cp "$$file" "$$to" ;; \
	    esac || exit 1; \
	done
	$(Q)install -d $(DESTDIR)$(libdir)/systemd/system && sed -e "s|/usr/bin/|$(bindir)/|g" -e "s|/etc/bulkhead|$(confdir)|g" \
	    -e "s|/usr/share/bulkhead|$(datadir)|" packaging/bulkhead.service > $(DESTDIR)$(libdir)/systemd/system/bulkhead.service
	@echo "installed in $(DESTDIR)$(PREFIX); start it with: $(bindir)/bulkhead run -c $(confdir)/bulkhead.yaml"

uninstall:
	$(Q)rm -f $(DESTDIR)$(bindir)/bulkhead $(DESTDIR)$(includedir)/bulkhead.h $(DESTDIR)$(libdir)/pkgconfig/bulkhead.pc \
	    $(DESTDIR)$(libdir)/systemd/system/bulkhead.service
	$(Q)$(if $(PLUGIN_NAMES),rm -f $(PLUGIN_NAMES:%=$(DESTDIR)$(pluginsdir)/%.so))
	$(Q)rm -rf $(DESTDIR)$(datadir)
	$(Q)rmdir $(DESTDIR)$(pluginsdir) $(DESTDIR)$(libdir)/bulkhead 2>/dev/null || :
	@echo "removed; the configuration in $(DESTDIR)$(confdir) is kept"
