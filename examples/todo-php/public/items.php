<?php
// The items of a board as JSON, for a page that has missed a change.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

$user = require_user();
$board = board_for($user['id'], (int) ($_GET['board'] ?? 0)) ?? refuse(404, 'There is no such board.');
answer(snapshot((int) $board['id']));
