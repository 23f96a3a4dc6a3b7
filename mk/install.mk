# make install [PREFIX=/usr/local] [DESTDIR=]; make uninstall takes out what install put in, except
# the configuration. With PREFIX=/usr the configuration goes to /etc. make deb: Debian packages.

bindir     := $(PREFIX)/bin
libdir     := $(PREFIX)/lib
includedir := $(PREFIX)/include
datadir    := $(PREFIX)/share/bulkhead
pluginsdir := $(libdir)/bulkhead/plugins
sysconfdir ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
confdir    := $(sysconfdir)/bulkhead
docdir     := $(PREFIX)/share/doc/bulkhead

# fill-pc PREFIX,INCLUDEDIR,PLUGINSDIR,DATADIR
fill-pc = sed -e 's|@prefix@|$(1)|' -e 's|@includedir@|$(2)|' -e 's|@pluginsdir@|$(3)|' \
              -e 's|@datadir@|$(4)|' -e 's|@version@|$(VERSION)|'

# For building against this tree without installing: PKG_CONFIG_PATH=build. No absolute path in it.
# Only build/bulkhead.pc is of use, but a sanitized build gets its own, one folder further down.
UP := $(if $(SANITIZE),../..,..)
$(B)/bulkhead.pc: sdk/bulkhead.pc.in $(MAKE_SOURCES)
	@mkdir -p $(@D)
	$(Q)$(call fill-pc,$${pcfiledir}/$(UP),$${prefix}/sdk/include,$${pcfiledir}/plugins,$${prefix}/sdk) $< > $@

# Paths of the configuration and the unit as they are with PREFIX=/usr -> as they are here.
fill-paths = sed -e 's|/usr/bin/|$(bindir)/|g' -e 's|/etc/bulkhead|$(confdir)|g' -e 's|/usr/share/bulkhead|$(datadir)|g' \
                 -e 's|/usr/share/doc/bulkhead|$(docdir)|g'
# Of a file in config/: modules are looked for where they are installed by default.
fill-example = sed -e '/^modules: {path: \[\(\.\.\/\)*build\/plugins\]}/d' -e 's|config/bulkhead.yaml|$(docdir)/examples/bulkhead.yaml|' \
                   -e 's|^crash: {dir: crashes|crash: {dir: /var/lib/bulkhead/crashes|'
# What the server says of itself: FOLDER/NAME:ARGUMENTS.
zshdir := $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
generated-files = share/man/man1/bulkhead.1:manual,1 share/man/man5/bulkhead.yaml.5:manual,5 \
    share/bash-completion/completions/bulkhead:completion,bash $(zshdir:$(PREFIX)/%=%)/_bulkhead:completion,zsh \
    share/fish/vendor_completions.d/bulkhead.fish:completion,fish
# PACKAGING-FILE:FOLDER:NAME
system-files = service:$(libdir)/systemd/system:bulkhead.service sysusers:$(libdir)/sysusers.d:bulkhead.conf \
               tmpfiles:$(libdir)/tmpfiles.d:bulkhead.conf

