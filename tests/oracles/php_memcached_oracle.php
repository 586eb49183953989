<?php
// Asks PHP's extension memcached by Memcached::getServerByKey. See oracle.py for question and answer.

const OPTIONS = [
    'libmemcached-modula' => [],
    'libmemcached-ketama' => [Memcached::OPT_DISTRIBUTION => Memcached::DISTRIBUTION_CONSISTENT],
    'libmemcached-ketama-weighted' => [Memcached::OPT_LIBKETAMA_COMPATIBLE => true],
];

function refuse(string $why): never
{
    fwrite(STDERR, "$why\n");
    exit(1);
}

function owners(array $case, array $keys): array
{
    $client = new Memcached();
    $client->setOptions(OPTIONS[$case['rule']]) || refuse('options: ' . $client->getResultMessage());
    if (isset($case['prefix'])) {
        $client->setOption(Memcached::OPT_PREFIX_KEY, $case['prefix']) || refuse($client->getResultMessage());
    }
    $indexes = [];
    foreach ($case['servers'] as $index => $server) {
        // What a unix socket is called depends on the call that adds it: addServer gives it the usual port.
        $as_host = isset($server['unix'], $server['name']);
        [$host, $port] = [$server['unix'] ?? $server['host'], $server['port'] ?? ($as_host ? 11211 : 0)];
        $as_host && ($client->addServer($host, 0, $server['weight']) || refuse($client->getResultMessage()));
        $as_host || ($client->addServers([[$host, $port, $server['weight']]]) || refuse($client->getResultMessage()));
        $indexes["$host $port"] = $index;
    }
    return array_map(function (string $key) use ($client, $indexes): int {
        $server = $client->getServerByKey($key);
        $server || refuse(bin2hex($key) . ': ' . $client->getResultMessage());
        return $indexes["$server[host] $server[port]"];
    }, $keys);
}

$question = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$keys = array_map('hex2bin', $question['keys']);
$version = phpversion('memcached') . ' with libmemcached ' . dechex(Memcached::LIBMEMCACHED_VERSION_HEX);
$owners = array_map(fn (array $case): array => owners($case, $keys), $question['cases']);
echo json_encode(['version' => $version, 'owners' => $owners]);
