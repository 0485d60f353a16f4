/*
 * worker.h
 *		What background workers of ours have in common.
 */
#ifndef APIKEYS_WORKER_H
#define APIKEYS_WORKER_H

/* in worker.c */
extern void apikey_worker_connect(Oid database);
extern void apikey_worker_settle_settings(void);
extern bool apikey_worker_become_owner(const char *table);

#endif							/* APIKEYS_WORKER_H */