.PHONY: install uninstall deb
install: all
	$(Q)install -d $(DESTDIR)$(bindir) $(DESTDIR)$(pluginsdir) $(DESTDIR)$(includedir) \
	    $(DESTDIR)$(PREFIX)/share/pkgconfig $(DESTDIR)$(datadir) $(DESTDIR)$(confdir) $(DESTDIR)$(docdir)
	$(Q)install -m 755 $(BULKHEAD) $(DESTDIR)$(bindir)/bulkhead
	$(Q)$(if $(PLUGINS),install -m 644 $(PLUGINS) $(DESTDIR)$(pluginsdir)/)
	$(Q)install -m 644 sdk/include/bulkhead.h $(DESTDIR)$(includedir)/bulkhead.h
	$(Q)$(call fill-pc,$(PREFIX),$${prefix}/include,$${prefix}/lib/bulkhead/plugins,$${prefix}/share/bulkhead) \
	    sdk/bulkhead.pc.in > $(DESTDIR)$(PREFIX)/share/pkgconfig/bulkhead.pc
	$(Q)for pair in sdk/template:$(datadir)/template sdk/testing:$(datadir)/testing packaging/welcome:$(datadir)/welcome \
	        config:$(docdir)/examples; do \
	    from=$${pair%%:*} to=$(DESTDIR)$${pair##*:}; \
	    rm -rf $$to && cp -R $$from $$to && chmod -R u=rwX,go=rX $$to || exit 1; \
	done
	$(Q)rm -rf $(DESTDIR)$(docdir)/examples/crashes; for file in $(DESTDIR)$(docdir)/examples/*.yaml; do \
	    $(fill-example) "$$file" > "$$file.new" && mv "$$file.new" "$$file" || exit 1; \
	done
	$(Q)install -d $(DESTDIR)$(datadir)/js && install -m 644 plugins/*/*.js $(DESTDIR)$(datadir)/js/
	$(Q)install -m 644 README.md CHANGELOG.md docs/*.md $(DESTDIR)$(docdir)/
	$(Q)to=$(DESTDIR)$(confdir)/bulkhead.yaml; if [ -e "$$to" ]; then echo "  KEEP   $$to"; \
	    else $(fill-paths) packaging/bulkhead.yaml > "$$to" && chmod 644 "$$to"; fi
	$(Q)for file in $(system-files); do \
	    from=packaging/bulkhead.$${file%%:*} name=$${file##*:}; dir=$${file#*:}; dir=$(DESTDIR)$${dir%:*}; \
	    install -d $$dir && $(fill-paths) $$from > $$dir/$$name && chmod 644 $$dir/$$name || exit 1; \
	done
	$(Q)for file in $(generated-files); do \
	    to=$(DESTDIR)$(PREFIX)/$${file%:*}; \
	    install -d "$${to%/*}" && $(BULKHEAD) $$(echo $${file#*:} | tr , ' ') > "$$to" && chmod 644 "$$to" || exit 1; \
	done
	$(Q)install -D -m 644 packaging/bulkhead.logrotate $(DESTDIR)$(sysconfdir)/logrotate.d/bulkhead
	@echo "installed in $(DESTDIR)$(PREFIX); start it with: $(bindir)/bulkhead run -c $(confdir)/bulkhead.yaml"

uninstall:
	$(Q)rm -f $(DESTDIR)$(bindir)/bulkhead $(DESTDIR)$(includedir)/bulkhead.h $(DESTDIR)$(PREFIX)/share/pkgconfig/bulkhead.pc \
	    $(foreach f,$(system-files),$(DESTDIR)$(word 2,$(subst :, ,$f))/$(word 3,$(subst :, ,$f))) \
	    $(foreach f,$(generated-files),$(DESTDIR)$(PREFIX)/$(firstword $(subst :, ,$f))) \
	    $(DESTDIR)$(sysconfdir)/logrotate.d/bulkhead
	$(Q)$(if $(PLUGIN_NAMES),rm -f $(PLUGIN_NAMES:%=$(DESTDIR)$(pluginsdir)/%.so))
	$(Q)rm -rf $(DESTDIR)$(datadir) $(DESTDIR)$(docdir)
	$(Q)rmdir $(DESTDIR)$(pluginsdir) $(DESTDIR)$(libdir)/bulkhead 2>/dev/null || :
	@echo "removed; the configuration in $(DESTDIR)$(confdir) is kept"

# bulkhead, bulkhead-dev and bulkhead-dbgsym in build/deb/.
DEB_SOURCES := scripts/deb.sh $(call find-files,packaging config docs sdk,-type f)
deb: $(B)/deb/done
	@ls $(B)/deb/*.deb
$(B)/deb/done: $(BULKHEAD) $(PLUGINS) $(B)/bulkhead.pc $(DEB_SOURCES) $(MAKE_SOURCES)
	$(if $(Q),@echo "  DEB    $(@D)")
	$(Q)rm -rf $(@D) && mkdir -p $(@D)/stage
	$(Q)$(MAKE) install PREFIX=/usr sysconfdir=/etc DESTDIR=$(CURDIR)/$(@D)/stage >/dev/null
	$(Q)scripts/deb.sh $(@D) $(VERSION) >/dev/null
	@touch $@

# For tests/integration/test_packaging.c, which is skipped where there is no tool for it.
.PHONY: deb-if-possible
deb-if-possible: $(if $(shell command -v dpkg-shlibdeps),$(if $(SANITIZE),,$(B)/deb/done))
