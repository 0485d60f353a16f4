-- The floor: as much as any statement with a key in it costs.
SELECT :key::text;
