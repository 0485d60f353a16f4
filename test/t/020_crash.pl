# The server is killed (SIGKILL) again and again, while clients create, change,
# rotate and delete keys, save and remove members, import legacy keys and verify:
# all of its processes, the postmaster alone, or one of the others.  After each
# recovery: what was acknowledged is there, what was in flight is there with all
# that belongs to it or not at all, and nothing else is there; every key that
# lives verifies at its level and no other value does; tables and indexes agree;
# no use was invented, nor one lost that a flush had acknowledged.
#
# Each client tells what it is about to do, and that it is done when its COMMIT
# has returned.  Its operations are made up beforehand, so this test knows what
# each of them should have changed.
#
# APIKEYS_CRASH_ROUNDS: how often the server is killed.
# APIKEYS_CRASH_SEED: of the random choices.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;

use ApikeysTest;
use List::Util qw(sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use UsageTest;

my $rounds = $ENV{APIKEYS_CRASH_ROUNDS} // 30;
my $seed = $ENV{APIKEYS_CRASH_SEED} // int(rand(1_000_000));
my $clients = 4;
my $operations = 400;    # more than a client gets done in a round
my @levels = qw(standard architect admin);

srand($seed);
note("seed $seed");

my $node = usage_server('main', conf => <<'EOC');
fsync = on
full_page_writes = on
synchronous_commit = on
restart_after_crash = on
apikeys.usage_flush_interval = '1s'
EOC
$node->start;
install($node);
# a hash index that grows with every few keys
$node->safe_psql('postgres', <<'EOS');
ALTER INDEX apikeys_private.apikey_key_digest_excl SET (fillfactor = 10);
REINDEX INDEX apikeys_private.apikey_key_digest_excl;
SELECT apikeys_private.apikey_record_definitions();
EOS

# What is there: {key}{id} is "owner|name|level|expiry", {member}{id} is
# "role|email", {org}{id} and {legacy}{id} are "".  The ids of keys are this
# test's own, which a new key has for its name; that of a legacy key is its
# organization's.  Every id but "ann" begins with the client it belongs to.
my %there = map { $_ => {} } qw(key member org legacy);
$there{member}{ann} = 'admin|ann@acme.example';
my %value;       # by id; they stay when the key is gone
my %by_suffix;   # ids
# Of uses, by id: those counted when it was last looked, those that may have come
# to it since, and those among them that a flush has acknowledged.
my (%uses, %asked, %sure);

#
# Making up operations
#

sub is_alive
{
	my ($key) = @_;

	return defined $key && $key !~ /\|past$/;
}

sub pick
{
	return $_[ rand @_ ];
}

# A client's operations in a round: {planned} is what will be there of the
# client's when those that have been written are done.  By number of operation:
# {changes}; {asks}, the key to be verified and the answer that it must get;
# {flushes}, whether it is a flush.
sub new_script
{
	my ($round, $client) = @_;
	my %script = (prefix => "c$client-", round => $round, dba => $client == 1,
		text => '', ids => 0, changes => [], asks => [], flushes => []);

	for my $kind (keys %there)
	{
		my @ids = grep { /^$script{prefix}/ } sort keys %{ $there{$kind} };
		$script{planned}{$kind} = { map { $_ => $there{$kind}{$_} } @ids };
	}
	return \%script;
}

sub new_id
{
	my ($script) = @_;

	return "$script->{prefix}$script->{round}-" . ++$script->{ids};
}

# The levels that a member may create.
sub levels_of
{
	my ($script, $user) = @_;
	my ($role) = split /\|/, $script->{planned}{member}{$user};

	return @levels[ 0 .. { guest => -1, standard => 0, architect => 1, admin => 2 }->{$role} ];
}

# The keys of a member.
sub keys_of
{
	my ($script, $user) = @_;
	my $keys = $script->{planned}{key};

	return grep { $keys->{$_} =~ /^$user\|/ } sort keys %$keys;
}

# A value as SQL: psql knows it if it is made in this script.  Nobody was told
# of some.
sub value_sql
{
	my ($script, $id) = @_;

	return ":'$script->{variable}{$id}'" if $script->{variable}{$id};
	return "'" . ($value{$id} // 'untold') . "'";
}

sub suffix_sql
{
	my ($script, $id) = @_;
	my ($known) = grep { $by_suffix{$_} eq $id } ($value{$id} || $script->{variable}{$id}) ? () : keys %by_suffix;

	return $known ? "'$known'" : 'apikey_suffix(' . value_sql($script, $id) . ')';
}

# A statement that makes a value, and tells it.
sub makes_value
{
	my ($script, $id, $sql) = @_;
	my $variable = 'v' . ++$script->{variables};

	$script->{variable}{$id} = $variable;
	return "SELECT $sql AS $variable \\gset\n\\echo value $id :$variable\n";
}

# Adds an operation, of a member or of nobody's: statements in a transaction or,
# if it is one statement, by itself.  Changes are [ kind, id, what is there ].
sub add
{
	my ($script, $user, $statements, @changes) = @_;
	my $n = @{ $script->{changes} };
	my $sql = join '', @$statements;
	my $act_as = defined $user ? "SELECT apikey_act_as('acme', '$user') \\g /dev/null\n" : '';
	my $begin = "\\echo begin $n\n";
	my $done = "\\echo done $n\n";

	if (@$statements == 1 && rand() < 0.4)
	{
		$act_as =~ s/\)/, session => true)/;
		$script->{text} .= "$act_as$begin$sql$done";
		$script->{text} .= "RESET apikeys.principal;\n" if $act_as;
	}
	else
	{
		$script->{text} .= "${begin}BEGIN;\n$act_as${sql}COMMIT;\n$done";
	}
	for my $change (@changes)
	{
		my ($kind, $id, $new) = @$change;
		$script->{planned}{$kind}{$id} = $new;
		delete $script->{planned}{$kind}{$id} unless defined $new;
		push @{ $script->{gone} }, $id if $kind eq 'key' && !is_alive($new);
	}
	push @{ $script->{changes} }, \@changes;
	return;
}

