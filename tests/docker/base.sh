#!/bin/sh
# Makes an archive of a small Debian with what the examples wrap, and with systemd: the root file system of test images. One that is
# there stays.
#
#   base.sh FILE
set -eu

[ $# -eq 1 ] || { echo "usage: $0 FILE" >&2; exit 2; }
out=$1
[ ! -s "$out" ] || exit 0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
debootstrap --variant=minbase --include=rsyslog,wget,metis,systemd,dbus "${suite:-bookworm}" "$dir/root" >"$dir/log" 2>&1 || {
  tail -n 20 "$dir/log" >&2
  exit 1
}
rm -rf "$dir"/root/var/cache/apt/* "$dir"/root/var/lib/apt/lists/* "$dir"/root/usr/share/doc "$dir"/root/usr/share/man \
  "$dir"/root/usr/share/locale "$dir"/root/dev
# Flume is no part of Sheaf, nor of Debian: what stands here sees that it is called as Flume would want it.
mkdir -p "$dir/root/opt/flume/bin" "$dir/root/dev"
cat >"$dir/root/opt/flume/bin/flume-ng" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --conf-file) conf=$2 ;; --name) name=$2 ;; esac; shift; done
grep -q "^$name.sources = in$" "$conf" || { echo "no agent $name in $conf"; exit 1; }
echo "$SHEAF_NODE runs agent $name of $conf"
exec sleep 100000
END
chmod 755 "$dir/root/opt/flume/bin/flume-ng"
tar -C "$dir/root" --one-file-system -cf "$out.new" .
mv "$out.new" "$out"
