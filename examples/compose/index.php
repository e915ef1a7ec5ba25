<?php
// A page with a ball. A click publishes the ball's new place, and every page that is open moves its ball.
declare(strict_types=1);

require __DIR__ . '/../php/Longtail.php';

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $percent = fn (string $name): int => max(0, min(100, (int) ($_POST[$name] ?? 0)));
    try {
        $redis = new Longtail\RedisPublisher(getenv('REDIS') ?: 'redis://127.0.0.1/');
        $redis->publish('ball', ['x' => $percent('x'), 'y' => $percent('y'), 'by' => 'a click'], ['event' => 'moved']);
        http_response_code(204);
    } catch (Longtail\PublishException $failure) {
        error_log((string) $failure);
        http_response_code(503);
    }
    exit;
}
$longtail = getenv('LONGTAIL') ?: 'http://127.0.0.1:8080';
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The ball</title>
<style>
  body { margin: 0; font: 18px/1.5 system-ui, sans-serif; color: #14213d; background: #fff; }
  p { margin: 0; padding: 1rem; }
  #field { position: relative; height: 70vh; margin: 0 1rem; background: #e8eef7; border: 0; width: calc(100% - 2rem); cursor: pointer; }
  #ball { position: absolute; width: 3rem; height: 3rem; margin: -1.5rem; border-radius: 50%; background: #b3261e; transition: left .4s, top .4s; }
  @media (prefers-reduced-motion: reduce) { #ball { transition: none; } }
</style>
<p>PHP moves the ball once a second. Click to move it in every window. <span id="said" role="status">Waiting for the first message.</span></p>
<button id="field" type="button" aria-label="Move the ball"><span id="ball" style="left: 50%; top: 50%"></span></button>
<script src="<?= htmlspecialchars($longtail) ?>/client.js"></script>
<script>
  var field = document.getElementById('field'), ball = document.getElementById('ball'), said = document.getElementById('said');
  var lt = Longtail.connect(<?= json_encode($longtail, JSON_HEX_TAG | JSON_HEX_AMP) ?>, { channels: ['ball'], last: 1 });
  lt.on('moved', function (to) {
    ball.style.left = to.x + '%';
    ball.style.top = to.y + '%';
    said.textContent = 'Moved by ' + to.by + '.';
  });
  field.onclick = function (event) {
    var box = field.getBoundingClientRect(), isByKey = event.clientX === 0 && event.clientY === 0;
    var x = isByKey ? Math.random() * 100 : (event.clientX - box.left) / box.width * 100;
    var y = isByKey ? Math.random() * 100 : (event.clientY - box.top) / box.height * 100;
    fetch('', { method: 'POST', body: new URLSearchParams({ x: Math.round(x), y: Math.round(y) }) });
  };
</script>
</html>