# Each is given the script, one of the client's members, and the keys of that
# member; it does nothing where it is not possible.
my %make = (
	create => sub {
		my ($script, $user) = @_;
		my $level = pick(levels_of($script, $user)) // return;
		my $id = new_id($script);
		add($script, $user, [ makes_value($script, $id, "apikey_create('$id', '$level')") ],
			[ key => $id, "$user|$id|$level|never" ]);
	},
	# a name, a level, and life for an expired key
	update => sub {
		my ($script, $user, @keys) = @_;
		my $id = pick(@keys) // return;
		my $level = pick(levels_of($script, $user)) // return;
		my $name = new_id($script);
		add($script, $user, [ 'SELECT apikey_update(' . suffix_sql($script, $id) . ", '$name', '$level', 'infinity');\n" ],
			[ key => $id, "$user|$name|$level|never" ]);
	},
	rotate => sub {
		my ($script, $user, @keys) = @_;
		my $old = pick(grep { is_alive($script->{planned}{key}{$_}) } @keys) // return;
		my (undef, $name, $level, $expiry) = split /\|/, $script->{planned}{key}{$old};
		return unless grep { $_ eq $level } levels_of($script, $user);
		my $new = new_id($script);
		my $overlap = int(rand(2));
		add($script, $user,
			[ makes_value($script, $new, 'apikey_rotate(' . suffix_sql($script, $old) . ", '$overlap day')") ],
			[ key => $old, "$user|$name|$level|" . ($overlap ? 'later' : 'past') ],
			[ key => $new, "$user|$name|$level|$expiry" ]);
	},
	delete => sub {
		my ($script, $user, @keys) = @_;
		my $id = pick(@keys) // return;
		add($script, pick('ann', levels_of($script, $user) ? $user : ()),
			[ 'SELECT apikey_delete(' . suffix_sql($script, $id) . ");\n" ],
			[ key => $id, undef ]);
	},
	delete_all => sub {
		my ($script, $user, @keys) = @_;
		add($script, 'ann', ["SELECT apikey_delete_all('$user');\n"], map { [ key => $_, undef ] } @keys);
	},
	# one key for another, and one that is thought better of
	swap => sub {
		my ($script, $user, @keys) = @_;
		my $old = pick(@keys) // return;
		my $level = pick(levels_of($script, $user)) // return;
		my ($undone, $new) = (new_id($script), new_id($script));
		add($script, $user,
			[
				'SELECT apikey_delete(' . suffix_sql($script, $old) . ");\nSAVEPOINT s;\n",
				makes_value($script, $undone, "apikey_create('$undone', '$level')"), "ROLLBACK TO s;\n",
				makes_value($script, $new, "apikey_create('$new', '$level')")
			],
			[ key => $old, undef ], [ key => $undone, undef ], [ key => $new, "$user|$new|$level|never" ]);
	},
	save_member => sub {
		my ($script) = @_;
		my @users = sort keys %{ $script->{planned}{member} };
		my $user = @users < 5 ? new_id($script) : pick(@users);
		my ($role, $email) = (pick(qw(guest standard architect admin admin)), new_id($script));
		add($script, undef, ["SELECT apikey_save_member('acme', '$user', '$email', '$role');\n"],
			[ member => $user, "$role|$email" ]);
	},
	remove_member => sub {
		my ($script, $user, @keys) = @_;
		add($script, undef, ["SELECT apikey_remove_member('acme', '$user');\n"],
			[ member => $user, undef ], map { [ key => $_, undef ] } @keys);
	},
	save_org => sub {
		my ($script) = @_;
		my $id = new_id($script);
		$value{$id} = "the legacy key of $id";
		add($script, undef,
			[ "SELECT apikey_save_org('$id', 'Legacy');\n", "SELECT apikey_import_legacy('$id', '$value{$id}');\n" ],
			[ org => $id, '' ], [ legacy => $id, '' ]);
	},
	remove_org => sub {
		my ($script) = @_;
		my $id = pick(sort keys %{ $script->{planned}{org} }) // return;
		add($script, undef, ["SELECT apikey_remove_org('$id');\n"], [ org => $id, undef ], [ legacy => $id, undef ]);
	},
	flush => sub {
		my ($script) = @_;
		$script->{flushes}[ @{ $script->{changes} } ] = 1;
		add($script, undef, ["SELECT apikey_usage_flush();\n"]);
	},
	verify => sub {
		my ($script, $user, @keys) = @_;
		my @alive = grep { is_alive($script->{planned}{key}{$_}) } @keys;
		my $id = rand() < 0.3 ? pick(@{ $script->{gone} // [] }) : pick(@alive, keys %{ $script->{planned}{legacy} });
		return unless defined $id && ($value{$id} || $script->{variable}{$id});
		my $alive = defined $script->{planned}{legacy}{$id} || is_alive($script->{planned}{key}{$id});
		$script->{asks}[ @{ $script->{changes} } ] = [ $id, $alive ? 't' : 'f' ];
		add($script, undef,
			[ 'SELECT \'answer\', apikey_check_level(' . value_sql($script, $id) . ", 'standard');\n" ]);
	});
my %share = (
	create => 10, update => 4, rotate => 6, delete => 3, delete_all => 0.1, swap => 2,
	save_member => 2, remove_member => 0.3, verify => 10, save_org => 2, remove_org => 1, flush => 0.5);
my @for_all = grep { !/org|flush/ } sort keys %share;

# One of these, as often as its share is.
sub pick_by_share
{
	my (@names) = @_;
	my $at = rand sum0 map { $share{$_} } @names;

	($at -= $share{$_}) < 0 and return $_ for @names;
	return $names[-1];
}

sub write_script
{
	my ($round, $client) = @_;
	my $script = new_script($round, $client);

	while (@{ $script->{changes} } < $operations)
	{
		my $user = pick(sort keys %{ $script->{planned}{member} });
		my $what = defined $user ? pick_by_share($script->{dba} ? sort keys %share : @for_all) : 'save_member';
		$make{$what}->($script, $user, defined $user ? keys_of($script, $user) : ());
	}
	return $script;
}

#
# Running them
#

# Starts psql with a script, and what it says going to a file.
sub start_psql
{
	my ($name, $user, $text) = @_;
	my $base = $node->basedir . "/$name";

	unlink map { "$base.$_" } qw(sql out err);
	append_to_file("$base.sql", $text);
	my $run = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-U', $user, '-d', $node->connstr('postgres'), '-f', "$base.sql" ],
		'<', \undef, '>', "$base.out", '2>', "$base.err");
	return { run => $run, out => "$base.out", err => "$base.err" };
}

my @ways = (
	'all processes', 'a client backend', 'the postmaster', 'an apikeys usage worker',
	'all processes', 'the checkpointer', 'the postmaster', 'an apikeys usage launcher');

# One process of a type, for which it may have to be waited; or else of a client.
sub find_victim
{
	my ($type) = @_;

	for (1 .. 300)
	{
		my @pids = split /\n/, sql($node,
			"SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = '$type'");
		return pick(@pids) if @pids;
	}
	return find_victim('client backend');
}

# Nobody may be left over to wait for a lock of somebody who was killed, so the
# postmaster is kept from starting one more.
sub kill_all
{
	my ($postmaster) = @_;
	my @children;

	kill 'STOP', $postmaster;
	for my $line (split /\n/, `ps -A -o ppid= -o pid=`)
	{
		my ($parent, $child) = split ' ', $line;
		push @children, $child if $parent == $postmaster;
	}
	die 'no processes' unless @children;
	$node->kill9;
	kill 'KILL', @children;
	return;
}

# It may be at its end when it is killed, which is no crash then.
sub kill_one
{
	my ($type, $offset) = @_;

	while (1)
	{
		my $pid = eval { find_victim($type) };
		kill 'KILL', $pid if defined $pid;
		for (1 .. 100)
		{
			return if slurp_file($node->logfile, $offset) =~ /all server processes terminated; reinitializing/;
			sleep(0.02);
		}
	}
}

# Kills what the way says; returns when the server is up again, and the clients
# have noticed.
sub crash
{
	my ($way, @running) = @_;
	my $offset = -s $node->logfile;
	my $restarts_itself = $way !~ /^(?:all processes|the postmaster)$/;

	if ($restarts_itself)
	{
		kill_one($way =~ s/^\w+ //r, $offset);
	}
	else
	{
		my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
		$way eq 'all processes' ? kill_all($postmaster) : $node->kill9;
		sleep(0.01) while kill 0, $postmaster;
	}
	$_->{run}->finish for @running;
	hang_up($node, lost => 1);
	if ($restarts_itself)
	{
		is_back($node) or die 'the server is not back';
		return;
	}
	# the last processes may take a moment to notice
	for (1 .. 100)
	{
		return if $node->start(fail_ok => 1);
		sleep(0.1);
	}
	die 'the server is not back';
}

#
# Looking at what is there
#

# As %there, but that the ids of keys which nobody knows are "?" and their names.
sub look
{
	my %found = map { $_ => {} } qw(key member org legacy);
	my $out = $node->safe_psql('postgres', <<'EOS');
SELECT 'member', user_id, role, email FROM apikeys_private.apikey_member;
SELECT 'org', org_id, '' FROM apikeys_private.apikey_org WHERE org_id <> 'acme';
SELECT 'legacy', org_id, '' FROM apikeys_private.apikey_legacy;
SELECT 'key', suffix, owner_id, name, level, CASE WHEN expires_at IS NULL THEN 'never'
	WHEN expires_at > clock_timestamp() THEN 'later' ELSE 'past' END
FROM apikeys_private.apikey_key;
EOS
	for my $line (split /\n/, $out)
	{
		my ($kind, $id, $what) = split /\|/, $line, 3;
		if ($kind eq 'key' && !$by_suffix{$id})
		{
			my $name = (split /\|/, $what)[1];
			$by_suffix{$id} = "?$name";
		}
		$found{$kind}{ $kind eq 'key' ? $by_suffix{$id} : $id } = $what;
	}
	return \%found;
}

# What a client has said: how many operations are done, which are applied to
# %there, and the changes of the one that is not, or undef.  Answers that are
# wrong go to a list.
sub read_client
{
	my ($script, $said, $wrong) = @_;
	my $done = 0;
	my $begun;
	my %accepted;    # and not yet flushed by this client

	for my $line (split /\n/, $said)
	{
		if ($line =~ /^begin (\d+)$/)
		{
			$begun = $1;
			my $ask = $script->{asks}[$begun];
			$asked{ $ask->[0] }++ if $ask && $ask->[1] eq 't';
		}
		elsif ($line =~ m{^value (\S+) (\S+/(\w{7}))$})
		{
			$value{$1} = $2;
			$by_suffix{$3} = $1;
		}
		elsif ($line =~ /^answer\|(.)$/)
		{
			my ($id, $answer) = @{ $script->{asks}[$begun] };
			push @$wrong, "$id is $1 in operation $begun" if $1 ne $answer;
			$accepted{$id}++ if $1 eq 't';
		}
		elsif ($line =~ /^done (\d+)$/)
		{
			apply(@{ $script->{changes}[$1] });
			if ($script->{flushes}[$1])
			{
				$sure{$_} += $accepted{$_} for keys %accepted;
				%accepted = ();
			}
			$done++;
			$begun = undef;
		}
	}
	return ($done, defined $begun ? $script->{changes}[$begun] : undef);
}

sub apply
{
	for (@_)
	{
		my ($kind, $id, $new) = @$_;
		$there{$kind}{$id} = $new;
		delete $there{$kind}{$id} unless defined $new;
	}
	return;
}

# Of an operation that was in flight, all is there or nothing.  A key whose value
# did not arrive is known by its name.
sub settle
{
	my ($changes, $found, $wrong) = @_;
	my (@before, @after, @is);

	for my $change (@$changes)
	{
		my ($kind, $id, $new) = @$change;
		my $untold;
		if ($kind eq 'key' && !$value{$id} && defined $new)
		{
			$untold = '?' . (split /\|/, $new)[1];
			if (defined $found->{key}{$untold})
			{
				$found->{key}{$id} = delete $found->{key}{$untold};
				$by_suffix{$_} = $id for grep { $by_suffix{$_} eq $untold } keys %by_suffix;
			}
		}
		push @before, $there{$kind}{$id} // 'none';
		push @after, $new // 'none';
		push @is, $found->{$kind}{$id} // 'none';
	}
	my ($before, $after, $is) = map { join ', ', @$_ } \@before, \@after, \@is;
	push @$wrong, "neither [$before] nor [$after] but [$is]" if $is ne $before && $is ne $after;
	apply(@$changes) if $is eq $after;
	return $is eq $after && $after ne $before;
}

# Where what was found is something else than what should be there.
sub differences
{
	my ($found) = @_;
	my @differences;

	for my $kind (sort keys %there)
	{
		my %ids = (%{ $there{$kind} }, %{ $found->{$kind} });
		for my $id (sort keys %ids)
		{
			my ($is, $should) = map { $_->{$kind}{$id} // 'none' } $found, \%there;
			push @differences, "$kind $id is [$is] instead of [$should]" if $is ne $should;
		}
	}
	return @differences;
}

# The verdicts that keys get and should not.
sub wrong_verdicts
{
	my (@ids) = @_;
	my @wrong;
	my $out = $node->safe_psql('postgres',
		"CREATE TEMP TABLE asked (i serial, value text);\nCOPY asked (value) FROM STDIN;\n"
		  . join('', map { "$value{$_}\n" } @ids)
		  . <<'EOS', extra_params => [ '-U', 'app' ]);
\.
SELECT i, concat(apikey_check_level(value, 'standard'), apikey_check_level(value, 'architect'),
	apikey_check_level(value, 'admin'))
FROM asked ORDER BY i
EOS
	for my $line (split /\n/, $out)
	{
		my ($i, $is) = split /\|/, $line;
		my $id = $ids[ $i - 1 ];
		my $key = $there{key}{$id};
		my $level = is_alive($key) ? (split /\|/, $key)[2] : defined $there{legacy}{$id} ? 'admin' : 'none';
		my $should = { none => 'fff', standard => 'tff', architect => 'ttf', admin => 'ttt' }->{$level};
		push @wrong, "$id is $is instead of $should" if $is ne $should;
		$asked{$id} += $is =~ tr/t//;
	}
	push @wrong, 'not all were asked' if ($out =~ tr/\n//) + 1 != @ids;
	return @wrong;
}

# Counts of uses that cannot be.
sub wrong_uses
{
	my @wrong;

	my $out = $node->safe_psql('postgres',
		'SELECT CASE WHEN kind = \'legacy\' THEN org_id ELSE suffix END, uses FROM apikeys');
	for my $line (split /\n/, $out)
	{
		my ($id, $is) = split /\|/, $line;
		$id = $by_suffix{$id} // $id;
		my $before = $uses{$id} // 0;
		my ($least, $most) = ($before + ($sure{$id} // 0), $before + ($asked{$id} // 0));
		push @wrong, "$id has $is and not $least to $most" if $is < $least || $is > $most;
		$uses{$id} = $is;
	}
	%asked = %sure = ();
	return @wrong;
}

# What amcheck and the self-check say; and, since amcheck knows no hash indexes,
# whether every digest of the tables is found by them.
my @amcheck = ('pg_amcheck', '-h', $node->host, '-p', $node->port);

sub wrong_relations
{
	my ($wrong, $err);

	IPC::Run::run(
		[ @amcheck, '--heapallindexed', '--rootdescend', '--table', 'apikeys_private.apikey_*', 'postgres' ],
		'>', \$wrong, '2>', \$err)
	  or $wrong .= 'pg_amcheck failed';
	$wrong .= $err . $node->safe_psql('postgres', 'SELECT * FROM apikey_selfcheck() WHERE NOT ok');
	for my $table (qw(apikeys_private.apikey_key apikeys_private.apikey_legacy))
	{
		my ($index) = "${table}_digest_excl" =~ /\.(.*)/;
		my $probe = "FROM digests d, LATERAL (SELECT ctid FROM $table WHERE digest = d.digest OFFSET 0) t";
		my ($missing, $plan) = split /\n/, $node->safe_psql('postgres', <<EOS), 2;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT digest, ctid AS at INTO TEMP digests FROM $table;
RESET ALL;
SET enable_seqscan = off;
SELECT (SELECT count(*) FROM digests) - count(*) FILTER (WHERE t.ctid = d.at) $probe;
EXPLAIN SELECT $probe;
EOS
		$wrong .= "$missing rows of $table are not in the hash index" if $missing ne '0';
		$wrong .= "no probe of the hash index: $plan" if $plan !~ /$index/;
	}
	return $wrong;
}

# Some of many, as text.
sub few
{
	my (@all) = @_;

	return join '; ', @all > 10 ? (@all[ 0 .. 9 ], 'and ' . (@all - 10) . ' more') : @all;
}

#
# Round after round
#
$node->command_ok([ @amcheck, '--install-missing', 'postgres' ], 'all is well before');

my ($done, $in_flight, $found_done, $verdicts) = (0, 0, 0, 0);
for my $round (1 .. $rounds)
{
	my $way = $ways[ $round % @ways ];
	# now and then nobody is there whose commit might have brought to disk what
	# the flush of the last round left in memory
	my $is_alone = $round % @ways == 4;
	my (@scripts, @running);

	for my $client ($is_alone ? () : 1 .. $clients)
	{
		push @scripts, write_script($round, $client);
		push @running, start_psql("client$client", $client == 1 ? 'postgres' : 'app', $scripts[-1]{text});
	}
	push @running,
	  start_psql('janitor', 'postgres',
		"VACUUM apikeys_private.apikey_key, apikeys_private.apikey_member, apikeys_private.apikey_legacy, apikeys_private.apikey_usage;\nSELECT pg_sleep(0.02);\nCHECKPOINT;\n" x 1000)
	  unless $is_alone;

	# a random moment is what this is about
	sleep(0.1 + rand(0.3)) unless $is_alone;
	crash($way, @running);

	my (@wrong, @unsettled);
	for my $i (0 .. $#scripts)
	{
		my ($count, $changes) = read_client($scripts[$i], slurp_file($running[$i]{out}), \@wrong);
		$done += $count;
		push @unsettled, $changes if $changes;
	}
	my $messages = join '', map { slurp_file($_->{err}) } @running;
	is(join('', $messages =~ /^.*ERROR.*$/mg), '', "round $round, SIGKILL to $way: no error but the crash");
	is(few(@wrong), '', 'the right answers while it lasted');

	@wrong = wrong_uses();
	is(few(@wrong), '', 'no use was invented, nor lost when it had been written');

	my $found = look();
	@wrong = ();
	$in_flight += @unsettled;
	$found_done += settle($_, $found, \@wrong) ? 1 : 0 for @unsettled;
	is(few(@wrong), '', 'what was in flight is done, or not at all');
	@wrong = differences($found);
	is(few(@wrong), '', 'what was acknowledged is there, and nothing else');

	my @ids = sort keys %value;
	@wrong = wrong_verdicts(@ids);
	$verdicts += @ids;
	is(few(@wrong), '', 'keys that live verify, at their levels, and no others');
	is(wrong_relations(), '', 'tables and indexes are sound');

	# What is counted now is either saved by a shutdown or not; in any case
	# written, so that the next crash has nothing to lose or to double.
	if ($round % 3 == 0)
	{
		$node->stop;
		$node->start;
	}
	my (undef, $out, $err) = $node->psql('postgres', 'SELECT apikey_usage_flush()');
	is($err, '', 'usage is written');
	%sure = %asked;
}

my $alive = keys(%{ $there{key} }) + keys(%{ $there{legacy} });
diag("$rounds crashes; $done operations acknowledged, $in_flight in flight, $found_done of these were done;"
	  . " $alive keys at the end of " . keys(%value) . "; $verdicts verdicts");
cmp_ok($done, '>', 20 * $rounds, 'something was going on');
is_quiet($node, 0, 'no other complaints in the log', qr/ FATAL: |WARNING: .*terminating connection/);

$node->stop;
done_testing();
