# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # names shared with tools/vm
# Packages for tools/vm: kernels, QEMU and busybox, unpacked from Debian (and kernels that only
# Ubuntu has, as 5.15, from there) into the cache.
#
# Nothing is installed and no package source is added to the machine: apt works on a tree of its
# own under the cache, so this runs the same on Debian and Ubuntu. QEMU comes with every library it
# needs, down to the dynamic loader, because the machine's may be older or newer.

readonly suites=(bookworm bookworm-backports trixie trixie-backports sid)
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly apt=$cache/apt
readonly ubuntu=(jammy jammy-updates)
readonly ubuntu_keyring=$apt/ubuntu/usr/share/keyrings/ubuntu-archive-keyring.gpg

# Runs a command with the cache's lock NAME held.
with_lock()
{
	local name=$1 fd rc=0

	shift
	mkdir -p "$cache/locks"
	exec {fd}>"$cache/locks/$name"
	flock "$fd"
	"$@" {fd}>&- || rc=$?
	exec {fd}>&-
	return "$rc"
}

apt_configure()
{
	local suite key=

	mkdir -p "$apt"/{sources,lists/partial,cache/archives/partial}
	: >"$apt/status"
	rm -f "$apt/sources/ubuntu.list"
	[[ -r $keyring ]] && key="[signed-by=$keyring] "
	for suite in "${suites[@]}"; do
		echo "deb ${key}http://deb.debian.org/debian $suite main"
	done >"$apt/sources/debian.list"
	cat >"$apt/apt.conf" <<-EOF
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$apt/sources";
		Dir::Etc::preferences "$apt/preferences";
		Dir::Etc::preferencesparts "/dev/null";
		Dir::State "$apt";
		Dir::State::lists "$apt/lists";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "root";
		APT::Install-Recommends "false";
		Acquire::Languages "none";
	EOF
	# Kernels from anywhere, everything else from one release, or the libraries would not match.
	cat >"$apt/preferences" <<-EOF
		Package: *
		Pin: release n=bookworm-backports
		Pin-Priority: 100
	EOF
	for suite in trixie trixie-backports sid jammy; do
		printf '\nPackage: *\nPin: release n=%s\nPin-Priority: -1\n' "$suite"
	done >>"$apt/preferences"
	cat >>"$apt/preferences" <<-EOF

		Package: linux-image-* linux-binary-* linux-modules-*
		Pin: release c=main
		Pin-Priority: 500
	EOF
}

# Runs an apt command on our tree. Images for containers switch apt's cache of parsed lists off, and
# their setting is read after our file, so it is given here: without it each call takes seconds.
apt_run()
{
	APT_CONFIG=$apt/apt.conf "$@" -o Dir::Cache::pkgcache=pkgcache.bin
}

# Lists older than half a day are fetched again: kernels leave the pool with every point release. If
# that fails, an older list still serves, as long as what it names is cached.
apt_refresh()
{
	[[ -n $(find "$apt/fresh" -mmin -720 2>/dev/null) ]] && return
	apt_configure
	say "fetching package lists"
	if ! apt_run apt-get -qq -o APT::Update::Error-Mode=any update >"$apt/update.log" 2>&1; then
		say "package lists: $(tail -n 1 "$apt/update.log")"
		return 1
	fi
	ubuntu_refresh || say "no kernels of Ubuntu: $(tail -n 1 "$apt/update.log")"
	: >"$apt/fresh"
}

# Debian hands out the key that Ubuntu's lists are signed with. Without them all of Debian's kernels
# are still there, so this failing is no failure.
ubuntu_refresh()
{
	local suite

	[[ -r $ubuntu_keyring ]] ||
		deb_unpack "$apt/ubuntu" ubuntu-keyring >"$apt/update.log" 2>&1 || return
	for suite in "${ubuntu[@]}"; do
		echo "deb [signed-by=$ubuntu_keyring] http://archive.ubuntu.com/ubuntu $suite main"
	done >"$apt/sources/ubuntu.list"
	apt_run apt-get -qq -o APT::Update::Error-Mode=any update >"$apt/update.log" 2>&1 && return
	rm "$apt/sources/ubuntu.list"
	return 1
}

# Prints the package of the newest kernel of a series (`6.12`), or of all (`newest`): Debian's for
# clouds, and Ubuntu's where Debian has none of the series.
kernel_package()
{
	local series=$1 pattern='[0-9]+\.[0-9]+' names flavour

	[[ $series == newest ]] || pattern=${series//./\\.}
	[[ -r $apt/apt.conf ]] || return 1
	names=$(apt_run apt-cache pkgnames linux-image-)
	for flavour in cloud-amd64 generic; do
		grep -E "^linux-image-$pattern\.[0-9][^-]*(-[0-9]+)?-$flavour\$" <<<"$names" |
			sort -V | tail -n 1 | grep . && return
	done
}

# Prints the newest version of a series that is in the cache already: enough to work offline.
kernel_cached()
{
	local series=$1 dir

	for dir in "$cache"/kernels/*/ready; do
		[[ -e $dir ]] || continue
		dir=${dir%/ready}
		if [[ $series == newest || ${dir##*/} == "$series".* ]]; then
			echo "${dir##*/}"
		fi
	done | sort -V | tail -n 1 | grep .
}

