<?php
// The boards of the user who is signed in.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

// PHP's built-in server sends every path that it does not know here.
if (!in_array(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH), ['/', '/index.php'], true)) {
    refuse(404, 'There is no such page.');
}
$user = require_user();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    require_our_post();
    $name = clean_text($_POST['name'] ?? null, 80) ?? refuse(422, 'A board needs a name of 1 to 80 characters.');
    redirect('board.php?id=' . create_board($user['id'], $name));
}
$boards = boards_of($user['id']);
page_start('Boards');
?>
<h1>Boards</h1>
<ul class="boards">
<?php foreach ($boards as $board): ?>
<li><a href="board.php?id=<?= h($board['id']) ?>"><span><?= h($board['name']) ?></span>
<span class="count"><?= h($board['done']) ?> of <?= h($board['items']) ?> done</span></a></li>
<?php endforeach ?>
</ul>
<?php if ($boards === []): ?>
<p class="hint">No boards yet. Make one, and ask others to join.</p>
<?php endif ?>
<form method="post" action="index.php" class="add">
<?= csrf_field() ?>
<label for="name">New board</label>
<div class="row"><input id="name" name="name" maxlength="80" required autocomplete="off">
<button class="main">Create</button></div>
</form>
<?php
page_end();
