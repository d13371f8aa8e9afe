#!/bin/sh
# Builds the Debian packages from what an sdist holds, with Debian 12's own tools.
#
#   packaging/build-deb.sh [output directory, by default out/debian]
#
# The same tree gives the same bytes: file times are those of debian/changelog, and the wheels that
# vmib-agent brings are known by their hashes. Only their first download needs a network.
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/debian}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$out/build.log

wheels=$PWD/.cache/wheels
get_wheels() {
    .venv/bin/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r packaging/debian/vendor.txt -d "$wheels" "$@"
}
get_wheels --no-index --find-links "$wheels" 2>/dev/null || get_wheels

.venv/bin/python - "$work" >"$log" 2>&1 <<'END' || { tail -30 "$log" >&2; exit 1; }
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]))
END
mkdir "$work/vmib"
tar -xf "$work"/vmib-*.tar.gz -C "$work/vmib" --strip-components=1
cd "$work/vmib"
cp -r packaging/debian debian
mkdir debian/vendor
sed -n 's/^\([a-z0-9]*\)==\([0-9.]*\) .*/\1-\2/p' debian/vendor.txt | while read -r name; do
    cp "$wheels/$name"-*.whl debian/vendor/
done

unset PYTHONPATH PYTHONDONTWRITEBYTECODE
PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TZ=UTC \
    dpkg-buildpackage --build=binary --no-sign >>"$log" 2>&1 || { tail -30 "$log" >&2; exit 1; }
cp "$work"/*.deb "$work"/*.buildinfo "$work"/*.changes "$out"
ls "$out"/*.deb
