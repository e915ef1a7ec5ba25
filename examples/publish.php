<?php
// Publishes to the channel "todo" through Redis: php publish.php '{"title":"milk"}'
foreach (['vendor/autoload.php', 'php/vendor/autoload.php'] as $file) {
    if (is_file(__DIR__ . '/' . $file)) require_once __DIR__ . '/' . $file;   // Predis by Composer
}
class_exists('Predis\Client') || require_once 'Predis/autoload.php';          // Predis by apt: php-predis
$redis = new Predis\Client(getenv('REDIS') ?: 'tcp://127.0.0.1:6379');
$data = json_decode($argv[1] ?? '{"title":"milk"}', false, 512, JSON_THROW_ON_ERROR);
$nodes = $redis->publish('push:todo', json_encode(['event' => 'itemAdded', 'data' => $data]));
echo "heard by $nodes node(s)\n";
