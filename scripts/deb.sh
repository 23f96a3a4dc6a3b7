#!/bin/sh
# deb.sh - Debian packages of what `make install DESTDIR=OUT/stage PREFIX=/usr` has put there (make deb).
#
#   scripts/deb.sh OUT VERSION     writes OUT/bulkhead_*.deb, bulkhead-dev_*.deb, bulkhead-dbgsym_*.deb
#
# DEB_REVISION (1) and DEB_MAINTAINER are heeded. Same input, same bytes: times are the changelog's.
# Needs dpkg-dev and binutils; no debhelper, and no root.
set -eu

out=$1 version=$2-${DEB_REVISION:-1}
here=$(dirname "$0")/../packaging/debian
maintainer=${DEB_MAINTAINER:-Bulkhead maintainers <bulkhead@localhost>}
for tool in dpkg-deb dpkg-shlibdeps dpkg-architecture objcopy; do
    command -v $tool >/dev/null || { echo "deb: no $tool here; install dpkg-dev and binutils" >&2; exit 1; }
done
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

main=$out/bulkhead dev=$out/bulkhead-dev debug=$out/bulkhead-dbgsym

# move FROM TO PATH...
move() {
    from=$1 to=$2
    shift 2
    for path in "$@"; do
        mkdir -p "$to/$(dirname "$path")"
        mv "$from/$path" "$to/$path"
    done
}

# ---- Which file goes where
mv "$out/stage" "$main"
move "$main" "$dev" usr/include/bulkhead.h usr/share/pkgconfig usr/share/bulkhead/template usr/share/bulkhead/testing \
    usr/share/doc/bulkhead/plugin-guide.md
rmdir "$main/usr/include"
mv "$dev/usr/share/doc/bulkhead" "$dev/usr/share/doc/bulkhead-dev"

# Debug information apart, by build id: crash records name lines once bulkhead-dbgsym is there. The
# symbol tables stay, so that records name functions without it.
for object in "$main"/usr/bin/bulkhead "$main"/usr/lib/bulkhead/plugins/*.so; do
    id=$(readelf -n "$object" | sed -n 's/.*Build ID: //p')
    to=$debug/usr/lib/debug/.build-id/$(echo "$id" | cut -c1-2)
    mkdir -p "$to"
    objcopy --only-keep-debug --compress-debug-sections "$object" "$to/$(echo "$id" | cut -c3-).debug"
    chmod 644 "$to"/*.debug
    strip --strip-debug --remove-section=.comment "$object"
done

gzip -9n "$main"/usr/share/man/man*/*

# ---- What Debian wants of every package
document() { # PACKAGE FOLDER
    doc=$2/usr/share/doc/$1
    mkdir -p "$doc"
    cp "$here/copyright" "$doc/copyright"
    printf 'bulkhead (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" "$maintainer" \
        "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$doc/changelog.Debian.gz"
    [ ! -f "$doc/CHANGELOG.md" ] || mv "$doc/CHANGELOG.md" "$doc/changelog"
    [ -f "$doc/changelog" ] || cp CHANGELOG.md "$doc/changelog"
    gzip -9n "$doc/changelog"
    if [ -f "$here/$1.lintian-overrides" ]; then
        install -D -m 644 "$here/$1.lintian-overrides" "$2/usr/share/lintian/overrides/$1"
    fi
}

# What the objects are linked with, as "shlibs:Depends".
depends() { # OBJECT...
    dir=$(mktemp -d)
    mkdir "$dir/debian"
    printf 'Source: bulkhead\n\nPackage: bulkhead\nArchitecture: any\n' > "$dir/debian/control"
    (cd "$dir" && dpkg-shlibdeps --ignore-missing-info -O "$@" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
    rm -r "$dir"
}

build() { # PACKAGE FOLDER DEPENDS
    document "$1" "$2"
    mkdir -p "$2/DEBIAN"
    awk -v RS= -v want="$1" '$0 ~ "(^|\n)Package: " want "\n" || $0 ~ "(^|\n)Package: " want "$"' "$here/control" |
        sed -e "s|@version@|$version|" -e "s|@arch@|$arch|" -e "s|@maintainer@|$maintainer|" -e "s|@shlibs@|$3|" \
            -e "s|@size@|$(du -k -s --apparent-size --exclude=DEBIAN "$2" | cut -f1)|" > "$2/DEBIAN/control"
    for script in postinst prerm postrm; do
        [ ! -f "$here/$1.$script" ] || install -m 755 "$here/$1.$script" "$2/DEBIAN/$script"
    done
    if [ -d "$2/etc" ]; then
        (cd "$2" && find etc -type f | LC_ALL=C sort | sed 's|^|/|') > "$2/DEBIAN/conffiles"
    fi
    (cd "$2" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$2/DEBIAN/md5sums"
    find "$2" -type d -exec chmod 755 {} +
    find "$2" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$2" "$out/${1}_${version}_$arch.deb" >/dev/null
    rm -r "$2"
    echo "$out/${1}_${version}_$arch.deb"
}

shlibs=$(depends "$PWD/$main/usr/bin/bulkhead" "$PWD/$main"/usr/lib/bulkhead/plugins/*.so)
[ -n "$shlibs" ] || { echo "deb: dpkg-shlibdeps does not know what it needs" >&2; exit 1; }
build bulkhead "$main" "$shlibs"
build bulkhead-dev "$dev" ""
build bulkhead-dbgsym "$debug" ""
