/*
 * usage.h
 *		What usage needs when the library is loaded.
 */
#ifndef APIKEYS_USAGE_H
#define APIKEYS_USAGE_H

extern int	usage_max_keys;
extern int	usage_flush_interval;

/* in usage_shmem.c */
extern void usage_shmem_init(void);

/* in usage_launcher.c */
extern void usage_register_launcher(void);

#endif							/* APIKEYS_USAGE_H */
