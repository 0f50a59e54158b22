# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # names shared with tools/vm
# Guest images for tools/vm: an initramfs of newc archives: host userland, modules and the job.
#
# The kernel unpacks any number of archives put one after the other, so the large parts are made
# once and cached. They stay uncompressed: an emulated CPU decompresses slower than it copies.

# What the guest loads at boot; everything else in guest_modules loads when the kernel asks for it.
readonly boot_modules=(virtio_pci virtio_console virtio_net veth sch_ingress cls_bpf act_bpf bridge
	tun 8021q vxlan dummy nf_conntrack overlay)
readonly guest_modules='virtio_(pci|console|net)|veth|dummy|bridge|br_netfilter|tun|tap|8021q|vxlan|
geneve|mac.lan|macvtap|ipvlan|ifb|vrf|wireguard|bonding|netkit|loop|overlay|fuse|nf_.*|nft_.*|
(sch|cls|act|em)_.*|nfnetlink.*|.*tables?(_.*)?|xt_.*|ip6?t_.*|ip_set.*|tcp_.*|tls|xfrm.*|esp[46]|
(udp|inet|unix|raw|netlink|af_packet)_diag|(ip|ip6)_(gre|tunnel|udp_tunnel)|udp_tunnel|ipip|sit|gre|
fou6?|mpls_.*|sctp'

# Adds what paths on stdin need to be usable: shared libraries and the targets of symbolic links.
pack_closure()
{
	local known new

	known=$(usr_merge | sort -u)
	new=$known
	while [[ -n $new ]]; do
		new=$({
			pack_libraries <<<"$new"
			pack_targets <<<"$new"
		} | usr_merge | sort -u | comm -13 <(echo "$known") -)
		[[ -n $new ]] && known=$(printf '%s\n%s\n' "$known" "$new" | sort -u)
	done
	echo "$known"
}

# /bin and its like are links into /usr wherever we run.
usr_merge()
{
	sed -E 's,^/(bin|sbin|lib|lib64)/,/usr/\1/,'
}

pack_libraries()
{
	tr '\n' '\0' |
		xargs -0 sh -c 'find "$@" -maxdepth 0 -type f \
			\( -perm /111 -o -name "*.so*" \) -print0' sh |
		xargs -0 -r ldd 2>/dev/null | sed -nE 's,^\s+(.*\s)?(/[^ ]+) \(0x.*,\2,p'
}

