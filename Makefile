# Makefile for apikeys: make && make install && make installcheck

EXTENSION = apikeys
MODULE_big = apikeys
PGFILEDESC = "apikeys - a product's API keys, kept in the database"

# The version has one place, the control file.
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'$$/\1/p" $(srcdir)/apikeys.control)

# The install script is put together from its parts, in this order.
SQL_PARTS = \
	begin \
	values \
	labels \
	tables \
	rules \
	principal \
	policies \
	views \
	usage \
	keys \
	application \
	owner \
	history \
	leaks \
	grants \
	selfcheck \
	end

DATA_built = sql/apikeys--$(EXTVERSION).sql

OBJS = \
	src/apikeys.o \
	src/cache.o \
	src/carry.o \
	src/catalog.o \
	src/change.o \
	src/check.o \
	src/db_role.o \
	src/digest.o \
	src/find.o \
	src/find_funcs.o \
	src/grants.o \
	src/guard.o \
	src/history.o \
	src/history_change.o \
	src/history_read.o \
	src/history_seal.o \
	src/history_verify.o \
	src/history_worker.o \
	src/identity.o \
	src/label.o \
	src/lookup.o \
	src/manage.o \
	src/members.o \
	src/page.o \
	src/principal.o \
	src/redact.o \
	src/revoke.o \
	src/rights.o \
	src/row.o \
	src/scanner.o \
	src/statement.o \
	src/trigger.o \
	src/usage.o \
	src/usage_file.o \
	src/usage_funcs.o \
	src/usage_launcher.o \
	src/usage_shmem.o \
	src/usage_slots.o \
	src/usage_worker.o \
	src/value.o \
	src/value_funcs.o \
	src/verify.o \
	src/worker.o

# The names of the two kinds must not collide: they share expected/.
REGRESS = \
	install \
	value \
	create \
	verify \
	verify_altered \
	list \
	page \
	casts \
	update \
	delete \
	legacy \
	members \
	principal \
	principal_rights \
	principal_setting \
	privileges \
	find \
	errors \
	messages \
	limits \
	usage \
	history \
	history_seal \
	history_covert \
	selfcheck \
	selfcheck_grants \
	selfcheck_objects \
	selfcheck_settings \
	triggers \
	security_names \
	security_seeing \
	security_covert \
	security_being \
	security_db_role \
	security_sealing \
	security_rights \
	security_values \
	security_now \
	security_borrow

ISOLATION = \
	history_feed \
	race_announce \
	race_create \
	race_delete \
	race_expire \
	race_lower \
	race_plan \
	race_prepare \
	race_remove \
	race_replica \
	race_rotate \
	race_save \
	race_truncate \
	race_wait \
	security_stall

# expected/ is at the top, where both runners look for it in the directory they
# write to. PGXS has the isolation tests write elsewhere, so that is undone.
REGRESS_OPTS = --inputdir=test
ISOLATION_OPTS = --inputdir=test --outputdir=.

TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CPPFLAGS = -I$(srcdir)/src -DAPIKEYS_VERSION='"$(EXTVERSION)"'

# The digest is OpenSSL's where the server has it.
SHLIB_LINK += $(filter -lcrypto, $(LIBS))

# make WERROR=1: every warning about our own code, as an error. PostgreSQL's
# headers count as the system's, so that what they contain warns nobody.
ifdef WERROR
PG_CPPFLAGS += -isystem $(includedir_server)
PG_CFLAGS += -Wall -Wextra -Werror
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS does not follow includes: any header changes every object.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(srcdir)/src/*.h)

sql/apikeys--$(EXTVERSION).sql: $(srcdir)/sql/columns.awk $(srcdir)/src/tables.h $(SQL_PARTS:%=$(srcdir)/sql/parts/%.sql)
	mkdir -p sql
	awk -f $^ >$@
