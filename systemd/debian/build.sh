#!/bin/sh
# 'make deb': builds the Debian package in $BUILD/deb from a copy of the sources, where these templates
# become debian/. DEBFULLNAME and DEBEMAIL say whose package it is.
set -eu
cd "$(dirname "$0")/../.."
build=$(realpath "${BUILD:-build}")
version=$(sed -n 's/^#define CIJ_VERSION "\(.*\)"$/\1/p' include/cijqemu/protocol.h)
maintainer="${DEBFULLNAME:-The cijqemud authors} <${DEBEMAIL:-cijqemud@users.noreply.github.com}>"
tree=$build/deb/cijqemu-$version
trap 'rm -rf "$tree"' EXIT

rm -rf "$build/deb"
mkdir -p "$tree"
# Without git there is nothing but the sources and what was built.
if git rev-parse --git-dir >/dev/null 2>&1; then
	git ls-files --cached --others --exclude-standard | while read -r file; do
		if [ -e "$file" ]; then echo "$file"; fi
	done | tar c -T - | tar x -C "$tree"
else
	find . -mindepth 1 -maxdepth 1 ! -name "$(basename "$build")" -exec cp -a -t "$tree" {} +
fi
cp -R systemd/debian "$tree/debian"
rm "$tree/debian/build.sh"

# What is built with is what .ci/deps installs, of that what a build needs.
libraries=$(grep -ohE '\blib[a-z0-9-]+-dev\b|\buuid-dev\b' .ci/deps | grep -vE 'cmocka|clang' | sort -u)
# shellcheck disable=SC2086 # libraries are words
sed -i "s/@maintainer@/$maintainer/; s/@build@/pkg-config, systemd$(printf ', %s' $libraries)/" \
	"$tree/debian/control"
{
	sed -n '/@license@/q;p' systemd/debian/copyright
	# The text of the licence, behind the lines with its name and the copyright.
	sed '1,/^Copyright/d; 1,/^$/{/^$/d}; s/^$/./; s/^/ /' LICENSE
} >"$tree/debian/copyright"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
when=$(date -R -d "@$SOURCE_DATE_EPOCH")
cat >"$tree/debian/changelog" <<END
cijqemu ($version) unstable; urgency=medium

  * Version $version.

 -- $maintainer  $when
END
mkdir -p "$tree/debian/source"
echo '3.0 (native)' >"$tree/debian/source/format"

cd "$tree"
# Nothing of our make's: its BUILD, above all, is no folder for the package's 'make clean'.
env -i PATH="$PATH" HOME="${HOME:-/}" LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
	DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS-}" dpkg-buildpackage --no-sign --build=binary \
	"-j$(nproc)" >"$build/deb/build.log" 2>&1 || {
	cat "$build/deb/build.log" >&2
	exit 1
}
echo "made $(ls "$build"/deb/cijqemu_*.deb)"
