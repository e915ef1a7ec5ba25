<?php
// All that this application knows about real time: two functions, one for each direction.
declare(strict_types=1);

/** The channel of a board: what Socket.IO calls a room. */
function channel(int $board): string
{
    return 'board:' . $board;
}

/**
 * Tells the other browsers. Call it after the commit, never inside the transaction: a browser that hears of a change
 * may ask for the board at once, and must not be shown the old one; and what is rolled back must not be announced.
 *
 * `$client` is the id of the page that made the change. It draws the change from our answer, so it is left out.
 *
 * False if nobody can have heard it. The change is saved by then, so Redis being away is no reason to fail: a client
 * that waits for half a second at most, and whatever goes wrong goes to the error log.
 */
function announce(int $board, string $event, array $data, ?string $client): bool
{
    $message = ['event' => $event, 'data' => $data];
    if ($client !== null) {
        $message['exclude'] = $client;
    }
    try {
        $patience = ['timeout' => 0.5, 'read_write_timeout' => 0.5];
        $redis = new Predis\Client(setting('TODO_REDIS'), ['parameters' => $patience]);
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE;
        return $redis->publish('push:' . channel($board), json_encode($message, $flags)) > 0;
    } catch (Throwable $e) {
        error_log('not announced: ' . $e->getMessage());
        return false;
    }
}

/**
 * Where the log stands now, or null. A page asks before it reads the database: then every change is either in what it
 * reads or behind this cursor, or both, which does no harm. The other way round, a change between the two is lost.
 *
 * Longtail will ask our authorize.php whether the cookie's user may see the channel, while this request still runs.
 * So the session must be closed by now, or that question waits for our lock and we wait for its answer; and PHP needs
 * a second worker to answer with. A page must not hang on any of this: 300 ms, and it does without.
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

/** The id of the page that sent this request, as its script says in a header; null for a form without script. */
function client_id(): ?string
{
    $id = $_SERVER['HTTP_X_LONGTAIL_CLIENT'] ?? '';
    return preg_match('/^[A-Za-z0-9_-]{1,64}$/D', $id) ? $id : null;
}
