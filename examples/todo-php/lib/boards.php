<?php
// The business logic: users, boards and items. It knows nothing of Redis and nothing of Longtail.
declare(strict_types=1);

function user_by_name(string $name): ?array
{
    return one('SELECT id, name, password_hash FROM users WHERE name = ?', [$name]);
}

function boards_of(int $user): array
{
    return all(
        'SELECT b.id, b.name, COUNT(i.id) AS items, COALESCE(SUM(i.done), 0) AS done
         FROM boards b JOIN members m ON m.board_id = b.id LEFT JOIN items i ON i.board_id = b.id
         WHERE m.user_id = ? GROUP BY b.id, b.name ORDER BY b.id',
        [$user]
    );
}

/** The board if that user may see it, else null: this one question guards the pages, the changes and the channels. */
function board_for(int $user, int $board): ?array
{
    return one(
        'SELECT b.id, b.name FROM boards b JOIN members m ON m.board_id = b.id WHERE b.id = ? AND m.user_id = ?',
        [$board, $user]
    );
}

function members_of(int $board): array
{
    return array_column(all(
        'SELECT u.name FROM users u JOIN members m ON m.user_id = u.id WHERE m.board_id = ? ORDER BY u.name',
        [$board]
    ), 'name');
}

function create_board(int $user, string $name): int
{
    db()->beginTransaction();
    run('INSERT INTO boards (name) VALUES (?)', [$name]);
    $board = (int) db()->lastInsertId();
    run('INSERT INTO members (board_id, user_id) VALUES (?, ?)', [$board, $user]);
    db()->commit();
    return $board;
}

/** False if there is no user with that name. */
function add_member(int $board, string $name): bool
{
    $user = user_by_name($name);
    if ($user !== null && board_for((int) $user['id'], $board) === null) {
        run('INSERT INTO members (board_id, user_id) VALUES (?, ?)', [$board, $user['id']]);
    }
    return $user !== null;
}

/** All items and the revision that they show, read in one transaction so that the two belong together. */
function snapshot(int $board): array
{
    db()->beginTransaction();
    $revision = one('SELECT revision FROM boards WHERE id = ?', [$board])['revision'];
    $items = all('SELECT id, title, done, version FROM items WHERE board_id = ? ORDER BY id', [$board]);
    db()->commit();
    return ['revision' => (int) $revision, 'items' => array_map('item', $items)];
}

/** An item as browsers see it, in a page, in an answer and in an event. */
function item(array $row): array
{
    return [
        'id' => (int) $row['id'],
        'title' => (string) $row['title'],
        'done' => (bool) $row['done'],
        'version' => (int) $row['version'],
    ];
}

/**
 * One change of a board, in a transaction: `$change` gets the new version and returns what has changed, or null if
 * there is nothing to change. Then no version is used up either, and browsers may take a hole in the versions for
 * something that they have missed.
 *
 * The counter is written first: that locks the board's row until the commit (SQLite: the database), so that versions
 * come in the order of the commits, and so that two requests with the same key come one after the other: the second one
 * gets the answer of the first. It also makes a write the first statement. In SQLite a transaction that begins by
 * reading is refused at once when it wants to write and somebody else has written meanwhile; it cannot wait then.
 */
function change_board(int $board, ?string $key, callable $change): ?array
{
    db()->beginTransaction();
    try {
        run('UPDATE boards SET revision = revision + 1 WHERE id = ?', [$board]);
        $known = $key === null ? null : one('SELECT item FROM answers WHERE name = ?', [$key]);
        if ($known !== null) {
            db()->rollBack();
            return json_decode($known['item'], true);
        }
        $version = (int) one('SELECT revision FROM boards WHERE id = ?', [$board])['revision'];
        $item = $change($version);
        if ($item !== null && $key !== null) {
            run('DELETE FROM answers WHERE at < ?', [time() - 3600]);
            run('INSERT INTO answers (name, item, at) VALUES (?, ?, ?)', [$key, json_encode($item), time()]);
        }
        $item === null ? db()->rollBack() : db()->commit();
        return $item;
    } catch (Throwable $e) {
        if (db()->inTransaction()) {
            db()->rollBack();
        }
        throw $e;
    }
}

function add_item(int $board, string $title, ?string $key = null): ?array
{
    return change_board($board, $key, function (int $version) use ($board, $title) {
        run('INSERT INTO items (board_id, title, version) VALUES (?, ?, ?)', [$board, $title, $version]);
        return item(['id' => db()->lastInsertId(), 'title' => $title, 'done' => 0, 'version' => $version]);
    });
}

/** Sets a state instead of toggling it: then a request that arrives twice does no harm. */
function set_done(int $board, int $id, bool $done, ?string $key = null): ?array
{
    return update_item($board, $id, $key, 'done = ?', (int) $done);
}

function rename_item(int $board, int $id, string $title, ?string $key = null): ?array
{
    return update_item($board, $id, $key, 'title = ?', $title);
}

function update_item(int $board, int $id, ?string $key, string $assignment, int|string $value): ?array
{
    return change_board($board, $key, function (int $version) use ($board, $id, $assignment, $value) {
        // Every condition names the board: with the id alone, a member of one board could change another.
        run("UPDATE items SET $assignment, version = ? WHERE id = ? AND board_id = ?", [$value, $version, $id, $board]);
        $row = one('SELECT id, title, done, version FROM items WHERE id = ? AND board_id = ?', [$id, $board]);
        return $row === null ? null : item($row);
    });
}

function remove_item(int $board, int $id, ?string $key = null): ?array
{
    return change_board($board, $key, function (int $version) use ($board, $id) {
        $row = one('SELECT id, title, done, version FROM items WHERE id = ? AND board_id = ?', [$id, $board]);
        if ($row === null) {
            return null;
        }
        run('DELETE FROM items WHERE id = ? AND board_id = ?', [$id, $board]);
        return item(['version' => $version] + $row);
    });
}

/** A typed title as one line, or null if it is empty, too long or not UTF-8. */
function clean_text(mixed $text, int $most): ?string
{
    if (!is_string($text) || !preg_match('//u', $text)) {
        return null;
    }
    $text = trim(preg_replace('/[\p{Cc}\p{Zl}\p{Zp}]+/u', ' ', $text));
    return preg_match('/^.{1,' . $most . '}$/u', $text) ? $text : null;
}
