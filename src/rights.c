/*
 * rights.c
 *		Who may do what: the predicates that functions, policies and triggers
 *		ask.
 */
#include "postgres.h"

#include "apikeys.h"

/* The highest level that a role may create, and that it has itself. */
ApikeyLevel
apikey_level_of_role(ApikeyRole role)
{
	switch (role)
	{
		case ROLE_STANDARD:
			return LEVEL_STANDARD;
		case ROLE_ARCHITECT:
			return LEVEL_ARCHITECT;
		case ROLE_ADMIN:
			return LEVEL_ADMIN;
		default:
			return LEVEL_NONE;
	}
}

/* May it see, change and delete keys, its own at least? */
bool
apikey_manages_keys(const ApikeyActor *actor)
{
	return !actor->is_key && actor->role > ROLE_GUEST;
}

/* May it see and delete everybody's in the organization? */
bool
apikey_manages_all(const ApikeyActor *actor)
{
	return !actor->is_key && actor->role == ROLE_ADMIN;
}

/* The levels that a role other than admin may create, as a hint. */
const char *
apikey_levels_hint(ApikeyRole role)
{
	switch (role)
	{
		case ROLE_STANDARD:
			return "It may create keys of level \"standard\".";
		case ROLE_ARCHITECT:
			return "It may create keys of level \"standard\" and \"architect\".";
		default:
			return "It may create no keys.";
	}
}
