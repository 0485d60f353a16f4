# shellcheck shell=bash
# What script/demo and script/test share: installing what is missing, building
# in a private copy, and a throwaway server. Sourced, not run.
#
# PostgreSQL refuses to run as root, so root builds and serves as an
# unprivileged user, who may be unable to read or write the work tree. Nothing
# is written to the work tree.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
superuser=postgres	# of the throwaway server, whoever runs it

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		command -v sudo >/dev/null || die "needs root or sudo for: $*"
		sudo "$@"
	fi
}

# Everything that does not install packages runs by this.
as_user()
{
	if [ "$(id -u)" = 0 ]; then
		runuser -u "$run_user" -- "$@"
	else
		"$@"
	fi
}

# The environment of the caller must not lead psql to another server, nor its
# language change what a test prints.
clean_environment()
{
	local name
	for name in $(compgen -e PG); do
		[ "$name" = PG_CONFIG ] || unset "$name"
	done
	export LC_ALL=C.UTF-8
	umask 022
}

# ----- installing what is missing -----

# Prints the newest installed pg_config that has both a server and what
# extensions are built with; nothing if there is none.
find_pg_config()
{
	local candidate
	for candidate in ${PG_CONFIG:-$(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null |
		sort -rV) pg_config}; do
		if [ -x "$("$candidate" --bindir 2>/dev/null)/initdb" ] &&
			[ -f "$("$candidate" --pgxs)" ] &&
			[ -d "$("$candidate" --includedir-server)" ]; then
			command -v "$candidate"
			return
		fi
	done
}

# Prints the major version to install: of the server that is here, or else the
# distribution's own.
postgresql_version()
{
	local here
	here=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
	if [ -n "$here" ]; then
		echo "$here" | cut -d / -f 5
	else
		apt-cache depends postgresql | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p'
	fi
}

# Packages to install, with @ for PostgreSQL's version; $1 is "test" for those which only tests need.
missing_packages()
{
	command -v cc >/dev/null && [ -f /usr/include/stdio.h ] || echo gcc libc6-dev
	command -v make >/dev/null || echo make
	[ -f /usr/include/openssl/evp.h ] || echo libssl-dev
	if [ -z "$(find_pg_config)" ]; then
		[ -z "${PG_CONFIG:-}" ] ||
			die "PG_CONFIG=$PG_CONFIG has no server or no development files"
		echo postgresql-@ postgresql-server-dev-@
	fi
	[ "$1" = test ] || return 0
	command -v prove >/dev/null || echo perl
	perl -MIPC::Run -e 1 2>/dev/null || echo libipc-run-perl
	command -v pg_bsd_indent >/dev/null ||
		[ -x "$(dirname "$(find_pg_config)")/pg_bsd_indent" ] || echo pg-bsd-indent
}

# Debian's package makes and starts a cluster of its own, which nobody asked
# for here. Where PostgreSQL already is, its configuration is left alone.
without_main_cluster()
{
	local conf=/etc/postgresql-common/createcluster.d/no-main-cluster.conf status=0

	if [ -d /etc/postgresql-common ]; then
		"$@"
	else
		as_root mkdir -p "${conf%/*}"
		echo 'create_main_cluster = off' | as_root tee "$conf" >/dev/null
		"$@" || status=$?
		as_root rm -r "${conf%/*}"
		return "$status"
	fi
}

