# SPDX-License-Identifier: GPL-2.0-only
# Builds ./tidemark, one static binary, and everything around it; `make help` lists the targets.

# O=DIR puts everything, skeletons and binary too, into DIR: trees of other flags live side by side.
B       := $(or $(O),.build)
S       := $(if $(O),$(O)/)skel
BIN     := $(or $(O),.)/tidemark
HOST    := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
ARCH    ?= $(HOST)
PREFIX  ?= /usr/local
STATIC  ?= -static
CFLAGS  ?= -O2 -g -fno-asynchronous-unwind-tables
CLANG   ?= clang
OBJCOPY ?= objcopy
ifeq ($(origin CC),default)
CC      := gcc
endif
# Ubuntu's /usr/sbin/bpftool serves the running kernel only; what it wraps serves any.
BPFTOOL ?= $(lastword bpftool $(wildcard /usr/sbin/bpftool /usr/lib/linux-tools-*/bpftool))

Q       := $(if $(V),,@)
say      = @$(if $(V),:,printf '  %-8s%s\n' $1 $2); mkdir -p $(@D)
WARN    := -Wall -Wextra $(if $(filter true,$(CI)),-Werror)
GUARD   := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
DEPS     = -MMD -MP
BPFLAGS := -std=gnu11 $(WARN) -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) \
	   -Wno-unused-parameter -Ibpf -Ivmlinux
COMPILE  = $(CC) -std=gnu11 $(WARN) $(CFLAGS) $(GUARD) -I. -I$S -I$B $(DEPS) -c $< -o $@
# libelf.a of ours comes last: it serves only a libelf whose own static archive is incomplete.
LDLIBS  := -lbpf -lelf -lz -lzstd -ljansson -lcyaml -lyaml -levent -lsodium -lmbedtls -lmbedx509 \
	   -lmbedcrypto -lpthread -lxxhash -lm
LINK     = $(CC) $(CFLAGS) $(GUARD) $(STATIC) -Wl,--gc-sections $(LDFLAGS) -o $@ \
	   $(filter %.o,$^) $(LDLIBS) $(filter %.a,$^)
SUB      = +$(Q)$(MAKE) --no-print-directory

