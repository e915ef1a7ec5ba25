<?php
// Publishes to the channel "todo" through Redis: php publish.php '{"title":"milk"}'
// Exit code 64: the argument is not JSON; 69: Redis or Predis is missing.
foreach (['vendor/autoload.php', 'php/vendor/autoload.php'] as $file) {
    if (is_file(__DIR__ . '/' . $file)) require_once __DIR__ . '/' . $file;   // Predis by Composer
}
class_exists('Predis\Client') || @include_once 'Predis/autoload.php';         // Predis by apt: php-predis
class_exists('Predis\Client') || fail(69, 'Predis is missing: apt-get install php-predis');

function fail(int $code, string $why): never
{
    fwrite(STDERR, "publish.php: $why\n");
    exit($code);
}

$data = json_decode($argv[1] ?? '{"title":"milk"}');
if (json_last_error()) fail(64, 'that is no JSON, such as \'{"title":"milk"}\': ' . json_last_error_msg());
try {
    $redis = new Predis\Client(getenv('REDIS') ?: 'tcp://127.0.0.1:6379');
    $nodes = $redis->publish('push:todo', json_encode(['event' => 'itemAdded', 'data' => $data]));
} catch (Predis\PredisException | InvalidArgumentException $error) {
    fail(69, 'Redis: ' . rtrim(strtok($error->getMessage(), "\n"), '.') . '; REDIS=tcp://HOST:PORT says where it is');
}
echo "heard by $nodes node(s)\n";
