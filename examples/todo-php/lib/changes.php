<?php
// The changes of a board that a page can ask for: by an event over Longtail (hook.php), or by a form (change.php).
declare(strict_types=1);

/** The reason why there is no change, for the user. The code is the status of an answer over HTTP. */
final class Refused extends RuntimeException
{
}

/**
 * Makes a change, tells the other browsers, and returns what the page that has asked gets.
 *
 * A page may ask for the same change twice: Longtail repeats a call that was not answered in time, and the page sends a
 * form if no answer comes. So each change of a script has a `key`, and a change with a known key is not made again.
 *
 * @return array{event: string, data: array, told: bool}
 */
function change(array $user, array $fields, ?string $client): array
{
    $number = fn (string $name): int => is_scalar($fields[$name] ?? null) ? (int) $fields[$name] : 0;
    $board = board_for($user['id'], $number('board')) ?? throw new Refused('There is no such board.', 404);
    $id = (int) $board['id'];
    $item = $number('id');
    $title = fn (): string => clean_text($fields['title'] ?? null, 200)
        ?? throw new Refused('A title has 1 to 200 characters.', 422);
    $key = $fields['key'] ?? null;
    $key = is_string($key) && preg_match('/^[A-Za-z0-9_-]{1,64}$/D', $key) ? $user['id'] . ':' . $key : null;

    // 1. The change, in a transaction. It is committed when one of these functions returns.
    [$event, $data] = match ($fields['action'] ?? '') {
        'add' => ['itemAdded', add_item($id, $title(), $key)],
        'done' => ['itemChanged', set_done($id, $item, ($fields['done'] ?? '') === '1', $key)],
        'rename' => ['itemChanged', rename_item($id, $item, $title(), $key)],
        'remove' => ['itemRemoved', remove_item($id, $item, $key)],
        default => throw new Refused('There is no such action.', 422),
    };
    if ($data === null) {
        throw new Refused('That item is gone: somebody has removed it.', 404);
    }

    // 2. Everybody else is told. A page that hears of a change twice shows it once, because of its version.
    $told = announce($id, $event, $data + ['by' => $user['name']], $client);

    // 3. The page that has asked gets the same event as the others, as an answer.
    return ['event' => $event, 'data' => $data, 'told' => $told];
}