# Fetches packages and unpacks them under DIR.
deb_unpack()
{
	local dir=$1 debs=$1.debs deb

	shift
	rm -rf "$debs" "$dir"
	mkdir -p "$debs" "$dir"
	(cd "$debs" && apt_run apt-get -qq download "$@") || return 1
	for deb in "$debs"/*.deb; do
		dpkg-deb -x "$deb" "$dir" || return 1
	done
	rm -rf "$debs"
}

# The modules a guest may want, decompressed, with dependency and alias tables of our own making:
# the packages leave that to a postinst. The guest's /lib is a link, so is the one here.
kernel_modules()
{
	local raw=$1 out=$2 version=$3 from part

	from=$(find "$raw" -type d -path "*/lib/modules/$version/kernel" -print -quit)
	[[ -n $from ]] || return 1
	mkdir -p "$out/usr/lib/modules/$version"
	ln -s usr/lib "$out/lib"
	for part in net drivers/net drivers/virtio drivers/char drivers/block fs lib crypto arch; do
		[[ -d $from/$part ]] && (cd "$from/.." && find "kernel/$part" -name '*.ko*')
	done | grep -vE '/(ethernet|wireless|bluetooth|sunrpc|btrfs|xfs|nfs|ceph)/' |
		tar -C "$from/.." -cf - -T - | tar -C "$out/lib/modules/$version" -xf - || return 1
	find "$out" -name '*.ko.xz' -exec xz -d {} + || return 1
	find "$out" -name '*.ko.zst' -exec zstd -q -d --rm {} + || return 1
	find "$raw" -name modules.builtin -exec cp {} "$out/lib/modules/$version/" \;
	"$(busybox_path)" depmod -b "$out" "$version"
}

kernel_unpack()
{
	local package=$1 version=$2
	local dir=$cache/kernels/$version names=("$package") vmlinuz

	[[ -e $dir/ready ]] && return
	say "fetching kernel $version"
	# From 6.19 on the image package is a stub and its parts are packages of their own.
	mapfile -t -O 1 names < <(apt_run apt-cache depends "$package" |
		sed -nE 's/^ *Depends: (linux-(binary|modules)-.*)/\1/p')
	rm -rf "$dir"
	deb_unpack "$dir/raw" "${names[@]}" || return 1
	vmlinuz=$(find "$dir/raw" -name 'vmlinuz*' -type f -print -quit)
	[[ -n $vmlinuz ]] && cp "$vmlinuz" "$dir/vmlinuz" || return 1
	kernel_modules "$dir/raw" "$dir/modules" "$version" || return 1
	rm -rf "$dir/raw"
	: >"$dir/ready"
}

# Makes a kernel ready and sets `version`; on failure sets `reason`, and `offline` if the network is
# what is missing.
kernel_fetch()
{
	local series=$1 package

	offline='' reason='' version=''
	with_lock apt apt_refresh || offline=1
	if ! package=$(kernel_package "$series") || [[ -n $offline ]]; then
		version=$(kernel_cached "$series") && return
		reason="no package of kernel $series"
		[[ -n $offline ]] && reason="no network, and kernel $series is not cached"
		return 1
	fi
	version=${package#linux-image-}
	with_lock tools busybox_fetch &&
		with_lock "kernel-$version" kernel_unpack "$package" "$version" && return
	# An older one of the series, from an earlier run, is better than none.
	version=$(kernel_cached "$series") && return
	reason="$package could not be fetched"
	return 1
}

busybox_path()
{
	echo "$cache/busybox/bin/busybox"
}

busybox_fetch()
{
	[[ -e $cache/busybox/ready ]] && return
	deb_unpack "$cache/busybox" busybox-static && : >"$cache/busybox/ready"
}

# QEMU 10 where Debian still has it for this release, else the release's own 7.2.
qemu_fetch()
{
	local dir=$cache/qemu deb release

	[[ -e $dir/ready ]] && return
	say "fetching QEMU"
	rm -rf "$dir" "$apt"/cache/archives/*.deb
	for release in bookworm-backports bookworm; do
		apt_run apt-get -qq -y --download-only -t "$release" \
			install qemu-system-x86 >"$apt/qemu.log" 2>&1 && break
	done
	mkdir -p "$dir"
	for deb in "$apt"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$dir" || return 1
	done
	rm -f "$apt"/cache/archives/*.deb
	qemu_run --version | sed -nE 's/.*version ([0-9]+)\..*/\1/p' >"$dir/major"
	[[ -s $dir/major ]] && : >"$dir/ready"
}

# QEMU through its own loader and libraries; replaces the (sub)shell it is called in.
qemu_run()
{
	local dir=$cache/qemu
	local libs=$dir/lib/x86_64-linux-gnu:$dir/usr/lib/x86_64-linux-gnu

	QEMU_MODULE_DIR=$dir/usr/lib/x86_64-linux-gnu/qemu \
		exec "$dir/lib64/ld-linux-x86-64.so.2" --library-path "$libs" \
		"$dir/usr/bin/qemu-system-x86_64" \
		-L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios" "$@"
}

# Kernel 6.12 double-faults under QEMU 7.2, whose cmpxchg16b seems wrong; newer kernels need it for
# BPF timers and storage, and QEMU 10 has it right. Delete with the last QEMU 7.
qemu_cpu()
{
	if [[ $1 == 6.12.* ]] && (($(<"$cache/qemu/major") < 10)); then
		echo max,-cx16
	else
		echo max
	fi
}
