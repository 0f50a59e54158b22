#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# What the Makefile promises, in a copy of the tree, so that nobody's build is disturbed.

bats_require_minimum_version 1.5.0

# `make test` passes its own settings on; these trees have theirs.
settings_forget()
{
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES O V ARCH CC CFLAGS STATIC SAN DESTDIR PREFIX
}

setup_file()
{
	settings_forget
	command -v clang bpftool >/dev/null || skip 'no compiler here'
	cp -a Makefile bpf user tests tools vmlinux "$BATS_FILE_TMPDIR"
	mkdir "$BATS_FILE_TMPDIR/skel"
	cd "$BATS_FILE_TMPDIR" || return
	make >/dev/null
}

setup()
{
	settings_forget
	cd "$BATS_FILE_TMPDIR" || return
}

@test "the binary is static and no larger than 4 MiB" {
	file tidemark | grep -E 'statically linked|static-pie linked'
	[ "$(stat -c %s tidemark)" -le $((4 << 20)) ]
}

@test "the binary under test is static and no larger than 4 MiB" {
	file "$TIDEMARK" | grep -E 'statically linked|static-pie linked'
	[ "$(stat -c %s "$TIDEMARK")" -le $((4 << 20)) ]
}

@test "a second make does nothing" {
	run make
	[ "$output" = "make: Nothing to be done for 'all'." ]
}

@test "a dynamic link is refused when a static one was asked for" {
	run ! make O=dynamic STATIC=-no-pie
	[[ $output == *'not static'* ]]
	[ ! -e dynamic/tidemark ]
}

@test "touching a BPF header rebuilds what includes it and nothing else" {
	local header=bpf/parse.bpf.h

	[ -e "$header" ] || skip "no $header"
	touch "$header"
	run make --no-print-directory
	[ "$status" = 0 ]
	[[ $output == *bpf/pipe.bpf.o* ]]
	[[ $output == *'LINK    ./tidemark'* || $output == *'LINK    tidemark'* ]]
	[[ $output != *bpf/trace.bpf.o* ]]
	[[ $output != *trace.skel.h* ]]
	[[ $output != *user/libelf.o* ]]
}

@test "O= holds the binary and the skeletons, and clean takes only what make made" {
	make O=other CFLAGS=-O0 >/dev/null
	[ -x other/tidemark ]
	ls other/skel/*.skel.h
	touch other/mine
	make O=other clean >/dev/null
	[ "$(find other -type f)" = other/mine ]
	[ -x tidemark ]
}

@test "install puts four files under DESTDIR and PREFIX, and uninstall takes them away" {
	make install DESTDIR="$PWD/root" PREFIX=/opt/tide >/dev/null
	diff <(cd root/opt/tide && find . -type f | LC_ALL=C sort) - <<-EOF
	./bin/tidemark
	./lib/systemd/system/tidemark.service
	./share/bash-completion/completions/tidemark
	./share/man/man8/tidemark.8
	EOF
	grep -x 'ExecStart=/opt/tide/bin/tidemark run' root/opt/tide/lib/systemd/system/*
	[ -z "$(find root -type f -empty)" ]
	make uninstall DESTDIR="$PWD/root" PREFIX=/opt/tide >/dev/null
	[ -z "$(find root -type f)" ]
}

@test "everything compiles for arm64" {
	command -v aarch64-linux-gnu-gcc || skip 'no cross-compiler: tools/setup --cross'
	make arm64 CFLAGS=-O0 >/dev/null
	file .arm64/user/main.o | grep aarch64
	file .arm64/tidemark.o | grep eBPF
}

@test "setup finds nothing to do when everything is there" {
	run tools/setup
	[ "$status" = 0 ]
	[ -z "$output" ]
}
