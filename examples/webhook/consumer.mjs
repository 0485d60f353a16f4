// Reads apikey_feed() and delivers each event as a webhook, signed as Standard
// Webhooks says, in their order. Settings, table and role: README.md.
//
// The position is written after the receiver has taken an event, so that one
// killed in between delivers it again, with the same id. A session's advisory
// lock has one consumer at a time work on a position; no transaction is open
// while a receiver is waited for, as that would hold up the feed itself.
import { createHmac } from 'node:crypto';
import pg from 'pg';

const batch = 100;

class Fault extends Error {}

function fail(message) {
	throw new Fault(message);
}

// ----- settings -----

function milliseconds(name, preset) {
	const text = process.env[name] ?? String(preset);
	if (!/^[1-9]\d{0,8}$/.test(text)) fail(`${name} must be a number of milliseconds`);
	return Number(text);
}

function url() {
	const text = process.env.WEBHOOK_URL ?? fail('WEBHOOK_URL is not set');
	let parsed;
	try {
		parsed = new URL(text);
	} catch {
		fail('WEBHOOK_URL is no URL');
	}
	if (!/^https?:$/.test(parsed.protocol)) fail('WEBHOOK_URL must begin with https:// or http://');
	if (parsed.username || parsed.password) fail('WEBHOOK_URL must not have a user or password in it');
	return text;
}

// Several, separated by blanks, while a receiver changes from one to the other.
function secrets() {
	const list = (process.env.WEBHOOK_SECRET ?? '').split(' ').filter(Boolean);
	if (!list.length) fail('WEBHOOK_SECRET is not set');
	return list.map((secret) => {
		const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
		if (!/^whsec_[A-Za-z0-9+/]+=*$/.test(secret) || key.length < 24 || key.length > 64)
			fail('WEBHOOK_SECRET must be "whsec_" and the base64 of 24 to 64 bytes');
		return key;
	});
}

function read_settings() {
	return {
		url: url(),
		secrets: secrets(),
		name: process.env.WEBHOOK_NAME ?? 'default',
		poll: milliseconds('WEBHOOK_POLL_MS', 1000),
		timeout: milliseconds('WEBHOOK_TIMEOUT_MS', 15000),
		retry_min: milliseconds('WEBHOOK_RETRY_MIN_MS', 1000),
		retry_max: milliseconds('WEBHOOK_RETRY_MAX_MS', 600000),
	};
}

// ----- stopping -----

let stopping = false;
let wake = () => {};

function stop() {
	stopping = true;
	wake();
}

// Less, if we are to stop.
async function sleep(ms) {
	if (stopping) return;
	let timer;
	await new Promise((resolve) => {
		wake = resolve;
		timer = setTimeout(resolve, ms);
	});
	clearTimeout(timer);
}

// ----- delivering -----

function sign(settings, id, timestamp, body) {
	return settings.secrets
		.map((key) => 'v1,' + createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64'))
		.join(' ');
}

// One attempt; undefined if the receiver has taken the event, else why not.
async function attempt(settings, event, lost) {
	const timestamp = Math.floor(Date.now() / 1000);
	const expired = AbortSignal.timeout(settings.timeout);
	const both = new AbortController();
	const abort = () => both.abort();

	expired.addEventListener('abort', abort);
	lost.addEventListener('abort', abort);
	try {
		const response = await fetch(settings.url, {
			method: 'POST',
			redirect: 'manual',
			signal: both.signal,
			headers: {
				'content-type': 'application/json',
				'webhook-id': event.id,
				'webhook-timestamp': String(timestamp),
				'webhook-signature': sign(settings, event.id, timestamp, event.body),
			},
			body: event.body,
		});
		await response.body?.cancel();
		if (response.status === 410) fail('the receiver wants no more webhooks (410 Gone)');
		return response.ok ? undefined : `status ${response.status}`;
	} catch (error) {
		if (error instanceof Fault) throw error;
		if (expired.aborted) return 'no answer in time';
		return error.cause?.code ?? error.cause?.message ?? error.message;
	} finally {
		lost.removeEventListener('abort', abort);
	}
}

// Until the receiver has taken the event; false if we were stopped before.
async function deliver(settings, event, lost) {
	for (let tries = 0; !stopping; tries++) {
		const why = await attempt(settings, event, lost);
		if (lost.aborted) throw lost.reason;
		if (why === undefined) return true;

		const most = Math.min(settings.retry_max, settings.retry_min * 2 ** tries);
		const wait = Math.round(most * (0.5 + Math.random() / 2));
		console.error(`${event.id}: not delivered (${why}), next try in ${wait} ms`);
		await sleep(wait);
		if (lost.aborted) throw lost.reason;
	}
	return false;
}

// ----- the database -----

// The body comes as text, so that it is the same at each try, and numbers are
// not rounded.
const read_events = `
	SELECT position,
		$1 || '_' || position || '_' || (extract(epoch FROM at) * 1000000)::bigint AS id,
		json_build_object('type', kind,
			'timestamp', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
			'data', to_jsonb(f) - 'position' - 'at' - 'kind')::text AS body
	FROM apikey_feed($2, $3) f`;

// Polls, as whoever waits in the database for long holds up its VACUUM.
async function take_lock(client, settings) {
	for (let told = false; !stopping; await sleep(settings.poll)) {
		const { rows } = await client.query(
			`SELECT pg_try_advisory_lock('webhook_position'::regclass::int, hashtext($1)) AS taken`, [settings.name]);
		if (rows[0].taken) return;
		if (!told) console.error(`waiting: another consumer has position "${settings.name}"`);
		told = true;
	}
}

async function read_position(client, settings) {
	const { rows } = await client.query('SELECT position FROM webhook_position WHERE name = $1', [settings.name]);
	if (!rows.length) fail(`table webhook_position has no row "${settings.name}"`);
	return rows[0].position;
}

async function write_position(client, settings, from, to) {
	const { rowCount } = await client.query(
		`UPDATE webhook_position SET position = $3, delivered_at = clock_timestamp()
		WHERE name = $1 AND position IS NOT DISTINCT FROM $2`, [settings.name, from, to]);
	if (!rowCount) fail(`somebody else has changed position "${settings.name}"`);
}

async function consume(client, settings, lost) {
	await take_lock(client, settings);
	if (stopping) return;
	let position = await read_position(client, settings);
	console.error(`delivering from position ${position ?? '(the beginning)'}`);
	while (!stopping) {
		const { rows } = await client.query(read_events, [settings.name, position, batch]);
		for (const event of rows) {
			if (!(await deliver(settings, event, lost))) return;
			await write_position(client, settings, position, event.position);
			position = event.position;
		}
		if (!rows.length) await sleep(settings.poll);
		if (lost.aborted) throw lost.reason;
	}
}

async function main() {
	const settings = read_settings();
	const client = new pg.Client({
		connectionString: process.env.DATABASE_URL,
		application_name: `webhook ${settings.name}`,
		keepAlive: true,
	});
	const lost = new AbortController();

	// With the connection the lock is gone, so an attempt in hand is given up.
	client.on('error', (error) => {
		lost.abort(error);
		wake();
	});
	process.on('SIGTERM', stop);
	process.on('SIGINT', stop);
	await client.connect();
	try {
		await consume(client, settings, lost.signal);
	} finally {
		await client.end().catch(() => {});
	}
}

main().then(
	() => process.exit(0),
	(error) => {
		console.error(`webhook: ${error.message || error.code || error}`);
		process.exit(1);
	});
