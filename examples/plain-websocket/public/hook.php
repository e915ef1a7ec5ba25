<?php
// The applications behind ratchet.html and wrench.html: what `onOpen`, `onMessage` and `onClose` do in Ratchet, and what
// `onData` does in Wrench. Longtail keeps the connections, so this script runs once for each event.
declare(strict_types=1);

require __DIR__ . '/../../php/Longtail.php';

use Longtail\Answer;
use Longtail\Event;
use Longtail\Hook;

// Ratchet's chat: each message goes to all the others.
function chat(string $message, Answer $answer): void
{
    $answer->publish('chat', $message, ['exclude' => Answer::SELF]);
}

// A Wrench application: each message has an action.
function demo(string $message, Answer $answer): void
{
    $decoded = json_decode($message, true);
    $action = is_array($decoded) ? $decoded['action'] ?? null : null;
    if ($action === 'say' && is_string($decoded['data']['text'] ?? null)) {
        $data = ['name' => (string) ($decoded['data']['name'] ?? 'somebody'), 'text' => $decoded['data']['text']];
        $answer->publish('demo', ['action' => 'said', 'data' => $data]);
    } elseif ($action === 'time') {
        $answer->send('message', ['action' => 'time', 'data' => date('H:i')]);
    } else {
        $answer->send('message', ['action' => 'error', 'data' => 'There is no such action.']);
    }
}

Hook::fromSecretFile(getenv('HOOK_SECRET') ?: __DIR__ . '/../secret')
    ->onConnect(function (Event $event, Answer $answer): void {
        if ($event->endpoint === '/chat') {
            $answer->publish('chat', 'Somebody has come.', ['exclude' => Answer::SELF]);
        }
    })
    ->onDisconnect(function (Event $event, Answer $answer): void {
        if ($event->endpoint === '/chat') {
            $answer->publish('chat', 'Somebody has gone.');
        }
    })
    ->on('message', function (Event $event, Answer $answer): void {
        $event->endpoint === '/chat' ? chat($event->args[0], $answer) : demo($event->args[0], $answer);
    })
    ->run();
