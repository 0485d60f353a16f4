"""What was measured: medians, spreads, ratios, and the targets they meet."""

import json
import statistics

NAMES = {
    'floor': '`SELECT $1::text`',
    'floor_request': 'the same request without a key',
    'check_level': '`apikey_check_level`',
    'counted': '`apikey_check_level`, counting usage',
    'check': '`apikey_check`',
    'verify': '`apikey_verify`',
    'authenticate': '`apikey_authenticate` and a policy',
    'hand_prepared': 'by hand: prepared query, btree, `sha256`',
    'hand_plpgsql': 'by hand: PL/pgSQL, pgcrypto `digest`',
    'hand_update': 'by hand: that, and UPDATE of `last_used_at`',
    'hand_update_minute': 'by hand: that, at most once a minute',
    'hand_bcrypt': 'by hand: PL/pgSQL, pgcrypto bcrypt cost 6',
    'empty': 'an empty C function',
    'spi_btree': 'by hand: C, SPI with a kept plan, btree',
    'create': '`apikey_create`',
    'create_unrecorded': '`apikey_create`, `apikeys.history` off',
    'feed': '`apikey_feed`, 10,000 at a time',
    'newest': '`apikeys_history`, the newest 50',
    'seal': '`apikey_seal_history`',
    'seal_memory': '`apikey_seal_history`, memory',
    'create_many': '`apikey_create`, 10,000 in a statement',
    'insert': 'plain INSERT, same indexes',
    'insert_fk': 'plain INSERT, same indexes and foreign key',
    'insert_many': 'plain INSERT, 10,000 in a statement',
}


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method='inclusive')


def number(value):
    """A figure with three significant digits, but no more than it has."""
    if value == 0:
        return '0'
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return '{:,.{}f}'.format(value, digits)


def spread(values):
    low, median, high = quartiles(values)
    return '%s (%s to %s)' % (number(median), number(low), number(high))


class Results:
    def __init__(self, about):
        self.about = about      # of machine and run: what, value
        self.rows = []          # dictionaries, in the order of measuring
        self.index = {}

    def add(self, section, case, contender, unit, values, reference=None):
        """Values of each round; the reference is another contender of the case."""
        row = dict(section=section, case=case, contender=contender, unit=unit,
                   values=values, reference=reference)
        self.rows.append(row)
        self.index[section, case, contender] = row

    def values(self, section, case, contender):
        """Of each round, or None if that was not measured."""
        row = self.index.get((section, case, contender))
        return row and row['values']

    def ratios(self, above, below):
        """Of each round; both are (section, case, contender)."""
        above, below = self.values(*above), self.values(*below)
        if above is None or below is None:
            return None
        return [a / b for a, b in zip(above, below)]

    def table(self):
        lines = ['| what | contender | median (quartiles) | unit | ratio (quartiles) | to |',
                 '|---|---|--:|---|--:|---|']
        place = None
        for row in self.rows:
            section, case, contender = key = row['section'], row['case'], row['contender']
            ratio = to = ''
            ratios = self.ratios(key, (section, case, row['reference']))
            if ratios:
                ratio = spread(ratios)
                to = NAMES.get(row['reference'], row['reference'])
            here = '%s: %s' % (section, case)
            lines.append('| %s | %s | %s | %s | %s | %s |' % (
                here if here != place else '', NAMES.get(contender, contender),
                spread(row['values']), row['unit'], ratio, to))
            place = here
        return '\n'.join(lines)

    def markdown(self, targets):
        about = '\n'.join('| %s | %s |' % item for item in self.about.items())
        parts = ['| run | |\n|---|---|\n' + about]
        if targets:
            parts.append('| target | asked | measured | met? |\n|---|--:|--:|---|\n' +
                         '\n'.join('| %s | %s | %s | %s |' % target for target in targets))
        parts.append(self.table())
        return '\n\n'.join(parts) + '\n'

    def json(self, targets):
        return json.dumps(dict(
            about=self.about,
            targets=[dict(zip(('target', 'asked', 'measured', 'met'), target)) for target in targets],
            rows=self.rows), indent=1)


class Targets:
    """The targets, each with what was measured of it, if it was."""

    def __init__(self, results):
        self.results = results
        self.lines = []

    def line(self, name, asked, values, met, as_asked=True):
        """met: of the median. What was measured on less than was asked is in brackets."""
        if values is None:
            self.lines.append((name, asked, 'not measured', ''))
            return
        verdict = 'yes' if met(quartiles(values)[1]) else '**no**'
        self.lines.append((name, asked, spread(values), verdict if as_asked else '(%s)' % verdict))

    def at_least(self, name, least, values, as_asked=True):
        self.line(name, 'at least %g' % least, values, lambda median: median >= least, as_asked)

    def at_most(self, name, most, values, as_asked=True):
        self.line(name, 'at most %g' % most, values, lambda median: median <= most, as_asked)
