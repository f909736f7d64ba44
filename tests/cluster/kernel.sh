#!/bin/sh
# Fetches Debian's kernel for virtual machines, to be booted by qemu: nothing is installed. One that is there stays.
#
#   kernel.sh FILE
set -eu

[ $# -eq 1 ] || { echo "usage: $0 FILE" >&2; exit 2; }
out=$1
[ ! -s "$out" ] || exit 0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# The package of this name has no file but asks for the one that has it.
fetch() {
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
  [ -n "$package" ] && (cd "$dir" && apt-get -o APT::Sandbox::User=root download -qq "$package")
}
# An index that is not there, or too old, is the usual reason.
fetch || { apt-get update -qq && fetch; }
dpkg-deb --extract "$dir"/*.deb "$dir/root"
cp "$dir"/root/boot/vmlinuz-* "$out.new"
mv "$out.new" "$out"
