<?php
// The application behind chat.html: what `io.of('/chat').on('connection', …)` does in Node.
$call = json_decode(file_get_contents('php://input'), true);
header('Content-Type: application/json');

function answer(array $fields): never
{
    exit(json_encode((object) $fields));
}

$everybody = ['channel' => '/chat', 'exclude' => 'self'];

if ($call['endpoint'] === '/' && $call['type'] === 'event' && $call['event'] === 'addItem') {
    // The page of the board: all clients in the room `todo` get the item.
    answer(['publish' => [['channel' => 'todo', 'event' => 'addItem', 'data' => $call['args'][0]]]]);
}
if ($call['endpoint'] !== '/chat') {
    answer([]);
}
if ($call['type'] === 'connect') {
    $name = $call['auth']['name'] ?? null;
    if (!is_string($name) || $name === '') {
        answer(['refuse' => ['message' => 'Say your name']]);
    }
    answer(['data' => ['name' => $name, 'lines' => 0], 'publish' => [$everybody + ['event' => 'joined', 'data' => $name]]]);
}
if ($call['type'] === 'event' && $call['event'] === 'say') {
    // What the application has stored in the session comes with each call.
    ['name' => $name, 'lines' => $lines] = $call['data'];
    answer([
        'data' => ['name' => $name, 'lines' => $lines + 1],
        'publish' => [['channel' => '/chat', 'event' => 'said', 'args' => [$name, $call['args'][0]]]],
        'ack' => [$lines + 1],
    ]);
}
answer([]);
