<?php
// Every change of a board comes here: from a form, with or without script.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

$user = require_user();
require_our_post();
$board = board_for($user['id'], (int) ($_POST['board'] ?? 0)) ?? refuse(404, 'There is no such board.');
$id = (int) $board['id'];
$item = (int) ($_POST['id'] ?? 0);
$title = fn (): string => clean_text($_POST['title'] ?? null, 200)
    ?? refuse(422, 'A title has 1 to 200 characters.');

if (($_POST['action'] ?? '') === 'invite') {
    $name = is_string($_POST['name'] ?? null) ? strtolower(trim($_POST['name'])) : '';
    flash(add_member($id, $name) ? "$name is on this board now." : 'There is nobody of that name.');
    redirect('board.php?id=' . $id);
}

// 1. The change, in a transaction. It is committed when one of these functions returns.
[$event, $data] = match ($_POST['action'] ?? '') {
    'add' => ['itemAdded', add_item($id, $title())],
    'done' => ['itemChanged', set_done($id, $item, ($_POST['done'] ?? '') === '1')],
    'rename' => ['itemChanged', rename_item($id, $item, $title())],
    'remove' => ['itemRemoved', remove_item($id, $item)],
    default => refuse(422, 'There is no such action.'),
};
if ($data === null) {
    refuse(404, 'That item is gone: somebody has removed it.');
}

// 2. Everybody else is told.
$told = announce($id, $event, $data + ['by' => $user['name']], client_id());

// 3. Whoever asked is answered: a script by the same event that the others get, a form by the page.
if (wants_json()) {
    answer(['event' => $event, 'data' => $data, 'told' => $told]);
}
if (!$told) {
    flash('Saved. Live updates are away, so others will see it when they reload.');
}
redirect('board.php?id=' . $id);
