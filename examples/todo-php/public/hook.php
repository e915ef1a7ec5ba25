<?php
// A page has asked for a change: `lt.emit('add', { board: 12, title: 'Milk', key: '…' }, function (error, answer) {…})`.
// Longtail passes the event on, with the cookie of the browser, and passes our answer back. So this script has its user
// and its database like any other page, and does not know whether the page uses a WebSocket or a request.
//
// Another site cannot send events with the cookie: Longtail accepts cookies only from the origin that --allow-origin
// names. The signature shows that a call comes from Longtail.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

if (setting('TODO_HOOK_SECRET') === '') {
    refuse(404, 'Longtail passes no events on to this application.');
}

Longtail\Hook::fromSecretFile(setting('TODO_HOOK_SECRET'))
    ->on('*', function (Longtail\Event $event, Longtail\Answer $answer): void {
        $user = user();
        if ($user === null) {
            $answer->refuse('Please sign in again.', ['status' => 401]);
            return;
        }
        $fields = is_array($event->args[0] ?? null) ? $event->args[0] : [];
        try {
            $answer->ack(change($user, ['action' => $event->event] + $fields, $event->client));
        } catch (Refused $why) {
            $answer->refuse($why->getMessage(), ['status' => $why->getCode()]);
        }
    })
    ->run();
