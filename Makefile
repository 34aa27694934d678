# cijqemud: 'make help' lists what can be made.

PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
CC ?= cc
PKG_CONFIG ?= pkg-config

bindir = $(PREFIX)/bin
libexecdir = $(PREFIX)/libexec/cijqemu
mandir = $(PREFIX)/share/man
bashdir = $(PREFIX)/share/bash-completion/completions
fishdir = $(PREFIX)/share/fish/vendor_completions.d
zshdir = $(PREFIX)/share/zsh/site-functions
# Where this machine's systemd looks; empty: no systemd, nothing of it is installed.
unitdir = $(call pkg,--variable=systemdsystemunitdir,systemd)
userunitdir = $(call pkg,--variable=systemduserunitdir,systemd)
sysusersdir = $(call pkg,--variable=sysusersdir,systemd)
tmpfilesdir = $(call pkg,--variable=tmpfilesdir,systemd)
cijoedir = $(PREFIX)/share/cijqemu/cijoe

# WERROR=1 makes warnings errors; SAN=address,undefined builds with sanitizers.
WARNINGS = -Wall -Wextra -Wshadow=local -Wstrict-prototypes -Wmissing-prototypes \
	-Wformat=2 -Wwrite-strings -Wno-unused-parameter -Wno-missing-field-initializers
CFLAGS ?= -O2 -g
HARDEN = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
ifdef SAN
HARDEN = -fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SAN)
endif
ifdef WERROR
WARNINGS += -Werror
endif
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -Iinclude -I. $(WARNINGS) $(HARDEN) $(CFLAGS) -MMD -MP \
	-DCIJ_LIBEXECDIR='"$(libexecdir)"'
# A program maps only the libraries it uses: that is where a client's start-up time goes.
ALL_LDFLAGS = -pie -Wl,--as-needed -Wl,-z,relro,-z,now $(LDFLAGS)

pkg = $(shell $(PKG_CONFIG) $(1) $(2))
PROTO_LIBS = $(call pkg,--libs,json-c)
DAEMON_LIBS = $(call pkg,--libs,libevent_core libevent_extra json-c libsystemd uuid) -lm
SSH_LIBS = $(call pkg,--libs,libssh ncursesw)

