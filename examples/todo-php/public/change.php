<?php
// A change of a board by a form: without script, and with script if events do not reach hook.php.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

$user = require_user();
require_our_post();
$id = (int) ($_POST['board'] ?? 0);

if (($_POST['action'] ?? '') === 'invite') {
    board_for($user['id'], $id) ?? refuse(404, 'There is no such board.');
    $name = is_string($_POST['name'] ?? null) ? strtolower(trim($_POST['name'])) : '';
    flash(add_member($id, $name) ? "$name is on this board now." : 'There is nobody of that name.');
    redirect('board.php?id=' . $id);
}
try {
    $answer = change($user, $_POST, client_id());
} catch (Refused $why) {
    refuse($why->getCode(), $why->getMessage());
}
if (wants_json()) {
    answer($answer);
}
if (!$answer['told']) {
    flash('Saved. Live updates are away, so others will see it when they reload.');
}
redirect('board.php?id=' . $id);
