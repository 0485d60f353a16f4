/*
 * trigger.h
 *		What the files with triggers in them share.
 */
#ifndef APIKEYS_TRIGGER_H
#define APIKEYS_TRIGGER_H

#include "commands/trigger.h"

/* in db_role.c */
extern HeapTuple apikey_store_db_role(TriggerData *trigger, HeapTuple row);

/* in trigger.c */
extern TriggerData *apikey_trigger_data(FunctionCallInfo fcinfo, bool before,
										ApikeyTable table,
										ApikeyTable or_table);
extern HeapTuple apikey_new_row(TriggerData *trigger);
extern Datum apikey_get(TriggerData *trigger, HeapTuple row,
						AttrNumber attnum);
extern bool apikey_changes(TriggerData *trigger, AttrNumber attnum);
extern bool apikey_is_subject_to_rls(TriggerData *trigger);
extern bool apikey_is_replica(void);
extern bool apikey_is_subscription(void);
extern bool apikey_is_subscribed(ApikeyTable table);

#endif							/* APIKEYS_TRIGGER_H */
