<?php
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

$problem = '';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    require_our_post();
    $name = is_string($_POST['name'] ?? null) ? strtolower(trim($_POST['name'])) : '';
    $password = is_string($_POST['password'] ?? null) ? $_POST['password'] : '';
    $user = user_by_name($name);
    if ($user === null) {
        password_hash($password, PASSWORD_DEFAULT);     // takes as long, so the time does not tell which names exist
    } elseif (password_verify($password, $user['password_hash'])) {
        write_session(function () use ($user): void {
            session_regenerate_id(true);        // an id that somebody planted before is worth nothing afterwards
            $_SESSION = [
                'user' => ['id' => (int) $user['id'], 'name' => $user['name']],
                'csrf' => bin2hex(random_bytes(24)),
            ];
        });
        redirect('index.php');
    }
    $problem = 'That name and password do not go together.';
    http_response_code(422);
}
csrf();                                         // before any output: it may have to set the cookie
page_start('Sign in');
?>
<h1>Sign in</h1>
<?php if ($problem !== ''): ?>
<p class="notice bad" role="alert"><?= h($problem) ?></p>
<?php endif ?>
<form method="post" action="sign-in.php" class="card stack">
<?= csrf_field() ?>
<label>Name <input name="name" autocomplete="username" autocapitalize="none" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button class="main">Sign in</button>
</form>
<p class="hint">This is a demonstration: ada, ben and cleo sign in with the password “demo”.</p>
<?php
page_end();