pack_targets()
{
	local path target

	while IFS= read -r path; do
		[[ -L $path ]] || continue
		target=$(readlink "$path")
		[[ $target == /* ]] || target=${path%/*}/$target
		target=$(realpath -sm "$target")
		[[ -e $target || -L $target ]] && echo "$target"
	done
}

# Writes the archive of paths on stdin, below /, with the directories above them.
pack_archive()
{
	sed 's,^/,,' | awk -F/ '
		{
			dir = ""
			for (i = 1; i < NF; i++) {
				dir = dir (i > 1 ? "/" : "") $i
				print dir
			}
			print
		}' | grep . | sort -u |
		(cd "${1:-/}" && "$(busybox_path)" cpio -o -H newc 2>/dev/null)
}

userland_paths()
{
	local kind names name

	while read -r kind names; do
		case $kind in
		package)
			for name in $names; do
				dpkg-query -L "$name" 2>/dev/null
			done | grep -E '^(/usr)?/s?bin/.'
			;;
		command)
			for name in $names; do
				type -P "$name"
			done
			;;
		tree)
			# shellcheck disable=SC2086 # the list may use patterns
			find $names \( -name test -o -name tests -o -name idlelib -o -name tkinter \
				-o -name lib2to3 -o -name ensurepip -o -name turtledemo \
				-o -name pydoc_data -o -name 'config-3.*' -o -name '*.log*' \) \
				-prune -o -print 2>/dev/null
			;;
		esac
	done < <(grep -v '^#' "$here/vm-userland.txt")
}

# What the host's files cannot give: a root directory, and tools a host can do without.
userland_skeleton()
{
	local dir=$1 name

	mkdir -p "$dir"/{dev,proc,sys,run,root,tmp,mnt,etc} "$dir"/var/{log,tmp,cache,lib} \
		"$dir"/usr/{bin,sbin,lib,lib64}
	chmod 1777 "$dir"/{tmp,var/tmp}
	for name in bin sbin lib lib64; do
		ln -s "usr/$name" "$dir/$name"
	done
	ln -s /run "$dir/var/run"
	ln -s /proc/self/mounts "$dir/etc/mtab"
	: >"$dir/etc/resolv.conf"
	printf '127.0.0.1 localhost tidemark\n::1 localhost\n' >"$dir/etc/hosts"
	cp "$(busybox_path)" "$dir/usr/bin/busybox"
	for name in modprobe insmod rmmod lsmod poweroff; do
		ln -s ../bin/busybox "$dir/usr/sbin/$name"
	done
	type -P ping >/dev/null || ln -s busybox "$dir/usr/bin/ping"
	install -m 755 "$here/vm-init" "$dir/init"
}

# Prints the userland archive, made anew when the host's packages, the list or our scripts change.
userland_archive()
{
	local key file

	key=$({
		dpkg-query -W
		cat "$here"/vm-{userland.txt,pack.bash,init}
	} | sha256sum | cut -c 1-16)
	file=$cache/userland-$key.cpio
	with_lock userland userland_build "$file" || return 1
	echo "$file"
}

userland_build()
{
	local file=$1 skeleton

	[[ -e $file ]] && return
	say "packing the userland"
	# Older ones may still be read by a run that started before; a day is longer than any run.
	find "$cache" -maxdepth 1 -name 'userland-*' -mmin +1440 -delete
	skeleton=$(mktemp -d "$cache/userland-XXXXXX") || return 1
	userland_skeleton "$skeleton"
	{
		# The skeleton goes last: its init and its links win over what the host has there.
		userland_paths | pack_closure | grep -vxE '/|/etc/(mtab|hosts|resolv.conf)' |
			pack_archive /
		(cd "$skeleton" && find . -mindepth 1 | sed 's,^\.,,') | pack_archive "$skeleton"
	} >"$file.new" && mv "$file.new" "$file"
	rm -rf "$skeleton"
}

modules_archive()
{
	local version=$1 key file

	key=$(echo "$guest_modules" "${boot_modules[@]}" | sha256sum | cut -c 1-16)
	file=$cache/kernels/$version/modules-$key.cpio
	with_lock "kernel-$version" modules_build "$version" "$file" || return 1
	echo "$file"
}

modules_build()
{
	local version=$1 file=$2
	local dir=$cache/kernels/$version/modules
	local base=lib/modules/$version pattern=${guest_modules//$'\n'/}

	[[ -e $file ]] && return
	mkdir -p "$dir/etc"
	printf '%s\n' "${boot_modules[@]}" >"$dir/etc/modules"
	{
		echo /etc/modules
		(cd "$dir" && find "$base" -maxdepth 1 -name 'modules.*' -printf '/%p\n')
		# A line of modules.dep is a module and everything it needs.
		grep -E "^[^:]*/($pattern)\.ko:" "$dir/$base/modules.dep" | tr -d : | tr ' ' '\n' |
			grep . | sed "s,^,/$base/,"
	} | usr_merge | sort -u >"$file.list"
	pack_archive "$dir" <"$file.list" >"$file.new" && mv "$file.new" "$file"
}

# Puts PATH[:GUESTPATH] into the job's tree, and the libraries of what it brings beside it.
job_add()
{
	local job=$1 path=${2%%:*} guest=${2#*:}

	[[ -e $path ]] || die "$path: no such file to pack"
	[[ $2 == *:* ]] || guest=$(realpath -s "$path")
	guest=/${guest#/}
	mkdir -p "$job/tree/$(dirname "$guest")"
	cp -a "$path" "$job/tree/$guest"
	find "$(realpath "$path")" -type f -perm /111 | pack_libraries >>"$job/libraries"
}

# Writes the initramfs of a job: DIR/tree, which must hold /vm/command, becomes DIR/initrd.
job_pack()
{
	local job=$1 version=$2 userland modules

	userland=$(userland_archive) && modules=$(modules_archive "$version") || return 1
	{
		cat "$userland" "$modules"
		[[ ! -s $job/libraries ]] ||
			sort -u "$job/libraries" | pack_closure | pack_archive /
		(cd "$job/tree" && find . -mindepth 1 | sed 's,^\.,,') | pack_archive "$job/tree"
	} >"$job/initrd"
}