# Link groups: relocating by the kernel's BTF costs 10 to 18 ms; those that need it are
# loaded by themselves. Of report and tcp one is, and only where reports are wanted.
ALONE   := trace older report tcp
PIPE    := $(filter-out $(ALONE:%=$B/bpf/%.bpf.o),$(patsubst %.c,$B/%.o,$(wildcard bpf/*.bpf.c)))
SKEL    := $(if $(PIPE),$S/tidemark.skel.h) $(ALONE:%=$S/%.skel.h)
DATA    := $(patsubst %,$B/%.o,$(wildcard user/*.json user/*.html user/*.css user/*.js))
PACKED  := $(SKEL:$S/%.skel.h=$B/%.zst.o)
OBJ     := $(patsubst %.c,$B/%.o,$(filter-out user/libelf.c,$(wildcard user/*.c))) $(DATA) $(PACKED)
PARTS   := $(filter-out $B/user/main.o,$(OBJ)) $B/user/libelf.a
PKT     := $(patsubst %.c,$B/%.o,$(wildcard tests/pkt.c tests/rig.c tests/spoil.c))
program  = $(patsubst %.c,$1/%,$(wildcard tests/$2_*.c))
PROGRAMS := $(foreach k,unit pkt bench fuzz gen,$(call program,$B,$k))
NAMED   := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1)
VERSION := \#define VERSION "$(NAMED)"

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: FORCE all help setup demo test test-kernels test-arm64 check million bench fuzz style \
	sanitize arm64 objects programs units packets fuzzers install uninstall clean vmlinux

all: $(BIN) ## build ./tidemark (O=DIR: there; V=1: aloud; CI=true: warnings are errors)

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## install what building and testing need (root; stock packages only)
	$(Q)tools/setup

demo: setup ## set up, build, watch three containers talk in causal order (root)
	$(SUB) all
	$(Q)TIDEMARK=$(BIN) tools/demo

test: setup ## set up, build, run every suite (root)
	$(Q)tools/setup --runtimes || echo 'setup: labs with container runtimes will skip' >&2
	$(SUB) programs
	$(Q)TIDEMARK=$(BIN) BUILD=$B tools/test

test-kernels: ## the same suites in virtual machines of packaged kernels (root)
	$(Q)tools/setup --kernels
	$(SUB) programs
	$(Q)TIDEMARK=$(BIN) BUILD=$B tools/vm matrix $(KERNELS)

check: all units packets ## quick: unit and packet tests (root)
	$(Q)TIDEMARK=$(BIN) BUILD=$B tools/test unit packet

million: all packets ## a million messages among three hosts that are hours apart (root; MESSAGES=N)
	$(Q)MESSAGES=$(or $(MESSAGES),1000000) TIDEMARK=$(BIN) BUILD=$(abspath $B) \
		tools/test --world bats tests/million.bats

bench: all packets $(call program,$B,bench) ## what things cost, as ratios side by side (root)
	$(Q)for b in $(call program,$B,bench); do \
		TIDEMARK=$(BIN) tools/test --world $$b || exit; done

fuzz: fuzzers ## fuzz every parser for FUZZ_SECONDS (600) each
	$(Q)FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) tools/test fuzz

style: ## formatting, shellcheck, SPDX lines, headers that compile alone
	$(Q)tools/test style

sanitize: units ## .asan/tidemark, with address and undefined behaviour checked
	$(SUB) O=.asan SAN=address,undefined STATIC= all

arm64: ## cross-compile BPF and userspace to objects in .arm64 (tools/setup --cross)
	$(SUB) O=.arm64 ARCH=arm64 CC=aarch64-linux-gnu-gcc \
		CFLAGS='$(CFLAGS) -idirafter /usr/include' objects

test-arm64: ## what needs no kernel, as arm64, emulated: unit tests, merge, check, query (root)
	$(Q)tools/setup --cross
	$(SUB) all packets
	$(Q)TIDEMARK=$(abspath $(BIN)) BUILD=$B tools/arm64

objects: $(OBJ) $(SKEL)

programs: all units packets fuzzers

units:
	$(SUB) O=.asan SAN=address,undefined STATIC= objects $(call program,.asan,unit)

packets: $(call program,$B,pkt) $(call program,$B,gen)

fuzzers:
	$(SUB) O=.fuzz SAN=address,undefined,fuzzer-no-link STATIC= CC=$(CLANG) \
		objects $(call program,.fuzz,fuzz)

$(BIN): $(OBJ) $B/user/libelf.a
	$(call say,LINK,$@)
	$(Q)$(LINK)
	$(Q)$(if $(STATIC),! readelf -lW $@ | grep INTERP || { echo '$@: not static'; false; })
	$(Q)$(if $(SAN),,$(OBJCOPY) --only-keep-debug $@ $B/tidemark.debug && \
		$(OBJCOPY) --strip-all --add-gnu-debuglink=$B/tidemark.debug $@)

$B/%.bpf.o: %.bpf.c
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPFLAGS) $(DEPS) -c $< -o $@

$B/tidemark.o: $(PIPE)
$(foreach a,$(ALONE),$(eval $B/$a.o: $B/bpf/$a.bpf.o))
$B/bench.o: $B/tests/bench.bpf.o
$B/tidemark.o $(ALONE:%=$B/%.o) $B/bench.o:
	$(call say,JOIN,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

$S/%.skel.h: $B/%.o user/object.h
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@
	$(Q)sed -i '/__elf_bytes(size_t \*sz)$$/,/^}$$/d' $@
	$(Q)printf '\n#include "user/object.h"\nOBJECT($*)\n' >>$@

# The object itself, packed; the skeleton ends in how it is unpacked.
$B/%.zst: $B/%.o
	$(call say,PACK,$@)
	$(Q)zstd -q -19 -f $< -o $@

$(PACKED) $B/bench.zst.o: %.o: % user/data.S
	$(call say,DATA,$@)
	$(Q)$(CC) -DNAME=data_$(subst .,_,$(notdir $*)) -DFILE='"$<"' -c user/data.S -o $@

$B/%.o: %.c | $(SKEL) $B/version.h
	$(call say,CC,$@)
	$(Q)$(COMPILE)

# A file as bytes: user/a.b.json is data_a_b_json_start to data_a_b_json_end.
$(DATA): $B/%.o: % user/data.S
	$(call say,DATA,$@)
	$(Q)$(CC) -DNAME=data_$(subst -,_,$(subst .,_,$(notdir $*))) -DFILE='"$<"' \
		-c user/data.S -o $@

$B/user/libelf.a: $B/user/libelf.o
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rc $@ $<

$(PROGRAMS): $B/%: $B/%.o $(PARTS)
	$(call say,LINK,$@)
	$(Q)$(LINK)
$(filter-out $B/tests/unit_%,$(PROGRAMS)): $(PKT)
$(patsubst %,$B/tests/%,unit_order bench_merge bench_clocks): $B/tests/world.o
$(filter $B/tests/bench_%,$(PROGRAMS)): $B/tests/bench.o $B/bench.zst.o
$B/tests/bench.o: $S/bench.skel.h
$(filter $B/tests/fuzz_%,$(PROGRAMS)): LDFLAGS += -fsanitize=fuzzer

# Rewritten only when what git says has changed, so that a second make finds nothing to do.
ifneq ($(file <$B/version.h),$(VERSION))
$B/version.h: FORCE
endif
$B/version.h:
	@mkdir -p $(@D) && echo '$(VERSION)' >$@

SHARE    = $(DESTDIR)$(PREFIX)/share
MAN      = $(SHARE)/man/man8/tidemark.8
COMPLETE = $(SHARE)/bash-completion/completions/tidemark
SERVICE  = $(DESTDIR)$(PREFIX)/lib/systemd/system/tidemark.service

install: all ## binary, systemd unit, man page, completion (PREFIX, DESTDIR)
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/tidemark
	install -d $(dir $(MAN) $(COMPLETE) $(SERVICE))
	sed 's,@BIN@,$(PREFIX)/bin/tidemark,' tools/tidemark.service >$(SERVICE)
ifeq ($(ARCH),$(HOST))
	$(BIN) help --man >$(MAN)
	$(BIN) help --complete >$(COMPLETE)
else
	@echo 'left out: man page and completion, which a binary for $(ARCH) cannot print here'
endif

uninstall: ## what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/tidemark $(SERVICE) $(MAN) $(COMPLETE)

clean: ## what make made
	rm -rf $(addprefix $B/,bpf user tests version.h tidemark.o tidemark.debug \
		$(ALONE:%=%.o) bench.o *.zst *.zst.o) $S/*.skel.h $(BIN) \
		$(if $(O),,$B .asan .fuzz .arm64)

vmlinux: ## every type of this kernel in .build/vmlinux.h, to look fields up (never compiled in)
	$(Q)mkdir -p $B && BPFTOOL=$(BPFTOOL) vmlinux/dump >$B/vmlinux.h

-include $(wildcard $B/*/*.d)
