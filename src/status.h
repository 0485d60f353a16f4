/*
 * status.h
 *		What becomes of a key that is presented: each status once.
 *
 * A status is counted under its name in apikey_stats: a new one is a line here
 * and a column there.
 */
#ifndef APIKEYS_STATUS_H
#define APIKEYS_STATUS_H

#define APIKEY_STATUSES(STATUS) \
	STATUS(ACTIVE, "ok") \
	STATUS(MALFORMED, "malformed") \
	STATUS(UNKNOWN, "unknown") \
	STATUS(EXPIRED, "expired") \
	STATUS(LEVEL, "level")		/* alive, but its level is too low */

#define STATUS_NUMBER(status, name) STATUS_##status,
typedef enum ApikeyStatus
{
	APIKEY_STATUSES(STATUS_NUMBER) NUM_STATUSES
} ApikeyStatus;

#endif							/* APIKEYS_STATUS_H */
