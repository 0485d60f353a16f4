/*
 * compat.h
 *		Everything that differs between the PostgreSQL versions we support
 *		(15 to 19).  No other file may test PG_VERSION_NUM.
 */
#ifndef APIKEYS_COMPAT_H
#define APIKEYS_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "apikeys needs PostgreSQL 15 or later"
#endif

/* The varlena macros moved out of postgres.h in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The memory of a setting's "extra" belongs to guc.c since 16. */
#if PG_VERSION_NUM >= 160000
#define apikey_guc_malloc(size) guc_malloc(LOG, (size))
#else
#define apikey_guc_malloc(size) malloc(size)
#endif

/* The local transaction id moved into a struct, and processes have numbers of
 * their own, since 17. */
#if PG_VERSION_NUM >= 170000
#define APIKEY_LXID_OF(proc) ((proc)->vxid.lxid)
#define APIKEY_MY_PROC_NUMBER MyProcNumber
#else
#define APIKEY_LXID_OF(proc) ((proc)->lxid)
#define APIKEY_MY_PROC_NUMBER (MyProc->pgprocno)
#endif

#define APIKEY_MY_LXID APIKEY_LXID_OF(MyProc)

/* Privileges of all kinds of objects are asked by one function since 16. */
#if PG_VERSION_NUM >= 160000
#define apikey_may_execute(function, role) \
	(object_aclcheck(ProcedureRelationId, (function), (role), \
					 ACL_EXECUTE) == ACLCHECK_OK)
#else
#define apikey_may_execute(function, role) \
	(pg_proc_aclcheck((function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* A process tells what it is since 19, that it is a client's in 18, and before
 * that, that it is not. */
#if PG_VERSION_NUM >= 190000
#define APIKEY_IS_SESSION(proc) ((proc)->backendType == B_BACKEND)
#elif PG_VERSION_NUM >= 180000
#define APIKEY_IS_SESSION(proc) ((proc)->isRegularBackend)
#else
#define APIKEY_IS_SESSION(proc) (!(proc)->isBackgroundWorker)
#endif

/* Functions that do not return are marked by this since 18. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Index scans report to EXPLAIN since 18, and take flags since 19. */
#if PG_VERSION_NUM >= 190000
#define apikey_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define apikey_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define apikey_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* Making index entries takes other arguments since 16, and others since 19. */
#if PG_VERSION_NUM >= 190000
#define apikey_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples((info), (estate), 0, (slot), NIL, NULL)
#elif PG_VERSION_NUM >= 160000
#define apikey_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL, \
						  false)
#else
#define apikey_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL)
#endif

/* The planner is told for which EXPLAIN it plans since 19. */
#if PG_VERSION_NUM >= 190000
#define APIKEY_PLANNER_PARAMS \
	Query *query, const char *text, int options, ParamListInfo params, \
	struct ExplainState *explain
#define APIKEY_PLANNER_ARGS query, text, options, params, explain
#else
#define APIKEY_PLANNER_PARAMS \
	Query *query, const char *text, int options, ParamListInfo params
#define APIKEY_PLANNER_ARGS query, text, options, params
#endif

/* A module tells its name and version since 18. */
#if PG_VERSION_NUM >= 180000
#define APIKEY_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "apikeys", .version = APIKEYS_VERSION)
#else
#define APIKEY_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* fmgr.h declares it since 16. */
#if PG_VERSION_NUM < 160000
extern PGDLLEXPORT void _PG_init(void);
#endif

#endif							/* APIKEYS_COMPAT_H */
