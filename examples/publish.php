<?php
// Publishes to the channel "todo" through Redis: php publish.php '{"title":"milk"}'
// Exit code 64: the argument is not JSON; 69: Redis does not take the message.
declare(strict_types=1);
require __DIR__ . '/php/Longtail.php';

function fail(int $code, string $why): void
{
    fwrite(STDERR, "publish.php: $why\n");
    exit($code);
}

try {
    $data = json_decode($argv[1] ?? '{"title":"milk"}', false, 512, JSON_THROW_ON_ERROR);
    $redis = new Longtail\RedisPublisher(getenv('REDIS') ?: 'redis://127.0.0.1:6379');
    $nodes = $redis->publish('todo', $data, ['event' => 'itemAdded']);
    echo "heard by $nodes node(s)\n";
} catch (JsonException $e) {
    fail(64, 'the argument has to be JSON, such as \'{"title":"milk"}\': ' . $e->getMessage());
} catch (Longtail\PublishException | InvalidArgumentException $e) {
    fail(69, $e->getMessage() . '; REDIS=redis://HOST:PORT says where it is');
}
