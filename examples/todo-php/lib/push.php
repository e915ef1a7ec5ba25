<?php
// Everything that this application needs for real time: two functions, one for each direction.
declare(strict_types=1);

/** The channel of a board: what Socket.IO calls a room. */
function channel(int $board): string
{
    return 'board:' . $board;
}

/**
 * Tells the other browsers. Call it after the commit, never inside the transaction: a browser that learns of a
 * change may read the board at once, and must not get the old one; and a change that is rolled back must not be
 * announced.
 *
 * `$client` is the id of the page that made the change. It draws the change from our answer, so it does not get the
 * message.
 *
 * Returns false if no subscriber can have got it. The change is saved by then, so a missing Redis is not a reason to
 * fail: the client waits for half a second at most, and errors go to the error log.
 */
function announce(int $board, string $event, array $data, ?string $client): bool
{
    try {
        $redis = new Longtail\RedisPublisher(setting('TODO_REDIS'), ['timeout' => 0.5]);
        return $redis->publish(channel($board), $data, ['event' => $event, 'exclude' => $client]) > 0;
    } catch (Throwable $e) {
        error_log('not announced: ' . $e->getMessage());
        return false;
    }
}

/**
 * Where the log stands now, or null. A page asks before it reads the database: then every change is in what it
 * reads, or after this cursor, or both, which does no harm. In the other order, a change between the two would be lost.
 *
 * Longtail will ask our authorize.php whether the cookie's user may see the channel, while this request still runs.
 * So the session must be closed by now, or that request waits for our lock while we wait for its answer. PHP also needs
 * a second worker to answer it. A page must not hang on this: after 300 ms it goes on without a cursor.
 */
function cursor_now(int $board): ?string
{
    if (session_status() === PHP_SESSION_ACTIVE) {
        throw new LogicException('close the session before asking Longtail');
    }
    $answer = @file_get_contents(
        setting('TODO_PUSH') . '/poll?channel=' . rawurlencode(channel($board)),
        false,
        stream_context_create(['http' => [
            'timeout' => 0.3,
            'follow_location' => 0,
            'header' => 'Cookie: ' . session_name() . '=' . rawurlencode((string) ($_COOKIE[session_name()] ?? '')),
        ]])
    );
    $batch = $answer === false ? null : json_decode($answer, true);
    return is_array($batch) && is_string($batch['cursor'] ?? null) ? $batch['cursor'] : null;
}

/** The id of the page that sent this request, from a header that its script sets; null for a form without script. */
function client_id(): ?string
{
    $id = $_SERVER['HTTP_X_LONGTAIL_CLIENT'] ?? '';
    return preg_match('/^[A-Za-z0-9_-]{1,64}$/D', $id) ? $id : null;
}
