<?php
// One board. The page is complete without script; with it, a front end keeps the list up to date.
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

$user = require_user();
$board = board_for($user['id'], (int) ($_GET['id'] ?? 0)) ?? refuse(404, 'There is no such board.');
$id = (int) $board['id'];

const FRONTS = [
    'plain' => ['Plain script', []],
    'backbone' => ['Backbone', ['jquery.min.js', 'underscore-umd-min.js', 'backbone-min.js']],
    'angular' => ['AngularJS', ['angular.min.js']],
    'ember' => ['Ember', ['jquery.min.js', 'ember.prod.js', 'ember-template-compiler.js']],
];
$front = is_string($_GET['front'] ?? null) && isset(FRONTS[$_GET['front']]) ? $_GET['front'] : 'plain';
$notice = take_flash();
foreach (FRONTS[$front][1] as $file) {
    if (!is_file(__DIR__ . '/vendor/' . $file)) {
        $notice = FRONTS[$front][0] . ' is not installed, so this is the plain script.';
        $front = 'plain';
        break;
    }
}
// ?transport=sse makes the page use that transport, for a demonstration.
$transport = is_string($_GET['transport'] ?? null) && preg_match('/^[a-z-]{1,20}$/D', $_GET['transport'])
    ? $_GET['transport'] : null;

csrf();                                         // may write the session, and must have done so before the next line
$cursor = cursor_now($id);                      // first the cursor,
$snapshot = snapshot($id);                      // then the database: see cursor_now

$files = array_map(fn (string $file): string => 'vendor/' . $file, FRONTS[$front][1]);
$files = [...$files, setting('TODO_PUSH') . '/client.js', 'assets/todo.js', "assets/front-$front.js"];
$scripts = '';
foreach ($files as $file) {
    $scripts .= '<script defer src="' . h($file) . "\"></script>\n";
}
$settings = [
    'board' => $id,
    'channel' => channel($id),
    'push' => setting('TODO_PUSH'),
    'cursor' => $cursor,
    'transport' => $transport,
    'csrf' => csrf(),
    'user' => (string) $user['id'],
    'hook' => setting('TODO_HOOK_SECRET') !== '',
] + $snapshot;

/** One item, also the empty one that scripts copy. */
function row(int $board, array $item): void
{
    $hidden = csrf_field() . '<input type="hidden" name="board" value="' . h($board) . '">'
        . '<input type="hidden" name="id" value="' . h($item['id']) . '">';
    ?>
<li class="item" data-id="<?= h($item['id']) ?>" data-done="<?= $item['done'] ? 1 : 0 ?>">
<form method="post" action="change.php" data-action="done"><?= $hidden ?>
<input type="hidden" name="action" value="done">
<button class="tick" name="done" value="<?= $item['done'] ? 0 : 1 ?>"
aria-pressed="<?= $item['done'] ? 'true' : 'false' ?>" aria-label="Done: <?= h($item['title']) ?>"></button>
</form>
<span class="title"><?= h($item['title']) ?></span>
<details>
<summary aria-label="Edit: <?= h($item['title']) ?>">Edit</summary>
<div class="edit">
<form method="post" action="change.php" data-action="rename"><?= $hidden ?>
<input type="hidden" name="action" value="rename">
<input name="title" value="<?= h($item['title']) ?>" maxlength="200" required autocomplete="off" aria-label="Title">
<button>Save</button>
</form>
<form method="post" action="change.php" data-action="remove"><?= $hidden ?>
<input type="hidden" name="action" value="remove">
<button class="danger">Remove</button>
</form>
</div>
</details>
</li>
    <?php
}

page_start($board['name'], $scripts);
$done = count(array_filter($snapshot['items'], fn (array $item): bool => $item['done']));
?>
<p class="back"><a href="index.php">All boards</a></p>
<div class="head">
<h1><?= h($board['name']) ?></h1>
<p class="count" id="count"><?= $done ?> of <?= count($snapshot['items']) ?> done</p>
</div>
<div class="here" id="here"<?= $settings['hook'] ? '' : ' hidden' ?>>
<span id="here-label">On this board now</span><ul aria-labelledby="here-label"></ul>
</div>

<form method="post" action="change.php" class="add" data-action="add">
<?= csrf_field() ?>
<input type="hidden" name="board" value="<?= $id ?>">
<input type="hidden" name="action" value="add">
<label for="new">New item</label>
<div class="row"><input id="new" name="title" maxlength="200" required autocomplete="off">
<button class="main">Add</button></div>
</form>

<p class="notice" id="notice" role="status"<?= $notice === '' ? ' hidden' : '' ?>><?= h($notice) ?></p>

<?php // AngularJS looks for ng-csp while it loads, and then does without inline styles and eval. ?>
<div id="board" data-settings="<?= h(json_encode($settings, JSON_THROW_ON_ERROR)) ?>"
<?= $front === 'angular' ? 'data-ng-csp' : '' ?>>
<ul class="items">
<?php foreach ($snapshot['items'] as $item) {
    row($id, $item);
} ?>
</ul>
</div>
<p class="hint" id="empty"<?= $snapshot['items'] === [] ? '' : ' hidden' ?>>Nothing to do.</p>
<template id="row"><?php row($id, ['id' => 0, 'title' => '', 'done' => false]) ?></template>

<div class="live">
<p id="state" data-state="off">Live updates are off</p>
<p id="news" role="status" aria-live="polite"></p>
</div>

<section class="members">
<h2>Members</h2>
<p><?= h(implode(', ', members_of($id))) ?></p>
<form method="post" action="change.php">
<?= csrf_field() ?>
<input type="hidden" name="board" value="<?= $id ?>">
<input type="hidden" name="action" value="invite">
<label for="member">Add a member by name</label>
<div class="row"><input id="member" name="name" maxlength="40" required autocomplete="off" autocapitalize="none">
<button>Add</button></div>
</form>
</section>

<nav class="fronts" aria-label="Front end">
<span class="count">Front end:</span>
<?php foreach (FRONTS as $key => [$name]): ?>
<a href="board.php?id=<?= $id ?>&amp;front=<?= $key ?>"
<?= $key === $front ? 'aria-current="page"' : '' ?>><?= h($name) ?></a>
<?php endforeach ?>
</nav>
<?php
page_end();
