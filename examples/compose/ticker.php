<?php
// Moves the ball once a second: any program that reaches Redis can publish.
declare(strict_types=1);

require __DIR__ . '/../php/Longtail.php';

$redis = new Longtail\RedisPublisher(getenv('REDIS') ?: 'redis://127.0.0.1/');
for ($second = 0; ; $second++) {
    $angle = $second * M_PI / 10;
    $place = ['x' => (int) round(50 + 40 * cos($angle)), 'y' => (int) round(50 + 40 * sin($angle))];
    try {
        $redis->publish('ball', $place + ['by' => 'the clock'], ['event' => 'moved']);
    } catch (Longtail\PublishException $failure) {
        // Redis is away: the next second tries again.
        fwrite(STDERR, $failure->getMessage() . "\n");
    }
    sleep(1);
}
