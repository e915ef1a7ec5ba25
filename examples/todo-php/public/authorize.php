<?php
// "May this user see board 12?" Longtail asks, with the cookie of the browser that wants to subscribe:
//
//   {"action":"subscribe","channels":["board:12"],"client":"…","transport":"ws","ip":"…","origin":"…"}
//
// and takes 200 {"channels":["board:12"],"ttl":60,"user":{…}} as a yes for 60 seconds, and everything else as a no.
//
// Only Longtail has a use for it, but it need not be hidden: it tells the holder of a cookie what that holder may see
// anyway, and changes nothing.
//
// It must be quick, and it must not wait for the user's session. lib/app.php has read that and closed it by the time
// the first line below runs. A page that holds the session while it talks to Longtail would stall both.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

const SECONDS = 60;     // so long may somebody who was taken off a board, or has signed out, go on reading

(new Longtail\Authorizer(function (Longtail\Question $question): ?array {
    $user = user();
    if ($user === null) {
        return null;
    }
    // Nobody publishes from a browser here: changes go through hook.php or change.php, which know the rules and
    // save them.
    if ($question->action !== 'subscribe') {
        return [];
    }
    return array_filter(array_slice($question->channels, 0, 100), function (string $channel) use ($user): bool {
        return preg_match('/^board:([1-9][0-9]{0,8})$/D', $channel, $found)
            && board_for($user['id'], (int) $found[1]) !== null;
    });
}, SECONDS))->identify(function (): ?array {
    // Who is on a board, for the others on it: see --presence.
    $user = user();
    return $user === null ? null : ['id' => $user['id'], 'info' => ['name' => $user['name']]];
})->run();
