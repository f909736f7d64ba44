#!/bin/sh
# Makes the Debian package out of a binary that is built: nothing but dpkg-deb, gzip and binutils is needed. (With cargo-deb
# installed, `cargo deb --profile dist --package sheaf` makes the same out of [package.metadata.deb] in crates/app/Cargo.toml.)
#
#   cargo build --profile dist --package sheaf
#   deploy/debian/build.sh target/dist/sheaf target
#
# Prints the path of the package. DEB_COMPRESS (xz, gzip, none) says how it is packed; default: xz, the smallest.
set -eu

usage() {
  echo "usage: $0 BINARY DIRECTORY" >&2
  exit 2
}

[ $# -eq 2 ] || usage
binary=$1
out=$2
[ -x "$binary" ] || { echo "$0: $binary is no program; build it: cargo build --profile dist --package sheaf" >&2; exit 1; }
[ -d "$out" ] || { echo "$0: $out is no directory" >&2; exit 1; }
for tool in dpkg-deb dpkg gzip objdump strip; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is missing; apt-get install dpkg gzip binutils" >&2; exit 1; }
done

here=$(cd "$(dirname "$0")" && pwd)
deploy=$(dirname "$here")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
chmod 755 "$root"

# put MODE SOURCE DESTINATION
put() {
  install -D -m "$1" "$2" "$root/$3"
}

put 755 "$binary" usr/bin/sheaf
# Names of functions are of no use on a node: a panic says file and line without them.
strip --strip-all "$root/usr/bin/sheaf"
put 644 "$deploy/agent.toml" etc/sheaf/agent.toml
put 644 "$deploy/systemd/sheaf.service" lib/systemd/system/sheaf.service
put 644 "$deploy/systemd/sheaf.sysusers" usr/lib/sysusers.d/sheaf.conf
put 644 "$deploy/systemd/sheaf.tmpfiles" usr/lib/tmpfiles.d/sheaf.conf
put 755 "$deploy/scripts/rolling-upgrade.sh" usr/share/sheaf/rolling-upgrade.sh
put 644 "$deploy/README.md" usr/share/doc/sheaf/README.md
put 644 "$deploy/security.md" usr/share/doc/sheaf/security.md
put 644 "$here/copyright" usr/share/doc/sheaf/copyright
for file in "$deploy"/examples/*.yaml; do
  put 644 "$file" "usr/share/doc/sheaf/examples/$(basename "$file")"
done
for file in "$deploy"/examples/http/*.yaml; do
  put 644 "$file" "usr/share/doc/sheaf/examples/http/$(basename "$file")"
done
for file in "$deploy"/observability/*; do
  put 644 "$file" "usr/share/doc/sheaf/observability/$(basename "$file")"
done

mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions"
"$binary" man --dir "$root/usr/share/man/man1" 2>/dev/null
gzip -9n "$root"/usr/share/man/man1/*
"$binary" completions bash >"$root/usr/share/bash-completion/completions/sheaf"

# The C library that the binary was linked with, or a newer one.
libc=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9][0-9.]*' | sort -Vu | tail -n 1 | cut -d_ -f2)
version=$("$binary" version -o name)
architecture=$(dpkg --print-architecture)
size=$(du -sk "$root" | cut -f1)
mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: sheaf
Version: $version
Architecture: $architecture
Maintainer: Sheaf
Installed-Size: $size
Depends: libc6 (>= $libc), libgcc-s1
Recommends: systemd, ca-certificates
Section: admin
Priority: optional
Homepage: https://github.com/sheaf/sheaf
Description: runs harvest and analytic technologies across a fleet of nodes
 One binary runs as an agent on every node. Every node decides for itself whether
 it may run something, and the cluster remembers who does: work that is for one
 node at a time gets exactly one, under a lease, and moves within seconds when
 that node is lost. Jobs have up to millions of subtasks.
END
echo /etc/sheaf/agent.toml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -print | LC_ALL=C sort | sed 's|^\./||' | xargs md5sum) \
  >"$root/DEBIAN/md5sums"

package="$out/sheaf_${version}_${architecture}.deb"
dpkg-deb --root-owner-group "-Z${DEB_COMPRESS:-xz}" --build "$root" "$package" >/dev/null
echo "$package"
