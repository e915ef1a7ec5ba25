<?php
// "May this user see board 12?" Longtail asks, with the cookie of the browser that wants to subscribe:
//
//   {"action":"subscribe","channels":["board:12"],"client":"…","transport":"ws","ip":"…","origin":"…"}
//
// and takes 200 {"channels":["board:12"],"ttl":60} as a yes for 60 seconds, and everything else as a no.
//
// Only Longtail has a use for it, but it need not be hidden: it tells the holder of a cookie what that holder may see
// anyway, and changes nothing.
//
// It must be quick, and it must not wait for the user's session. lib/app.php has read that and closed it by the time
// the first line below runs. A page that holds the session while it talks to Longtail would stall both.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

const SECONDS = 60;     // so long may somebody who was taken off a board, or has signed out, go on reading

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    answer(['error' => 'POST a question.'], 405);
}
$user = user() ?? answer(['error' => 'Nobody is signed in.', 'channels' => []], 401);
$question = json_decode((string) file_get_contents('php://input', false, null, 0, 65536), true);
if (!is_array($question) || !is_array($question['channels'] ?? null)) {
    answer(['error' => 'That is no question.', 'channels' => []], 400);
}

$allowed = [];
// Nobody publishes from a browser here: changes go through change.php, which knows the rules and saves them.
if (($question['action'] ?? '') === 'subscribe') {
    foreach (array_slice($question['channels'], 0, 100) as $channel) {
        if (is_string($channel) && preg_match('/^board:([1-9][0-9]{0,8})$/D', $channel, $found)
            && board_for($user['id'], (int) $found[1]) !== null) {
            $allowed[] = $channel;
        }
    }
}
answer(['channels' => $allowed, 'ttl' => SECONDS]);
