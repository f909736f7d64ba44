#!/bin/sh
# Makes a container image out of a binary that is built: the binary, the libraries that it loads, the certificates of authorities that
# this machine believes, and nothing else. No image is pulled, no shell is in it.
#
#   cargo build --profile dist --package sheaf
#   deploy/container/build.sh target/dist/sheaf sheaf:0.1.0
#
# With --base FILE, an archive (tar) of a root file system, the image holds that too: for modules that wrap programs of a
# distribution, whose certificates it has then. One is made by
#   debootstrap --variant=minbase --include=rsyslog,wget,ca-certificates bookworm DIR && tar -C DIR -cf base.tar .
#
# Its agent runs as 65532:65532, to whom the data directory belongs: a volume that is made for it gets that owner, a directory of the
# host's that is mounted there must have it. Modules with `user` or `limits` need one that runs as root: `docker run --user 0`.
#
# Environment: CA_CERTIFICATES, a file of certificates in PEM in place of this machine's: by these servers are known where sinks, mail,
# traces and subtasks go by TLS.
set -eu

usage() {
  echo "usage: $0 [--base TAR] BINARY IMAGE" >&2
  exit 2
}

base=
if [ "${1-}" = --base ]; then
  [ $# -ge 2 ] || usage
  base=$2
  shift 2
fi
[ $# -eq 2 ] || usage
binary=$1
image=$2
[ -x "$binary" ] || { echo "$0: $binary is no program; build it: cargo build --profile dist --package sheaf" >&2; exit 1; }
[ -z "$base" ] || [ -r "$base" ] || { echo "$0: $base cannot be read" >&2; exit 1; }
for tool in docker ldd tar strip; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is missing" >&2; exit 1; }
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022

mkdir "$root/image"
owner="--owner=0 --group=0"
if [ -n "$base" ]; then
  [ "$(id -u)" = 0 ] || { echo "$0: with --base it must run as root, to keep the owners of files" >&2; exit 1; }
  tar -C "$root/image" -xpf "$base"
  owner=
fi
mkdir -p "$root/image/usr/bin" "$root/image/etc/sheaf" "$root/image/var/lib/sheaf" "$root/image/tmp"
cp "$binary" "$root/image/usr/bin/sheaf"
chmod 755 "$root/image/usr/bin/sheaf"
# As in the package: names of functions are of no use on a node.
strip --strip-all "$root/image/usr/bin/sheaf"
if [ -z "$base" ]; then
  # Where ldd names them, which is where the loader looks; the loader is among them.
  ldd "$binary" | sed -n 's|^[^/]*\(/[^ ]*\).*|\1|p' | while read -r library; do
    install -D -m 755 "$library" "$root/image$library"
  done
  # Names are looked up by these, which the C library loads by itself.
  for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
    path=$(ldd "$binary" | sed -n 's|.* => \(/[^ ]*\)/libc\.so.*|\1|p')/$library
    [ ! -e "$path" ] || install -D -m 755 "$path" "$root/image$path"
  done
  authorities=${CA_CERTIFICATES-/etc/ssl/certs/ca-certificates.crt}
  if [ -r "$authorities" ]; then
    install -D -m 644 "$authorities" "$root/image/etc/ssl/certs/ca-certificates.crt"
  else
    echo "$0: no $authorities, so the image believes no server: install ca-certificates, or set CA_CERTIFICATES" >&2
  fi
  printf 'root:x:0:0:root:/:/usr/sbin/nologin\nsheaf:x:65532:65532:Sheaf:/tmp:/usr/sbin/nologin\n' >"$root/image/etc/passwd"
  printf 'root:x:0:\nsheaf:x:65532:\n' >"$root/image/etc/group"
  printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$root/image/etc/nsswitch.conf"
fi

# A volume that is made here gets the owner of the directory: the agent is not root.
# shellcheck disable=SC2086
tar -C "$root/image" $owner --exclude=./var/lib/sheaf --exclude=./tmp -cf "$root/all.tar" .
tar -C "$root/image" --owner=65532 --group=65532 --mode=0711 --no-recursion -rf "$root/all.tar" ./var/lib/sheaf
tar -C "$root/image" --owner=0 --group=0 --mode=1777 --no-recursion -rf "$root/all.tar" ./tmp

# HOME: where `sheaf login` in the container writes its profile. The health check needs no token.
docker import \
  --change 'USER 65532:65532' \
  --change 'ENTRYPOINT ["/usr/bin/sheaf"]' \
  --change 'CMD ["agent"]' \
  --change 'ENV HOME=/tmp' \
  --change 'EXPOSE 7420' \
  --change 'EXPOSE 7421' \
  --change 'VOLUME /var/lib/sheaf' \
  --change 'HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/usr/bin/sheaf", "agent", "ready"]' \
  "$root/all.tar" "$image"
