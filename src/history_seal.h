/*
 * history_seal.h
 *		What sealing and verifying share.
 */
#ifndef APIKEYS_HISTORY_SEAL_H
#define APIKEYS_HISTORY_SEAL_H

#include "access/sdir.h"

#include "history.h"

/* A row of apikey_seal. */
typedef struct ApikeySeal
{
	int64		id;
	TimestampTz sealed_at;
	EventPlace	place;			/* of the last event */
	int64		events;
	int64		pruned;
	bool		is_whole;		/* have its digests the length of digests? */
	uint8		events_hash[APIKEY_DIGEST_LEN];
	uint8		seal[APIKEY_DIGEST_LEN];
	uint8		pruned_hash[APIKEY_DIGEST_LEN];
} ApikeySeal;

/* Seals being read, one after the other. */
typedef struct SealScan
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} SealScan;

/* in history_seal.c */
extern void apikey_hash_event(EventScan *scan, uint8 *hash);
extern void apikey_hash_seal(const ApikeySeal *seal, const uint8 *before,
							 uint8 *result);
extern void apikey_begin_seals(SealScan *scan, Snapshot snapshot);
extern bool apikey_next_seal(SealScan *scan, ScanDirection direction,
							 ApikeySeal *seal);
extern void apikey_end_seals(SealScan *scan);
extern void apikey_seal_events(ApikeySeal *last);

#endif							/* APIKEYS_HISTORY_SEAL_H */
