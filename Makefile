# Makefile for apikeys: make && make install && make installcheck

EXTENSION = apikeys
MODULE_big = apikeys
PGFILEDESC = "apikeys - a product's API keys, kept in the database"

DATA = sql/apikeys--*.sql

OBJS = \
	src/apikeys.o \
	src/cache.o \
	src/catalog.o \
	src/check.o \
	src/digest.o \
	src/guard.o \
	src/manage.o \
	src/members.o \
	src/principal.o \
	src/statement.o \
	src/usage.o \
	src/usage_funcs.o \
	src/usage_worker.o \
	src/value.o \
	src/value_funcs.o \
	src/verify.o

# The names of the two kinds must not collide: they share expected/.
REGRESS = \
	install \
	value \
	create \
	verify \
	list \
	update \
	delete \
	legacy \
	members \
	principal \
	privileges \
	errors \
	limits \
	usage \
	selfcheck \
	security_names \
	security_seeing \
	security_being \
	security_rights \
	security_values \
	security_now

ISOLATION = \
	race_create \
	race_delete \
	race_expire \
	race_lower \
	race_plan \
	race_prepare \
	race_remove \
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

# The version has one place, the control file.
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'$$/\1/p" $(srcdir)/apikeys.control)

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
