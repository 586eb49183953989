<?php
// Asks PHP's extension memcache (of PECL) by MemcachePool::findServer. See oracle.py for question and answer.

const STRATEGIES = ['php-memcache' => 'consistent', 'php-memcache-standard' => 'standard'];

function refuse(string $why): never
{
    fwrite(STDERR, "$why\n");
    exit(1);
}

function host(array $server): string
{
    if (isset($server['unix'])) {
        return "unix://$server[unix]";
    }
    // The extension hands the address to PHP's streams, which want brackets.
    return str_contains($server['host'], ':') ? "[$server[host]]" : $server['host'];
}

function owners(array $case, array $keys): array
{
    // Read when a pool is made.
    ini_set('memcache.hash_strategy', STRATEGIES[$case['rule']]) !== false || refuse('the strategy is not taken');
    $client = new MemcachePool();
    $indexes = [];
    foreach ($case['servers'] as $index => $server) {
        [$host, $port] = [host($server), $server['port'] ?? 0];
        $client->addServer($host, $port, 0, false, $server['weight']) || refuse("$host is not taken");
        $indexes["$host:$port"] = $index;
    }
    return array_map(fn (string $key): int => $indexes[$client->findServer($key)], $keys);
}

$question = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$keys = array_map('hex2bin', $question['keys']);
$owners = array_map(fn (array $case): array => owners($case, $keys), $question['cases']);
echo json_encode(['version' => phpversion('memcache'), 'owners' => $owners]);
