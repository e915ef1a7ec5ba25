<?php
// Every page begins with this: settings, session, headers, errors, and the frame of the HTML.
declare(strict_types=1);

require __DIR__ . '/config.php';
require __DIR__ . '/db.php';
require __DIR__ . '/boards.php';
require __DIR__ . '/push.php';
require __DIR__ . '/changes.php';
require dirname(__DIR__, 2) . '/php/Longtail.php';

ini_set('display_errors', '0');
set_exception_handler(function (Throwable $e): void {
    error_log((string) $e);
    refuse(500, 'Something went wrong on our side.');
});

// ---- headers of every answer ----

$push = setting('TODO_PUSH');
header_remove('X-Powered-By');
header('X-Content-Type-Options: nosniff');
header('Referrer-Policy: same-origin');
header('Cross-Origin-Opener-Policy: same-origin');
// Nothing inline: a title that slipped through unescaped could still not run. Longtail is named for its library and
// for what that opens; its WebSocket has a scheme of its own.
header("Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self' $push; "
    . "connect-src 'self' $push " . preg_replace('/^http/', 'ws', $push) . "; "
    . "form-action 'self'; base-uri 'none'; frame-ancestors 'none'");

// A cookie belongs to a host name: the cookie of a user who signed in on localhost would not reach a Longtail on
// 127.0.0.1.
if (($_SERVER['HTTP_HOST'] ?? '') !== preg_replace('~^https?://~', '', setting('TODO_URL'))) {
    if ($_SERVER['REQUEST_METHOD'] !== 'GET') {
        refuse(400, 'This application lives at ' . setting('TODO_URL') . '.');
    }
    redirect(setting('TODO_URL') . $_SERVER['REQUEST_URI']);
}

// ---- the session ----
//
// PHP locks a session from session_start() until it is closed or the script ends: requests of one user wait in line.
// Longtail asks authorize.php with the user's cookie, often while another request of that user runs, and takes no
// answer within 2 s as a refusal. So nobody here holds a session open: it is read and closed at the start, and
// opened again for the moment of a write.

session_name('todo_session');
session_save_path(setting('TODO_VAR') . '/sessions');
ini_set('session.use_strict_mode', '1');
ini_set('session.cookie_httponly', '1');
ini_set('session.cookie_samesite', 'Lax');
ini_set('session.cookie_secure', str_starts_with(setting('TODO_URL'), 'https:') ? '1' : '0');
ini_set('session.gc_probability', '1');                     // Debian leaves the clearing to a cron job of its own paths
if (isset($_COOKIE[session_name()])) {
    session_start(['read_and_close' => true]);
}

/** Opens the session, lets `$change` write to it and closes it. */
function write_session(callable $change): void
{
    session_start();
    $change();
    session_write_close();
}

/** @return array{id: int, name: string}|null */
function user(): ?array
{
    return $_SESSION['user'] ?? null;
}

function require_user(): array
{
    return user() ?? (wants_json() ? refuse(401, 'Please sign in again.') : redirect('sign-in.php'));
}

function csrf(): string
{
    if (empty($_SESSION['csrf'])) {
        write_session(function (): void {
            $_SESSION['csrf'] = bin2hex(random_bytes(24));
        });
    }
    return $_SESSION['csrf'];
}

/** A change has to be a POST from a page of ours: other sites can send the cookie along, but do not know the token. */
function require_our_post(): void
{
    if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
        header('Allow: POST');
        refuse(405, 'This address takes forms only.');
    }
    if (!is_string($_POST['csrf'] ?? null) || !hash_equals(csrf(), $_POST['csrf'])) {
        refuse(403, 'This form is too old. Please reload the page and try again.');
    }
}

/** Keeps a line of text over a redirect, for the next page. */
function flash(string $text): void
{
    write_session(function () use ($text): void {
        $_SESSION['flash'] = $text;
    });
}

function take_flash(): string
{
    $text = $_SESSION['flash'] ?? '';
    if ($text !== '') {
        write_session(function (): void {
            unset($_SESSION['flash']);
        });
    }
    return $text;
}

// ---- answers ----

function wants_json(): bool
{
    return str_contains($_SERVER['HTTP_ACCEPT'] ?? '', 'application/json');
}

function answer(array $body, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
    exit;
}

/** 303: the browser asks for the page by GET, and its reload button repeats nothing. */
function redirect(string $to): never
{
    header('Location: ' . $to, true, 303);
    exit;
}

function refuse(int $status, string $why): never
{
    if (wants_json()) {
        answer(['error' => $why], $status);
    }
    http_response_code($status);
    page_start('That did not work');
    echo '<h1>That did not work</h1><p>' . h($why) . '</p><p><a href="index.php">To your boards</a></p>';
    page_end();
    exit;
}

// ---- HTML ----

function h(string|int $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function csrf_field(): string
{
    return '<input type="hidden" name="csrf" value="' . h(csrf()) . '">';
}

function page_start(string $title, string $scripts = ''): void
{
    $user = user();
    header('Content-Type: text/html; charset=utf-8');
    header('Cache-Control: no-store');
    ?>
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title><?= h($title) ?> · ToDo</title>
<link rel="stylesheet" href="assets/todo.css">
<link rel="icon" href="assets/icon.svg" type="image/svg+xml">
<?= $scripts ?>
</head>
<body>
<header class="top">
<a class="brand" href="index.php">ToDo</a>
<?php if ($user !== null): ?>
<form method="post" action="sign-out.php" class="who">
<?= csrf_field() ?>
<span>Signed in as <b><?= h($user['name']) ?></b></span>
<button class="quiet">Sign out</button>
</form>
<?php endif ?>
</header>
<main>
    <?php
}

function page_end(): void
{
    echo "</main>\n</body>\n</html>\n";
}
