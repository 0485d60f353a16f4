"""The picture of cost against number of keys: SVG, and PNG where that can be made."""

import math
import shutil
import subprocess

from results import quartiles

WIDTH, HEIGHT = 1080, 460
TOP, BOTTOM = 84, 400
INK, PALE, GRID = '#1f2933', '#616e7c', '#e4e7eb'

# contender, kind of keys, name beside the line, color
IN_SERVER = (
    ('hand_plpgsql', 'uniform', 'PL/pgSQL, pgcrypto', '#b8860b'),
    ('spi_btree', 'uniform', 'C, SPI, btree', '#7b5ea7'),
    ('check_level', 'uniform', 'apikey_check_level', '#c8102e'),
    ('check_level', 'hot', 'the same, 1,000 hot keys', '#e88a95'),
    ('empty', 'uniform', 'empty C function', '#8a949e'),
)
OF_FLOOR = (
    ('check_level', 'apikey_check_level', '#c8102e'),
    ('hand_prepared', 'prepared query, btree', '#2a6f97'),
    ('hand_plpgsql', 'PL/pgSQL, pgcrypto', '#b8860b'),
)


def text(x, y, words, anchor='start', size=13, color=INK, weight='normal'):
    return ('<text x="%.1f" y="%.1f" font-size="%d" fill="%s" text-anchor="%s" font-weight="%s">%s</text>'
            % (x, y, size, color, anchor, weight, words))


def line(x1, y1, x2, y2, color=GRID):
    return ('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1"/>'
            % (x1, y1, x2, y2, color))


def short(keys):
    return '%g million' % (keys / 1e6) if keys >= 1e6 else format(keys, ',')


class Panel:
    """One half: number of keys from left to right, on a logarithmic scale."""

    def __init__(self, left, right, sizes, low, high, logarithmic):
        self.left, self.right = left, right
        self.sizes = sizes
        self.scale = math.log10 if logarithmic else float
        self.low, self.high = self.scale(low), self.scale(high)
        self.parts = []
        self.labels = []        # height, words, color

    def x(self, keys):
        first, last = math.log10(self.sizes[0]), math.log10(self.sizes[-1])
        share = (math.log10(keys) - first) / (last - first) if last > first else 0.5
        return self.left + share * (self.right - self.left)

    def y(self, value):
        share = (self.scale(value) - self.low) / (self.high - self.low)
        return BOTTOM - min(share, 1.05) * (BOTTOM - TOP)

    def frame(self, title, subtitle, ticks, name_of):
        self.parts += [text(self.left - 42, 34, title, size=17, weight='bold'),
                       text(self.left - 42, 56, subtitle, color=PALE)]
        for tick in ticks:
            self.parts += [line(self.left, self.y(tick), self.right, self.y(tick)),
                           text(self.left - 8, self.y(tick) + 4, name_of(tick), 'end', 12, PALE)]
        for size in self.sizes:
            self.parts.append(text(self.x(size), BOTTOM + 22, short(size), 'middle', 12, PALE))
        self.parts.append(text((self.left + self.right) / 2, BOTTOM + 44, 'keys', 'middle', 12, PALE))

    def curve(self, points, name, color):
        """Points are (keys, values of each round); the bars reach from quartile to quartile."""
        middle = []
        for keys, values in points:
            low, median, high = quartiles(values)
            x, y = self.x(keys), self.y(median)
            middle.append('%.1f,%.1f' % (x, y))
            self.parts += [line(x, self.y(low), x, self.y(high), color),
                           '<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>' % (x, y, color)]
        self.parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>'
                          % (' '.join(middle), color))
        self.labels.append([y, name, color])

    def finished(self):
        """Names at the ends of their lines, apart from each other."""
        self.labels.sort()
        for above, below in zip(self.labels, self.labels[1:]):
            below[0] = max(below[0], above[0] + 16)
        return self.parts + [text(self.right + 10, y + 4, name, color=color)
                             for y, name, color in self.labels]


def cost_in_server(results, sizes):
    panel = Panel(66, 376, sizes, 1, 100000, True)
    panel.frame('In the server', 'nanoseconds a call', [10 ** i for i in range(6)],
                lambda tick: format(tick, ','))
    for contender, kind, name, color in IN_SERVER:
        case = 'any of {:,}' if kind == 'uniform' else '1,000 hot of {:,}'
        points = [(size, results.values('growth in the server', case.format(size), contender))
                  for size in sizes]
        panel.curve(points, name, color)
    return panel.finished()


def share_of_floor(results, sizes):
    panel = Panel(630, 900, sizes, 0, 1, False)
    panel.frame('Over a connection', 'calls per second, SELECT $1::text being 1; prepared, 2 clients',
                [i / 5 for i in range(6)], lambda tick: '%.1f' % tick)
    for contender, name, color in OF_FLOOR:
        points = []
        for size in sizes:
            case = 'prepared, 2 clients, any of {:,}'.format(size)
            points.append((size, results.ratios(('growth of calls', case, contender),
                                                ('growth of calls', case, 'floor'))))
        panel.curve(points, name, color)
    return panel.finished()


def draw(results, sizes, path):
    """Writes path.svg, and path.png where rsvg-convert is installed."""
    if not any(row['section'] == 'growth of calls' for row in results.rows):
        return
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"'
             ' font-family="Helvetica, Arial, sans-serif">' % (WIDTH, HEIGHT, WIDTH, HEIGHT),
             '<rect width="100%" height="100%" fill="white"/>']
    parts += cost_in_server(results, sizes) + share_of_floor(results, sizes) + ['</svg>']
    with open(path + '.svg', 'w') as file:
        file.write('\n'.join(parts) + '\n')
    if shutil.which('rsvg-convert'):
        subprocess.run(['rsvg-convert', '--zoom', '2', '-o', path + '.png', path + '.svg'], check=True)