proto_src = $(wildcard proto/*.c)
daemon_src = $(wildcard daemon/*.c)
client_src = $(filter-out client/handoff.c client/ssh_%.c client/top%.c,$(wildcard client/*.c))
ssh_src = $(wildcard client/ssh_*.c client/top*.c)
unit_src = $(wildcard tests/unit/*.c)

# V=1 shows the commands.
ifdef V
say = @:
else
.SILENT:
say = @printf '  %-4s %s\n'
endif

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
programs = $(BUILD)/cijqemud $(BUILD)/cijqemuctl $(BUILD)/cijqemuctl-ssh
units = $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(unit_src))
pages = $(notdir $(wildcard client/man/*.[1-8]))
tools = $(BUILD)/tests/fake_qemu
fuzzers = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/*.c))
benches = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/bench/*.c))

# What the benchmarks compare with.
peers = conserver-server conserver-client conman libvirt-clients libvirt-daemon-system socat

.PHONY: all deb deps demo check check-unit check-integration check-long asan valgrind bench install uninstall fmt \
	lint layers clean help
.DEFAULT_GOAL := all

all: $(programs) ## build build/cijqemud and build/cijqemuctl

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(say) CC $<
	$(CC) $(ALL_CFLAGS) -c $< -o $@

$(BUILD)/libcijproto.a: $(call obj,$(proto_src))
	$(say) AR $@
	$(AR) rcs $@ $^

$(BUILD)/cijqemud: $(call obj,$(daemon_src)) $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(DAEMON_LIBS)

$(BUILD)/cijqemuctl: $(call obj,$(client_src) client/handoff.c) $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(PROTO_LIBS)

$(BUILD)/cijqemuctl-ssh: $(call obj,$(client_src) $(ssh_src)) $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(PROTO_LIBS) $(SSH_LIBS)

# Tests find their data and golden files from any folder.
$(BUILD)/tests/unit/%.o: HARDEN += -DTESTS_DIR='"$(CURDIR)/tests"'

# A unit test is linked with all of the daemon but its main(); client_*.c with the client's.
$(BUILD)/tests/unit/client_%: $(BUILD)/tests/unit/client_%.o \
		$(call obj,$(filter-out client/main.c,$(client_src)) client/handoff.c) \
		$(BUILD)/libcijproto.a
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(PROTO_LIBS) $(call pkg,--libs,cmocka)

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(call obj,$(filter-out daemon/main.c,$(daemon_src))) \
		$(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(DAEMON_LIBS) $(call pkg,--libs,cmocka)

# A fuzzer has the parsers of both programs.
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(call obj,$(filter-out daemon/main.c,$(daemon_src)) \
		client/ctlfilter.c client/ssh_sftp_packet.c client/ssh_tar.c) $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer $^ -o $@ $(DAEMON_LIBS)

$(BUILD)/tests/fake_qemu: $(call obj,$(wildcard tests/fake/*.c)) $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(PROTO_LIBS)

$(BUILD)/tests/bench/ssh_true: LDLIBS = $(SSH_LIBS)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libcijproto.a
	$(say) LD $@
	$(CC) $(ALL_LDFLAGS) $^ -o $@ $(PROTO_LIBS) $(LDLIBS)

deps: ## install what building and the demo need (Debian packages)
	@.ci/deps

.PHONY: check-deps
check-deps:
	@.ci/deps check

demo: deps ## define, start, use and remove a guest before your eyes (KEEP=1 leaves it running)
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) KEEP=$(KEEP) tests/demo.sh

check: check-deps ## run all tests
	@$(MAKE) --no-print-directory check-built

check-long: check-deps ## run the tests that take minutes
	@.ci/deps dosfstools fdisk genext2fs mmdebstrap mtools syslinux syslinux-common
	@$(MAKE) --no-print-directory MARK=long TESTS="integration system" check-built
	@$(MAKE) --no-print-directory fuzz

fuzz: deps ## feed each parser odd input for FUZZ_SECONDS (5), FUZZ_JOBS (1) at a time; FUZZ=NAME for one
	@.ci/deps clang libclang-rt-dev
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang SAN=address,undefined,fuzzer-no-link \
		CFLAGS="-O1 -g" WARNINGS= fuzz-built

.PHONY: fuzz fuzz-built
fuzz-built: $(fuzzers)
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_JOBS=$(FUZZ_JOBS) tests/fuzz/run.sh $(FUZZ)

.PHONY: check-built
check-built: all $(units) $(tools) layers
	@BUILD=$(BUILD) MARK="$(MARK)" tests/run.sh $(TESTS)

asan: check-deps ## run all tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SAN=address,undefined CFLAGS="-O1 -g" check-built

# A few of all, that take five minutes: it is slow.
valgrind: deps ## run some integration tests with the daemon under valgrind
	@$(MAKE) --no-print-directory all $(tools)
	@CIJ_WRAP="valgrind -q --vgdb=no --leak-check=full --show-leak-kinds=definite --error-exitcode=99" \
		BUILD=$(BUILD) tests/run.sh $(foreach topic,start client bad_input qmp monitor sockets,\
		integration/test_$(topic).py) --timeout 600

bench: deps ## measure it beside what it replaces (BENCH=TOPIC for some, QUICK=1 for short)
	@.ci/deps $(peers)
	@$(MAKE) --no-print-directory all $(tools) $(benches)
	@BUILD=$(BUILD) tests/bench/run.sh $(BENCH)

layers: ## check that each file of the daemon includes its own layer or a lower one
	@tests/layers.sh

install: all ## install under $(DESTDIR)$(PREFIX)
	install -D -m 755 $(BUILD)/cijqemud $(DESTDIR)$(bindir)/cijqemud
	install -D -m 755 $(BUILD)/cijqemuctl $(DESTDIR)$(bindir)/cijqemuctl
	install -D -m 755 $(BUILD)/cijqemuctl-ssh $(DESTDIR)$(libexecdir)/cijqemuctl-ssh
	for page in $(pages); do \
		install -D -m 644 client/man/$$page $(DESTDIR)$(mandir)/man$${page##*.}/$$page; \
	done
	install -D -m 644 client/completions/cijqemuctl.bash $(DESTDIR)$(bashdir)/cijqemuctl
	install -D -m 644 client/completions/cijqemuctl.fish $(DESTDIR)$(fishdir)/cijqemuctl.fish
	install -D -m 644 client/completions/_cijqemuctl $(DESTDIR)$(zshdir)/_cijqemuctl
	@DESTDIR="$(DESTDIR)" bindir="$(bindir)" unitdir="$(unitdir)" userunitdir="$(userunitdir)" \
		sysusersdir="$(sysusersdir)" tmpfilesdir="$(tmpfilesdir)" systemd/install.sh
	install -D -m 755 -t $(DESTDIR)$(cijoedir) client/cijoe/*.sh

uninstall: ## remove what 'install' put there
	rm -f $(DESTDIR)$(bindir)/cijqemud $(DESTDIR)$(bindir)/cijqemuctl
	rm -f $(DESTDIR)$(libexecdir)/cijqemuctl-ssh
	for page in $(pages); do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$$page; done
	rm -f $(DESTDIR)$(bashdir)/cijqemuctl $(DESTDIR)$(fishdir)/cijqemuctl.fish
	rm -f $(DESTDIR)$(zshdir)/_cijqemuctl
	rm -rf $(DESTDIR)$(cijoedir)
	-rmdir $(DESTDIR)$(libexecdir) 2>/dev/null
	@DESTDIR="$(DESTDIR)" bindir="$(bindir)" unitdir="$(unitdir)" userunitdir="$(userunitdir)" \
		sysusersdir="$(sysusersdir)" tmpfilesdir="$(tmpfilesdir)" systemd/install.sh remove

deb: deps ## build a Debian package in build/deb
	@.ci/deps debhelper dpkg-dev fakeroot
	@BUILD=$(BUILD) systemd/debian/build.sh

sources = $(wildcard include/cijqemu/*.h proto/*.[ch] daemon/*.[ch] client/*.[ch] tests/fake/*.[ch] \
	tests/unit/*.[ch] tests/bench/*.c tests/fuzz/*.[ch] \
	tests/guest/*.c tests/integration/*.c)
fmt: ## lay the sources out by .clang-format
	clang-format -i $(sources)

lint: check-deps layers ## clang-format, cppcheck, gcc -fanalyzer, shellcheck and the layer check
	@CC="$(CC)" tests/lint.sh $(sources)

clean: ## remove what was built
	rm -rf $(BUILD)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