install_missing()
{
	local packages version

	packages=$(missing_packages "$1")
	if [ -n "$packages" ]; then
		command -v apt-get >/dev/null || die "please install:" $packages
		as_root apt-get -qq update
		version=$(postgresql_version)
		packages=${packages//@/$version}
		# It has come with PostgreSQL since 17.
		apt-cache show pg-bsd-indent >/dev/null 2>&1 || packages=${packages/pg-bsd-indent/}
		say "installing" $packages
		without_main_cluster as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get -qq -y --no-install-recommends install $packages >/dev/null
	fi
	installed_pg_config=$(find_pg_config)
	[ -n "$installed_pg_config" ] || die "no PostgreSQL to build with was found"
}

# ----- the private copy -----

# As whom root builds and serves.
choose_user()
{
	run_user=nobody
	if id -u postgres >/dev/null 2>&1; then run_user=postgres; fi
}

# Makes $work, a directory of the user who runs the server.
make_work()
{
	choose_user

	# Root's own TMPDIR may be closed to others.
	base=${TMPDIR:-/tmp}
	as_user test -w "$base" || base=/tmp
	export TMPDIR=$base

	work=$(as_user mktemp -d --suffix=.apikeys)
	export HOME=$work	# no start-up file of the caller
	socket=$work
	[ "${#socket}" -lt 85 ] || die "TMPDIR is too long for the path of a socket: $base"
}

# Archives what git would see of the work tree, so that neither stale objects nor
# the results of earlier runs come along.
print_tree()
{
	tar -C "$top" --exclude-vcs --exclude-vcs-ignores -cf - .
}

copy_tree()
{
	as_user mkdir "$work/src"
	print_tree | as_user tar -C "$work/src" --no-same-owner --no-same-permissions -xf -
	cd "$work/src"
}

# Copies the server's programs, libraries and data, so that the extension is
# installed beside them and not into the machine's own server, which may be in
# use. PostgreSQL finds its files by where its programs are, so the directories
# keep their places under $work/server. What is only read is linked.
copy_server()
{
	local what from to

	for what in bindir pkglibdir sharedir includedir-server includedir libdir; do
		from=$("$installed_pg_config" "--$what")
		to=$work/server$from
		[ ! -e "$to" ] || continue
		as_user mkdir -p "${to%/*}"
		case "$what" in
			bindir | pkglibdir | sharedir) as_user cp -rL "$from" "$to" ;;
			*) as_user ln -s "$from" "$to" ;;
		esac
	done
	bindir=$work/server$("$installed_pg_config" --bindir)
	pg_config=$bindir/pg_config
	export PATH=$bindir:$PATH
}

build_and_install()
{
	local -a make=(make -s -C "$work/src" PG_CONFIG="$pg_config")

	as_user "${make[@]}" -j "$(nproc)" WERROR="${WERROR:-}"
	as_user "${make[@]}" install
}

# Prints a list of the Makefile, on one line.
makefile_list()
{
	as_user make -s -C "$work/src" PG_CONFIG="$pg_config" --eval "print: ; @echo \$($1)" print
}

# ----- the throwaway server -----

start_server()
{
	as_user "$bindir/initdb" -D "$work/data" -U "$superuser" --auth=trust \
		--encoding=UTF8 --locale=C --no-sync >"$work/initdb.log" ||
		{ cat "$work/initdb.log" >&2; die "initdb failed"; }
	as_user tee -a "$work/data/postgresql.conf" >/dev/null <<-EOF
		listen_addresses = ''
		unix_socket_directories = '$socket'
		fsync = off
		max_prepared_transactions = 10
		wal_level = logical
	EOF
	export PGHOST=$socket PGPORT=5432 PGUSER=$superuser
	as_user "$bindir/pg_ctl" -s -w -D "$work/data" -l "$work/server.log" start ||
		{ cat "$work/server.log" >&2; die "the server did not start"; }
}

# For trap: the server and the copy are gone however the script ends.
clean_up()
{
	local status=$?

	cd /
	if [ -n "${work:-}" ]; then
		if [ -f "$work/data/postmaster.pid" ]; then
			as_user "$bindir/pg_ctl" -s -m immediate -D "$work/data" stop 2>/dev/null || true
		fi
		as_user rm -rf "$work"
	fi
	return "$status"
}

# Everything up to a running server. $1 is passed on to install_missing.
set_up()
{
	clean_environment
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	install_missing "$1"
	make_work
	copy_server
	copy_tree
}
