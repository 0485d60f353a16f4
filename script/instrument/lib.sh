# shellcheck shell=bash
# What the instruments share, beyond script/lib.sh: packages of their own, a
# server built to find faults with, and the suites. Sourced, not run.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Installs packages, unless the command is there.
need()
{
	local command=$1
	shift

	command -v "$command" >/dev/null && return
	say "installing" "$@"
	as_root apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

# What is to be looked at after the copy is gone.
keep()
{
	local kept

	kept=$(mktemp -d --suffix=.apikeys-kept)
	cp -r "$@" "$kept" 2>/dev/null || true
	say "see $kept"
}

# ----- a server built to find faults with -----

# Fetches the source of PostgreSQL into a directory without touching the
# machine's own lists of packages: that of the release, as the security archive
# may no longer have what it names. Debian's patches, which would install into
# the distribution's server, are left out.
fetch_source()
{
	local lists=$1/lists name release
	local -a options=(-qq -o "Dir::State::Lists=$lists/state"
		-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$lists"
		-o APT::Sandbox::User=)

	mkdir -p "$lists/state/partial"
	sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources \
		>"$lists/debian.sources" 2>/dev/null ||
		sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$lists/debian.list"
	name=postgresql-$(postgresql_version)
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	(
		cd "$1"
		as_root apt-get "${options[@]}" update
		as_root apt-get "${options[@]}" source --download-only "$name/$release"
		tar -xf "$name"_*.orig.tar.*
	)
}

# Makes PG_CONFIG that of a server with assertions, which can discard its
# caches at every opportunity and tells valgrind about its memory. It is built
# once, which takes a few minutes, and kept for the next time.
use_fault_finding_server()
{
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/apikeys
	local -a flags=(--enable-cassert --enable-debug --enable-tap-tests
		--with-openssl --without-readline --without-zlib
		'CFLAGS=-O1 -g -fno-omit-frame-pointer' CPPFLAGS=-DUSE_VALGRIND)

	if [ -n "${PG_CONFIG:-}" ]; then
		"$PG_CONFIG" --configure | grep -q -e --enable-cassert ||
			die "PG_CONFIG=$PG_CONFIG has no assertions"
		return
	fi

	# The server runs as another user than root, who must be able to read it.
	if [ "$(id -u)" = 0 ]; then cache=/var/cache/apikeys; fi
	if [ ! -x "$cache/server/bin/pg_config" ]; then
		say "building a server in $cache"
		install_missing test
		need bison bison
		need flex flex
		need valgrind valgrind libc6-dbg
		choose_user
		rm -rf "$cache"
		mkdir -p "$cache/build"
		fetch_source "$cache/build"
		if [ "$(id -u)" = 0 ]; then chown -R "$run_user" "$cache"; fi
		# shellcheck disable=SC2016
		as_user sh -ec '
			cd "$1"/build/postgresql-*/
			prefix=$1/server
			shift
			./configure -q --prefix="$prefix" "$@"
			make -s -j "$(nproc)"
			make -s -C contrib -j "$(nproc)"
			make -s install
			make -s -C contrib install
			cp src/tools/valgrind.supp "$prefix"
		' build "$cache" "${flags[@]}" >"$cache/build.log" 2>&1 || die "see $cache/build.log"
		rm -r "$cache/build"
	fi
	export PG_CONFIG=$cache/server/bin/pg_config
}

# ----- the suites -----

# Changes settings, each "name = value", and restarts the server.
configure_server()
{
	printf '%s\n' "$@" | as_user tee -a "$work/data/postgresql.conf" >/dev/null
	as_user "$bindir/pg_ctl" -s -w -D "$work/data" -l "$work/server.log" restart
}

# Prints the one of these names that this server has for a setting.
setting()
{
	as_user "$bindir/psql" -X -q -At -d postgres \
		-c "SELECT name FROM pg_settings WHERE name IN ('$1', '$2')"
}

# What no server may say, whatever it is asked; those of the TAP tests may well
# be killed.
server_is_sound()
{
	! grep -arsE 'TRAP:|AddressSanitizer|runtime error:' "$work/server.log" tmp_check/log >&2 &&
		! grep -aE 'PANIC|terminated by signal' "$work/server.log" >&2
}

# Runs tests of a kind: "regress" or "isolation" on the running server, or
# "tap", which start their own; all, or those that are named.
run_tests()
{
	local kind=$1 status=0
	local -a lists=(REGRESS= ISOLATION= TAP_TESTS=)
	shift

	case $kind in
		regress) lists=(ISOLATION= TAP_TESTS= ${1:+"REGRESS=$*"}) ;;
		isolation) lists=(REGRESS= TAP_TESTS= ${1:+"ISOLATION=$*"}) ;;
		tap) lists=(REGRESS= ISOLATION= ${1:+"PROVE_TESTS=$*"}) ;;
	esac
	(
		[ "$kind" != tap ] || unset PGHOST PGPORT PGUSER
		as_user make -s -C "$work/src" PG_CONFIG="$pg_config" installcheck "${lists[@]}"
	) || status=$?
	server_is_sound || status=1
	[ "$status" = 0 ] ||
		keep regression.diffs regression.out results tmp_check/log "$work/server.log"
	return "$status"
}
